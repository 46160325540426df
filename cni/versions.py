"""The versions of the CNI specification, and a result's form in each of them.

Inside eniplug a result always has the form of 1.1.0; it is converted where it enters
and where it leaves (SPEC.md, "ADD Success"; the older forms in the tags of the
specification's repository).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final

from eniplug.cni.errors import CniError

VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
NEWEST: Final = VERSIONS[-1]

Result = dict[str, Any]

_INTERFACE: Final[tuple[str, ...]] = ("name", "mac", "sandbox")
_ROUTE: Final[tuple[str, ...]] = ("dst", "gw")
_NEW_INTERFACE: Final[tuple[str, ...]] = (*_INTERFACE, "mtu", "socketPath", "pciID")
_NEW_ROUTE: Final[tuple[str, ...]] = (
    *_ROUTE,
    "mtu",
    "advmss",
    "priority",
    "table",
    "scope",
)


def known(version: object) -> str:
    """Return a version that is spoken here. Raises CniError (code 1)."""
    if not isinstance(version, str) or version not in VERSIONS:
        spoken = ", ".join(VERSIONS)
        msg = f"cniVersion {version!r} is not supported"
        raise CniError(1, msg, f"unsupported-version: set one of {spoken}")
    return version


def at_least(version: str, other: str) -> bool:
    """Tell whether one known version is another or newer."""
    return VERSIONS.index(version) >= VERSIONS.index(other)


def version_answer(asked: str) -> Result:
    """Answer VERSION."""
    return {"cniVersion": asked, "supportedVersions": list(VERSIONS)}


def to_version(result: Mapping[str, Any], version: str) -> Result:
    """Give a result of 1.1.0 the form of ``version``."""
    new = at_least(version, "1.1.0")
    found: Result = {"cniVersion": version}
    for key, value in result.items():
        match key:
            case "interfaces":
                known_here = _NEW_INTERFACE if new else _INTERFACE
                found[key] = [_only(one, known_here) for one in value]
            case "ips":
                found[key] = [_ip(one, version) for one in value]
            case "routes":
                names = _NEW_ROUTE if new else _ROUTE
                found[key] = [_only(one, names) for one in value]
            case "dns":
                found[key] = value
            case _:
                pass
    if not at_least(version, "1.0.0"):
        found.setdefault("dns", {})
    return found


def from_version(result: Mapping[str, Any], version: str) -> Result:
    """Give a result of ``version`` the form of 1.1.0."""
    del version  # the newer forms only add fields, but for the addresses' "version"
    found = {k: v for k, v in result.items() if k in {"interfaces", "routes", "dns"}}
    ips = result.get("ips") or []
    found["ips"] = [{k: v for k, v in one.items() if k != "version"} for one in ips]
    return {"cniVersion": NEWEST, **found}


def _only(one: Mapping[str, Any], names: tuple[str, ...]) -> Result:
    return {name: one[name] for name in names if name in one}


def _ip(one: Mapping[str, Any], version: str) -> Result:
    found = _only(one, ("interface", "address", "gateway"))
    if not at_least(version, "1.0.0"):
        found = {"version": "6" if ":" in str(one["address"]) else "4", **found}
    return found
