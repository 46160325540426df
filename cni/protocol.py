"""One CNI request: its environment, its configuration, and the answer's form.

Everything here is checked before anything is done (SPEC.md, "Execution Protocol").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from reprlib import repr as short
from typing import Any, Final

from attrs import field, frozen

from eniplug.cni.errors import INVALID_CONFIG, INVALID_VARIABLE, CniError
from eniplug.cni.shapes import decode, mapping, sequence, text
from eniplug.cni.versions import (
    DEFAULT,
    VERSIONS,
    check_version,
    from_version,
    to_version,
    version_answer,
)

__all__ = [
    "VERSIONS",
    "Call",
    "NetConf",
    "error_json",
    "from_version",
    "parse_call",
    "parse_config",
    "to_version",
    "version_answer",
]

NAME: Final = re.compile(r"[a-zA-Z0-9][a-zA-Z0-9_.-]*")
"""What a network's name and a container's id look like."""

IFNAME_BYTES: Final = 15
"""Longest name of a link (IFNAMSIZ less the closing zero)."""

MTUS: Final = range(68, 65536)
"""From the least that IPv4 works with to the most that a veth takes."""

_HALF: Final = re.compile(r"[\ud800-\udfff]")
"""What stands in a string for a byte that is not UTF-8."""

_NO_LINK: Final = re.compile(r"[\s/:]")
"""What no link's name has in it."""

_VETH_PREFIX: Final = re.compile(r"[^\s/:%\x00-\x1f\x7f-\U0010ffff]{1,4}")
_RESERVED_PREFIXES: Final = ("eth", "lo", "vlan")

NEEDS: Final[Mapping[str, tuple[str, ...]]] = {
    "ADD": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "CHECK": ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"),
    "DEL": ("CNI_CONTAINERID", "CNI_IFNAME"),
    "GC": (),
    "STATUS": (),
    "VERSION": (),
}
"""The commands, and the variables without which each cannot be carried out."""

READ: Final = ("CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME", "CNI_ARGS", "CNI_PATH")
"""The variables that are read beside the command."""

ATTACHMENT_KEYS: Final = ("cni.dev/valid-attachments", "cni.dev/attachments")
"""Where GC's list stands: as released, and as the specification's text once had it."""

_KNOWN: Final = frozenset(
    {
        "cniVersion",
        "name",
        "type",
        "plugins",
        "mtu",
        "vethPrefix",
        "runtimeConfig",
        "prevResult",
        *ATTACHMENT_KEYS,
    }
)


@frozen(kw_only=True, hash=False)
class NetConf:
    """One conflist entry as the runtime hands it over on standard input.

    ``plugins`` is as it came: names, or objects with a name and options.  ``mtu`` is
    in bytes; it and ``veth_prefix`` are None when the entry does not say.
    ``runtime_config`` is as it came, with whatever capitals the runtime writes.
    ``prev_result`` is in the form of CNI 1.1.0.  ``valid_attachments`` are GC's pairs
    of container id and interface; None when the runtime sent no list, which is not an
    empty one.  ``rest`` is every other field.
    """

    cni_version: str
    name: str
    type: str
    plugins: tuple[Any, ...] = ()
    mtu: int | None = None
    veth_prefix: str | None = None
    runtime_config: Mapping[str, Any] = field(factory=dict)
    prev_result: Mapping[str, Any] | None = None
    valid_attachments: tuple[tuple[str, str], ...] | None = None
    rest: Mapping[str, Any] = field(factory=dict)


@frozen(kw_only=True, hash=False)
class Call:
    """The environment of one request; what the command does not need may be empty.

    ``netns`` is the path as the runtime wrote it, ``args`` are those of CNI_ARGS.
    """

    command: str
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: Mapping[str, str] = field(factory=dict)
    path: str = ""


# -- the configuration -----------------------------------------------------------------


def parse_config(stdin: bytes, *, prev: bool = True) -> NetConf:
    """Read a configuration, without its prevResult unless ``prev``.

    Raises CniError: 6 where it is not JSON or has the wrong shape, 1 for a version that
    eniplug does not speak, 7 for a value that cannot be.
    """
    conf = decode(stdin, "the configuration")
    version = check_version(conf.get("cniVersion"))
    return NetConf(
        cni_version=version,
        name=parse_network(conf),
        type=_required(conf, "type"),
        plugins=tuple(sequence(conf.get("plugins", ()), "plugins")),
        mtu=_mtu(conf.get("mtu")),
        veth_prefix=_veth_prefix(conf.get("vethPrefix")),
        runtime_config=mapping(conf.get("runtimeConfig") or {}, "runtimeConfig"),
        prev_result=_prev_result(conf.get("prevResult"), version) if prev else None,
        valid_attachments=_attachments(conf),
        rest={k: v for k, v in conf.items() if k not in _KNOWN},
    )


def parse_network(conf: Mapping[str, Any]) -> str:
    """Return the network's name; raises CniError 7 when it is none."""
    name = _required(conf, "name")
    if not NAME.fullmatch(name):
        msg = f"name: {short(name)} is no network name"
        remedy = "letters, digits, '_', '.' and '-', beginning with a letter or digit"
        raise CniError(INVALID_CONFIG, msg, remedy)
    return name


