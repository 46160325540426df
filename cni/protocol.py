"""One CNI call: its environment, its configuration, its error.

Values are made here and are valid from then on; what does not fit is a `CniError` that
names the variable or the place (SPEC.md, "Section 2" and "Section 4").
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import field, frozen

from eniplug.cni.errors import CniError
from eniplug.cni.versions import (
    VERSIONS,
    from_version,
    known,
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

COMMANDS: Final = ("ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION")
_OF_AN_ATTACHMENT: Final = ("ADD", "DEL", "CHECK")
_CONTAINER_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.\-]*")
NETWORK_NAME: Final = _CONTAINER_ID
_IFNAME: Final = re.compile(r"[^\s/:]{1,15}")
_RESERVED_PREFIXES: Final = ("eth", "lo", "vlan")
_LEAST_MTU, _MOST_MTU = 68, 65535
_LONGEST_PREFIX: Final = 4


@frozen(kw_only=True)
class Call:
    """The environment of one call; ``args`` are the keys of CNI_ARGS."""

    command: str
    container_id: str = ""
    netns: str = ""
    ifname: str = ""
    args: Mapping[str, str] = field(factory=dict)
    path: str = ""


def parse_call(environ: Mapping[str, str]) -> Call:
    """Read the CNI_* variables. Raises CniError (code 4) that names the variable."""
    command = environ.get("CNI_COMMAND", "")
    if command not in COMMANDS:
        raise _variable("CNI_COMMAND", command, f"one of {', '.join(COMMANDS)}")
    container_id = environ.get("CNI_CONTAINERID", "")
    ifname = environ.get("CNI_IFNAME", "")
    netns = environ.get("CNI_NETNS", "")
    if command in _OF_AN_ATTACHMENT:
        if not _CONTAINER_ID.fullmatch(container_id):
            wants = "letters, digits, '_', '.' and '-', first a letter or digit"
            raise _variable("CNI_CONTAINERID", container_id, wants)
        if not _IFNAME.fullmatch(ifname) or ifname in {".", ".."}:
            wants = "1 to 15 characters without blanks, '/' and ':'"
            raise _variable("CNI_IFNAME", ifname, wants)
        if command != "DEL" and not netns:
            raise _variable("CNI_NETNS", netns, "the path of the pod's namespace")
    return Call(
        command=command,
        container_id=container_id,
        netns=netns,
        ifname=ifname,
        args=parse_args(environ.get("CNI_ARGS", "")),
        path=environ.get("CNI_PATH", ""),
    )


def parse_args(text: str) -> dict[str, str]:
    """Read CNI_ARGS, ``KEY=VALUE;KEY=VALUE``, in any order.

    Raises CniError (code 4) for what is no pair.
    """
    pairs = [item.partition("=") for item in text.split(";") if item]
    if not all(equals and key for key, equals, _ in pairs):
        raise _variable("CNI_ARGS", text, "KEY=VALUE pairs separated by ';'")
    return {key: value for key, _, value in pairs}


def _variable(name: str, value: str, wants: str) -> CniError:
    what = f"is {value!r}" if value else "is missing"
    return CniError(4, f"{name} {what}", f"bad-environment: it must be {wants}")


@frozen(kw_only=True, hash=False)
class NetConf:
    """The configuration of one call: a conflist's entry, completed by the runtime.

    ``name`` is the network's. ``mtu`` is 0 and ``veth_prefix`` empty when not given.
    ``prev_result`` has the form of 1.1.0. ``valid_attachments`` are GC's pairs of
    container id and interface name, None when the runtime sent none.
    """

    cni_version: str
    name: str
    type: str
    plugins: Sequence[Any] = ()
    mtu: int = 0
    veth_prefix: str = ""
    runtime_config: Mapping[str, Any] = field(factory=dict)
    prev_result: Mapping[str, Any] | None = None
    valid_attachments: tuple[tuple[str, str], ...] | None = None


def parse_config(stdin: bytes) -> NetConf:
    """Read the configuration. Raises CniError: 6 not JSON or not the shape, 1, 7."""
    raw = json_object(stdin, "the configuration")
    version = known(raw.get("cniVersion", "0.2.0"))
    plugins = _shape(raw, "plugins", list, [])
    prev = _shape(raw, "prevResult", dict, None)
    return NetConf(
        cni_version=version,
        name=_name(raw),
        type=_shape(raw, "type", str, ""),
        plugins=tuple(plugins),
        mtu=_mtu(raw.get("mtu", 0)),
        veth_prefix=_prefix(_shape(raw, "vethPrefix", str, "")),
        runtime_config=_shape(raw, "runtimeConfig", dict, {}),
        prev_result=None if prev is None else _prev(prev, version),
        valid_attachments=_attachments(raw),
    )


def json_object(data: bytes, what: str) -> dict[str, Any]:
    """Read a JSON object. Raises CniError (code 6)."""
    try:
        raw = json.loads(data)
    except (ValueError, RecursionError) as error:
        msg = f"{what} is not JSON: {error}"
        raise CniError(6, msg, "bad-json: correct it at that place") from error
    if not isinstance(raw, dict):
        msg = f"{what} is a JSON {type(raw).__name__}, not an object"
        raise CniError(6, msg, "bad-json: it must begin with '{'")
    return raw


def _shape(raw: Mapping[str, Any], key: str, kind: type, default: Any) -> Any:
    value = raw.get(key)
    if value is None:
        return default
    if not isinstance(value, kind):
        msg = f"{key} is a {type(value).__name__}, not a {kind.__name__}"
        raise CniError(6, msg, f"bad-json: correct {key} in the conflist")
    return value


def _name(raw: Mapping[str, Any]) -> str:
    name = str(_shape(raw, "name", str, ""))
    if not NETWORK_NAME.fullmatch(name):
        msg = f"the network's name {name!r} is missing or unusable"
        raise CniError(7, msg, "bad-config: give the conflist a name")
    return name


def _mtu(value: object) -> int:
    """The AWS conflist writes numbers as strings."""
    if isinstance(value, str) and value.isascii() and value.isdigit():
        value = int(value[:6])
    fits = isinstance(value, int) and not isinstance(value, bool)
    if fits and (value == 0 or _LEAST_MTU <= value <= _MOST_MTU):  # type: ignore[operator]
        return value  # type: ignore[return-value]
    msg = f"mtu {value!r} is not a number from {_LEAST_MTU} to {_MOST_MTU}"
    raise CniError(7, msg, "bad-config: correct mtu in the conflist")


def _prefix(value: str) -> str:
    fits = len(value) <= _LONGEST_PREFIX and value not in _RESERVED_PREFIXES
    if fits and not re.search(r"[\s/:]", value):
        return value
    msg = f"vethPrefix {value!r} is longer than {_LONGEST_PREFIX} characters, or taken"
    raise CniError(7, msg, "bad-config: correct vethPrefix in the conflist")


def _prev(raw: Mapping[str, Any], version: str) -> Mapping[str, Any]:
    for key in ("interfaces", "ips", "routes"):
        listed = raw.get(key)
        if listed is not None and not (
            isinstance(listed, list) and all(isinstance(one, dict) for one in listed)
        ):
            msg = f"prevResult.{key} is not a list of objects"
            raise CniError(6, msg, "bad-json: the plugin before this one wrote it")
    own = raw.get("cniVersion", version)
    return from_version(raw, own if own in VERSIONS else version)


def _attachments(raw: Mapping[str, Any]) -> tuple[tuple[str, str], ...] | None:
    listed = raw.get("cni.dev/valid-attachments", raw.get("cni.dev/attachments"))
    if listed is None:
        return None
    try:
        return tuple((str(a["containerID"]), str(a["ifname"])) for a in listed)
    except (TypeError, KeyError) as error:
        msg = "cni.dev/valid-attachments is not a list of containerID and ifname"
        raise CniError(6, msg, "bad-json: the runtime must send it so") from error


def error_json(version: str, code: int, msg: str, details: str) -> bytes:
    """Write an error (SPEC.md, "Error")."""
    error = {"cniVersion": version, "code": code, "msg": msg, "details": details}
    return json.dumps(error).encode()
