"""Conflists: the file with a network's plugins, and each plugin's configuration.

SPEC.md "Section 1: Network configuration format" and "Section 4: Deriving execution
configuration".  An error names the place, as in ``plugins[1]``.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from attrs import frozen

from eniplug.cni.errors import CniError
from eniplug.cni.protocol import NETWORK_NAME, json_object
from eniplug.cni.versions import known


@frozen(kw_only=True, hash=False)
class Conflist:
    """A network: its plugins as they stand in the file, and the file's own bytes."""

    cni_version: str
    name: str
    plugins: tuple[Mapping[str, Any], ...]
    text: bytes
    disable_check: bool = False
    disable_gc: bool = False


def parse_conflist(data: bytes, source: str) -> Conflist:
    """Read a conflist; ``source`` names it in errors. Raises CniError (1, 6, 7)."""
    raw = json_object(data, source)
    version = known(raw.get("cniVersion"))
    name = raw.get("name")
    if not isinstance(name, str) or not NETWORK_NAME.fullmatch(name):
        raise _wrong(source, "name", f"{name!r} is no network name")
    plugins = raw.get("plugins")
    if not isinstance(plugins, list) or not plugins:
        raise _wrong(source, "plugins", "wants a list with at least one plugin")
    for i, entry in enumerate(plugins):
        if not isinstance(entry, dict):
            raise _wrong(source, f"plugins[{i}]", "is not an object")
        kind = entry.get("type")
        if not isinstance(kind, str) or not kind or "/" in kind:
            raise _wrong(source, f"plugins[{i}].type", f"{kind!r} is no executable")
        capabilities = entry.get("capabilities", {})
        if not isinstance(capabilities, dict):
            raise _wrong(source, f"plugins[{i}].capabilities", "is not an object")
    return Conflist(
        cni_version=version,
        name=name,
        plugins=tuple(plugins),
        text=data,
        disable_check=raw.get("disableCheck") is True,
        disable_gc=raw.get("disableGC") is True,
    )


def load_conflist(path: Path, *, trusted: bool = True) -> Conflist:
    """Read a conflist's file.

    ``trusted`` wants the file and its directory to be root's, and nobody else able to
    write there: what stands in it is run as root. Raises CniError (5, 7 and as above).
    """
    try:
        if trusted:
            for checked in (path.parent, path):
                _refuse_strangers(checked)
        data = path.read_bytes()
    except OSError as error:
        msg = f"{path} cannot be read: {error.strerror}"
        raise CniError(5, msg, "read-failed: name a conflist that exists") from error
    return parse_conflist(data, str(path))


def _refuse_strangers(path: Path) -> None:
    found = path.stat()
    sticky = bool(found.st_mode & stat.S_ISVTX)
    if found.st_uid != 0 or (
        found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky
    ):
        msg = f"{path} may be written by others than root"
        raise CniError(7, msg, f"bad-config: chown root {path} && chmod go-w {path}")


def entry_config(
    conflist: Conflist,
    index: int,
    *,
    prev_result: Mapping[str, Any] | None = None,
    runtime_config: Mapping[str, Any] | None = None,
    attachments: Sequence[tuple[str, str]] | None = None,
) -> bytes:
    """Write what the plugin at ``index`` gets on standard input.

    ``runtime_config`` are all values that the runtime has by capability; the entry gets
    those that its ``capabilities`` ask for. ``attachments`` are GC's.
    """
    entry = dict(conflist.plugins[index])
    asked = {name for name, wanted in entry.pop("capabilities", {}).items() if wanted}
    entry |= {"name": conflist.name, "cniVersion": conflist.cni_version}
    given = {k: v for k, v in (runtime_config or {}).items() if k in asked}
    if given:
        entry["runtimeConfig"] = given
    if prev_result is not None:
        entry["prevResult"] = prev_result
    if attachments is not None:
        entry["cni.dev/valid-attachments"] = [
            {"containerID": container_id, "ifname": ifname}
            for container_id, ifname in attachments
        ]
    return json.dumps(entry).encode()


def _wrong(source: str, place: str, what: str) -> CniError:
    return CniError(7, f"{source}: {place}: {what}", "bad-config: correct the conflist")