def _required(conf: Mapping[str, Any], key: str) -> str:
    if key not in conf:
        raise CniError(INVALID_CONFIG, f"the configuration has no {key!r}")
    return text(conf[key], key)


def _mtu(value: Any) -> int | None:
    """Read a number, or digits in a string as the AWS VPC CNI wants them."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch("[0-9]{1,5}", value):
        value = int(value)
    if not isinstance(value, int) or value not in MTUS:
        msg = f"mtu: wants {MTUS.start} to {MTUS.stop - 1}, not {short(value)}"
        raise CniError(INVALID_CONFIG, msg)
    return value


def _veth_prefix(value: Any) -> str | None:
    if value is None or value == "":
        return None
    prefix = text(value, "vethPrefix")
    if not _VETH_PREFIX.fullmatch(prefix) or prefix in _RESERVED_PREFIXES:
        msg = f"vethPrefix: {short(prefix)} cannot begin a link's name"
        remedy = "at most 4 characters, and not eth, lo or vlan"
        raise CniError(INVALID_CONFIG, msg, remedy)
    return prefix


def _prev_result(value: Any, version: str) -> dict[str, Any] | None:
    if value is None:
        return None
    own = mapping(value, "prevResult").get("cniVersion") or version
    return from_version(value, own, "prevResult")


def _attachments(conf: Mapping[str, Any]) -> tuple[tuple[str, str], ...] | None:
    """Read GC's list; libcni sends it under both keys, for plugins of early drafts."""
    sent = [key for key in ATTACHMENT_KEYS if conf.get(key) is not None]
    if not sent:
        return None
    found: dict[tuple[str, str], None] = {}
    for key in sent:
        for i, value in enumerate(sequence(conf[key], key)):
            place = f"{key}[{i}]"
            one = mapping(value, place)
            container = text(one.get("containerID"), f"{place}.containerID")
            found[container, text(one.get("ifname"), f"{place}.ifname")] = None
    return tuple(found)


# -- the environment -------------------------------------------------------------------


def parse_call(environ: Mapping[str, str]) -> Call:
    """Read the CNI_* variables; CniError 4 names one that is missing or unusable."""
    command = environ.get("CNI_COMMAND", "")
    if command not in NEEDS:
        known = ", ".join(NEEDS)
        raise _unusable("CNI_COMMAND", command, f"one of {known} is wanted")
    for name in NEEDS[command]:
        if not environ.get(name):
            msg = f"{name} is not set: {command} needs it"
            raise CniError(INVALID_VARIABLE, msg)
    for name in READ:
        if _HALF.search(environ.get(name, "")):
            raise _unusable(name, environ[name], "it is not UTF-8")
    call = Call(
        command=command,
        container_id=environ.get("CNI_CONTAINERID", ""),
        netns=environ.get("CNI_NETNS", ""),
        ifname=environ.get("CNI_IFNAME", ""),
        args=_args(environ.get("CNI_ARGS", "")),
        path=environ.get("CNI_PATH", ""),
    )
    if "CNI_CONTAINERID" in NEEDS[command]:
        check_container_id(call.container_id)
        check_ifname(call.ifname)
    return call


def check_container_id(container_id: str) -> None:
    """Raise CniError 4 unless it is a container's id (SPEC.md, "Parameters")."""
    if not NAME.fullmatch(container_id):
        wants = "letters, digits, '_', '.' and '-', beginning with a letter or digit"
        raise _unusable("CNI_CONTAINERID", container_id, wants)


def check_ifname(ifname: str) -> None:
    """Raise CniError 4 unless Linux takes it as a link's name."""
    if (
        ifname in {"", ".", ".."}
        or _NO_LINK.search(ifname)
        or not ifname.isprintable()
        or len(ifname.encode()) > IFNAME_BYTES
    ):
        wants = f"1 to {IFNAME_BYTES} bytes without '/', ':' and blanks; not '.', '..'"
        raise _unusable("CNI_IFNAME", ifname, wants)


def _args(value: str) -> dict[str, str]:
    """Read ``K=V;K=V``, in any order; unknown keys are the reader's business."""
    args: dict[str, str] = {}
    for pair in filter(None, value.split(";")):
        key, equals, argument = pair.partition("=")
        if not key or not equals:
            raise _unusable("CNI_ARGS", pair, "pairs K=V are wanted, between ';'")
        args[key] = argument
    return args


def _unusable(name: str, value: str, why: str) -> CniError:
    return CniError(INVALID_VARIABLE, f"{name} {short(value)} is unusable", why)


# -- the answer ------------------------------------------------------------------------


def error_json(version: str, code: int, msg: str, details: str = "") -> bytes:
    """Return an error as the specification wants it on standard output."""
    answer: dict[str, Any] = {
        "cniVersion": version if version in VERSIONS else DEFAULT,
        "code": code,
        "msg": msg,
    }
    if details:
        answer["details"] = details
    return json.dumps(answer).encode() + b"\n"
