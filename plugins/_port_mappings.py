"""Reads the port mappings that a runtime asks for, whatever way it writes them.

runtimeConfig has ``portMappings``: a list of ``{"hostPort", "containerPort",
"protocol", "hostIP"}`` (CNI conventions, "Port mappings").  containerd writes the keys
with capitals, and runtimes differ in what they put where nothing was asked for.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import ip_address
from typing import Any, Final

from attrs import frozen

from eniplug.hooks import Family, Ip, Pod
from eniplug.hooks.errors import ConfigError, DecodeError, UnsupportedError
from eniplug.hooks.objects import NFT_PROTOCOLS

LAST_PORT: Final = 65535


@frozen(kw_only=True)
class PortMapping:
    """A port of the node in one family, and the pod's port that it leads to.

    ``address`` is the node's address that it is on; None: every one of the family.
    """

    family: Family
    protocol: str
    port: int
    to: int
    address: Ip | None = None

    def __str__(self) -> str:
        """Name it as people do; the address is another matter."""
        family = "" if self.family == 4 else " over IPv6"  # noqa: PLR2004
        return f"host port {self.port}/{self.protocol}{family}"


def mappings_of(pod: Pod, families: Sequence[Family]) -> tuple[PortMapping, ...]:
    """Return what is asked for, in the families of which the pod has addresses.

    Raises DecodeError, UnsupportedError or ConfigError.
    """
    asked = pod.given("portMappings")
    if asked is None:
        return ()
    if not isinstance(asked, Sequence) or isinstance(asked, str):
        msg = f"runtimeConfig.portMappings: wants a list, not {asked!r}"
        raise DecodeError(msg)
    found: dict[object, PortMapping] = {}
    for number, entry in enumerate(asked):
        place = f"runtimeConfig.portMappings[{number}]"
        for one in _read(entry, place, families):
            where = one.family, one.protocol, one.port, one.address
            if (other := found.setdefault(where, one)) != one:
                msg = f"{one} leads to two ports of the pod, {other.to} and {one.to}"
                raise ConfigError(msg, "remove one of them from the pod's ports")
    return tuple(found.values())


def _read(
    entry: object, place: str, families: Sequence[Family]
) -> Iterator[PortMapping]:
    """Read one entry; a hostPort of 0 asks for nothing."""
    if not isinstance(entry, Mapping):
        msg = f"{place}: wants an object, not {entry!r}"
        raise DecodeError(msg)
    fields = {str(key).casefold(): value for key, value in entry.items()}
    port = _port(fields, "hostPort", place, least=0)
    if not port:
        return
    to = _port(fields, "containerPort", place, least=1)
    protocol = str(fields.get("protocol") or "tcp").lower()
    if protocol not in NFT_PROTOCOLS:
        msg = f"{place}.protocol: {protocol!r}: known are {', '.join(NFT_PROTOCOLS)}"
        raise UnsupportedError(msg, "correct the pod's ports")
    address = _address(fields, place)
    wanted = families if address is None else (address.version,)
    for family in wanted:
        one = PortMapping(
            family=family,
            protocol=protocol,
            port=port,
            to=to,
            address=None if address is None or address.is_unspecified else address,
        )
        if family not in families:
            msg = f"{one} is asked for on {address}: the pod has no IPv{family} address"
            raise ConfigError(msg, "leave hostIP out of the pod's ports")
        yield one


def _port(fields: Mapping[str, Any], name: str, place: str, least: int) -> int:
    value = fields.get(name.casefold(), 0)
    if type(value) is not int or not least <= value <= LAST_PORT:
        msg = f"{place}.{name}: wants a number from {least} to {LAST_PORT}"
        raise DecodeError(f"{msg}, not {value!r}", "correct the pod's ports")
    return value


def _address(fields: Mapping[str, Any], place: str) -> Ip | None:
    text = fields.get("hostip") or None
    if text is None:
        return None
    try:
        if not isinstance(text, str) or "%" in text:
            raise ValueError(text)
        address = ip_address(text)
    except ValueError:
        msg = f"{place}.hostIP: wants an address, not {text!r}"
        raise DecodeError(msg, "correct the pod's ports") from None
    if address.version == 6 and address.is_loopback:  # noqa: PLR2004
        msg = f"{place}.hostIP: the kernel lets nothing from ::1 out to a pod"
        raise UnsupportedError(msg, "use 127.0.0.1, or an address of the node")
    return address
