"""What differs between the versions of the protocol.

Inside, a result is a plain dict in the form of CNI 1.1.0 (SPEC.md, "ADD Success");
the older forms exist only at the edges.
"""

from __future__ import annotations

from collections.abc import Mapping
from reprlib import repr as short
from typing import Any, Final

from eniplug.cni.errors import INCOMPATIBLE_VERSION, CniError
from eniplug.cni.shapes import mapping, sequence, wrong

VERSIONS: Final = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
"""What eniplug speaks, oldest first."""

DEFAULT: Final = "1.0.0"
"""What is answered to a caller whose version is not known."""

_NAMED: Final = {"interfaces": "name", "ips": "address", "routes": "dst"}
"""A result's lists, and the field that each of their items must have."""

_SINCE_1_1: Final = {
    "interfaces": ("mtu", "socketPath", "pciID"),
    "routes": ("mtu", "advmss", "priority", "table", "scope"),
}


_BEFORE_1_1: Final = VERSIONS[: VERSIONS.index("1.1.0")]
_BEFORE_1_0: Final = VERSIONS[: VERSIONS.index("1.0.0")]


def check_version(version: object) -> str:
    """Return a version that eniplug speaks; any other is CniError 1.

    A configuration without one is of 0.2.0 or older (SPEC.md, "Version").
    """
    if isinstance(version, str) and version in VERSIONS:
        return version
    said = (
        "no cniVersion is given" if version is None else f"cniVersion {short(version)}"
    )
    raise CniError(
        INCOMPATIBLE_VERSION,
        f"{said}: not supported",
        f"eniplug speaks {', '.join(VERSIONS)}",
    )


def at_least(version: str, least: str) -> bool:
    """Tell whether a version is this one or newer; both must be of `VERSIONS`."""
    return VERSIONS.index(version) >= VERSIONS.index(least)


def version_answer(asked: object) -> dict[str, Any]:
    """Return the answer to VERSION, in the version asked in where that is ours."""
    known = isinstance(asked, str) and asked in VERSIONS
    return {
        "cniVersion": asked if known else DEFAULT,
        "supportedVersions": list(VERSIONS),
    }


def to_version(result: Mapping[str, Any], version: str) -> dict[str, Any]:
    """Return a result of ours in the form of another version.

    Before 1.1.0 what that version does not have is left out; before 1.0.0 each
    address says its family.  Raises CniError 1.
    """
    check_version(version)
    answer = {**result, "cniVersion": version}
    if version in _BEFORE_1_1:
        for name, fields in _SINCE_1_1.items():
            if name in result:
                answer[name] = [
                    {k: v for k, v in item.items() if k not in fields}
                    for item in result[name]
                ]
    if version in _BEFORE_1_0 and "ips" in result:
        answer["ips"] = [
            {**ip, "version": "6" if ":" in ip["address"] else "4"}
            for ip in result["ips"]
        ]
    return answer


def from_version(result: Any, version: str, place: str = "result") -> dict[str, Any]:
    """Return somebody's result in our form, once its shape is right.

    Unknown fields are kept.  Raises CniError 1, or 6 naming the place.
    """
    check_version(version)
    ours = mapping(result, place)
    for name, field in _NAMED.items():
        if ours.get(name) is None:
            ours.pop(name, None)  # Go writes a list that is not there as null
            continue
        ours[name] = [
            _item(item, field, f"{place}.{name}[{i}]")
            for i, item in enumerate(sequence(ours[name], f"{place}.{name}"))
        ]
    if ours.get("dns") is not None:
        mapping(ours["dns"], f"{place}.dns")
    if version in _BEFORE_1_0 and "ips" in ours:
        ours["ips"] = [
            {k: v for k, v in ip.items() if k != "version"} for ip in ours["ips"]
        ]
    return ours | {"cniVersion": VERSIONS[-1]}


def _item(value: Any, field: str, place: str) -> dict[str, Any]:
    item = mapping(value, place)
    if not isinstance(item.get(field), str):
        raise wrong(item.get(field), f"{place}.{field}", "a string")
    index = item.get("interface", 0)
    if isinstance(index, bool) or not isinstance(index, int):
        raise wrong(index, f"{place}.interface", "a number")
    return item
