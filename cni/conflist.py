"""Conflists: a network's entries, in the order in which a runtime runs them.

SPEC.md, "Network configuration format" and "Deriving execution configuration".
"""

from __future__ import annotations

import json
import os
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from eniplug.cni.errors import INVALID_CONFIG, IO_FAILURE, CniError
from eniplug.cni.protocol import ATTACHMENT_KEYS, parse_network
from eniplug.cni.shapes import decode, mapping, sequence, text, wrong
from eniplug.cni.versions import VERSIONS, check_version

LIMIT: Final = 1 << 20
"""Bytes of the longest conflist that is read."""

_SWITCHES: Final[Mapping[Any, bool]] = {"true": True, "false": False}


@frozen(kw_only=True, hash=False)
class Conflist:
    """A conflist whose shape is right; ``text`` is the file as it came.

    ``plugins`` are the entries, each with a ``type`` that is a plain file name.
    """

    cni_version: str
    name: str
    disable_check: bool
    disable_gc: bool
    plugins: tuple[Mapping[str, Any], ...]
    text: bytes


def parse_conflist(data: bytes, source: str) -> Conflist:
    """Read a conflist; ``source`` names it in errors.

    Raises CniError (1, 6 or 7) whose message has the source and the place, as in
    ``10-vpc.conflist: plugins[0].plugins[2]``.
    """
    try:
        conf = decode(data, "the conflist")
        return Conflist(
            cni_version=_version(conf),
            name=parse_network(conf),
            disable_check=_switch(conf, "disableCheck"),
            disable_gc=_switch(conf, "disableGC"),
            plugins=_entries(conf),
            text=data,
        )
    except CniError as error:
        msg = f"{source}: {error.message}"
        raise CniError(error.code, msg, error.details) from error


def load_conflist(path: Path, *, trusted: bool = True) -> Conflist:
    """Read a conflist from a file.

    ``trusted`` demands that nobody but root can have written it: the file and its
    directory are root's, and not writable by others.  Raises CniError: 5 when it
    cannot be read, 7 when it is not trusted, and those of `parse_conflist`.
    """
    try:
        with path.open("rb") as file:
            if trusted:
                _trust(os.fstat(file.fileno()), path)
                for folder in {path.parent, path.resolve().parent}:
                    _trust(folder.stat(), folder)
            data = file.read(LIMIT + 1)
    except OSError as error:
        msg = f"{path}: cannot be read: {error.strerror}"
        raise CniError(IO_FAILURE, msg) from error
    if len(data) > LIMIT:
        raise CniError(INVALID_CONFIG, f"{path}: longer than {LIMIT} bytes")
    return parse_conflist(data, str(path))


def entry_config(
    conflist: Conflist,
    index: int,
    *,
    prev_result: Mapping[str, Any] | None = None,
    runtime_config: Mapping[str, Any] | None = None,
    attachments: Sequence[tuple[str, str]] | None = None,
) -> bytes:
    """Return what entry ``index`` gets on standard input.

    ``prev_result`` is in the conflist's version.  Of ``runtime_config`` an entry gets
    what its ``capabilities`` say yes to; they themselves are for the runtime.
    ``attachments`` are those that GC shall keep: pairs of container id and interface.
    """
    entry = dict(conflist.plugins[index])
    able = entry.pop("capabilities", None) or {}
    config = {**entry, "cniVersion": conflist.cni_version, "name": conflist.name}
    given = {k: v for k, v in (runtime_config or {}).items() if able.get(k) is True}
    if given:
        config["runtimeConfig"] = given
    if prev_result is not None:
        config["prevResult"] = prev_result
    if attachments is not None:
        valid = [{"containerID": c, "ifname": i} for c, i in attachments]
        config.update(dict.fromkeys(ATTACHMENT_KEYS, valid))
    return json.dumps(config).encode()


def _trust(found: os.stat_result, path: Path) -> None:
    if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
        msg = f"{path}: others than root may write to it"
        remedy = f"chown root {path} && chmod go-w {path}"
        raise CniError(INVALID_CONFIG, msg, remedy)


def _version(conf: Mapping[str, Any]) -> str:
    """Return the newest of the file's versions that we speak.

    SPEC.md, "Version considerations": beside ``cniVersion`` there may be a list.
    """
    listed = sequence(conf.get("cniVersions") or (), "cniVersions")
    known = [v for v in VERSIONS if v in listed or v == conf.get("cniVersion")]
    return known[-1] if known else check_version(conf.get("cniVersion"))


def _switch(conf: Mapping[str, Any], key: str) -> bool:
    """Read a boolean; older files have it as a string, which libcni reads too."""
    value = conf.get(key, False)
    if isinstance(value, str):
        value = _SWITCHES.get(value.lower(), value)
    if not isinstance(value, bool):
        raise wrong(value, key, "true or false")
    return value


def _entries(conf: Mapping[str, Any]) -> tuple[Mapping[str, Any], ...]:
    if not conf.get("plugins"):
        msg = "plugins: wants a list of at least one entry"
        remedy = "a conflist has 'plugins'; a file with one 'type' is of an older form"
        raise CniError(INVALID_CONFIG, msg, remedy)
    listed = sequence(conf["plugins"], "plugins")
    return tuple(_entry(value, f"plugins[{i}]") for i, value in enumerate(listed))


def _entry(value: Any, place: str) -> Mapping[str, Any]:
    entry = mapping(value, place)
    if "type" not in entry:
        raise CniError(INVALID_CONFIG, f"{place}: has no 'type'")
    kind = text(entry["type"], f"{place}.type")
    if not kind or kind in {".", ".."} or not kind.isprintable() or "/" in kind:
        msg = f"{place}.type: wants the name of an executable, not {kind!r}"
        raise CniError(INVALID_CONFIG, msg)
    if entry.get("capabilities") is not None:
        mapping(entry["capabilities"], f"{place}.capabilities")
    if kind == "eniplug":
        _check_chain(entry, f"{place}.plugins")
    return entry


def _check_chain(entry: Mapping[str, Any], place: str) -> None:
    """Look at an eniplug entry's own list: names, or objects with a name."""
    if not entry.get("plugins"):
        msg = f"{place}: wants a list of plugin names, for example ['secondary-ip']"
        raise CniError(INVALID_CONFIG, msg)
    for i, item in enumerate(sequence(entry["plugins"], place)):
        name = item.get("name") if isinstance(item, Mapping) else item
        if not isinstance(name, str) or not name:
            raise wrong(item, f"{place}[{i}]", "a plugin's name or an object with one")
