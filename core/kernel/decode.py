"""The kernel's messages to objects.

Parsed by hand, as `encode` packs by hand: CHECK and the look-ups of ADD and DEL are per
pod, and a route that pyroute2 decodes in 60 µs takes 8 here.  One codec for both ways
also keeps one set of numbers, and pyroute2 stays an independent judge in the tests.

What the kernel has and no object can say (multipath, blackholes, inverted rules,
dynamic neighbours …) is None, so that it is never taken for something of ours.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Callable, Mapping
from functools import partial
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final, TypeAlias

from attrs import evolve, field, frozen

from eniplug.core.kernel import qdisc, redirect, uapi
from eniplug.core.kernel.attributes import attributes, chosen
from eniplug.hooks import (
    Address,
    Neighbor,
    Network,
    Object,
    Qdisc,
    Route,
    Rule,
    Side,
)

NameOf: TypeAlias = Callable[[int], str | None]
"""From a link's number to its name; None when it is gone."""

_U32: Final = struct.Struct("=I")
_LINK: Final = struct.Struct("=BxHiII")
_ADDRESS: Final = struct.Struct("=BBBBI")
_NEIGHBOR: Final = struct.Struct("=BxxxiHBB")
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
_VERSIONS: Final = {uapi.AF_INET: 4, uapi.AF_INET6: 6}


@frozen
class LinkInfo:
    """A link as the kernel has it.

    ``peer`` is the number of a veth's other end, in its own namespace; 0 if there is
    none.  ``af_spec`` and ``info`` are IFLA_AF_SPEC and IFLA_LINKINFO as they came: of
    many links, few are asked for them.
    """

    index: int
    name: str
    mac: str
    up: bool
    group: int
    alias: str
    mtu: int
    peer: int = 0
    af_spec: bytes = field(default=b"", repr=False)
    info: bytes = field(default=b"", repr=False)

    @property
    def kind(self) -> str:
        """What sort of virtual link it is, as ``ip link`` has it; empty for others."""
        return _text(dict(attributes(self.info)).get(uapi.IFLA_INFO_KIND, b""))

    def setting(self, name: str) -> int:
        """Return a property as `LinkState` names them."""
        match name:
            case "up":
                return int(self.up)
            case "mtu":
                return self.mtu
            case "group":
                return self.group
            case _:
                inet = dict(attributes(self.af_spec)).get(uapi.AF_INET, b"")
                values = dict(attributes(inet)).get(uapi.IFLA_INET_CONF, b"")
                at = 4 * (uapi.IPV4_DEVCONF[name] - 1)
                return _U32.unpack_from(values, at)[0] if at < len(values) else 0


_OF_LINKS: Final = frozenset(
    (
        uapi.IFLA_IFNAME,
        uapi.IFLA_ADDRESS,
        uapi.IFLA_GROUP,
        uapi.IFLA_IFALIAS,
        uapi.IFLA_MTU,
        uapi.IFLA_LINK,
        uapi.IFLA_AF_SPEC,
        uapi.IFLA_LINKINFO,
    )
)
"""Of some 45 attributes of a link."""

_number: Final = partial(int.from_bytes, byteorder=sys.byteorder)


def link(body: bytes) -> LinkInfo:
    """Read one RTM_NEWLINK."""
    _, _, index, flags, _ = _LINK.unpack_from(body)
    a = chosen(body, _LINK.size, _OF_LINKS)
    return LinkInfo(
        index=index,
        name=_text(a[uapi.IFLA_IFNAME]),
        mac=a.get(uapi.IFLA_ADDRESS, b"").hex(":"),
        up=bool(flags & uapi.IFF_UP),
        group=_number(a.get(uapi.IFLA_GROUP, b"")),
        alias=_text(a.get(uapi.IFLA_IFALIAS, b"")),
        mtu=_number(a.get(uapi.IFLA_MTU, b"")),
        peer=_number(a.get(uapi.IFLA_LINK, b"")),
        af_spec=a.get(uapi.IFLA_AF_SPEC, b""),
        info=a.get(uapi.IFLA_LINKINFO, b""),
    )


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def _u32(a: Mapping[int, bytes], kind: int, default: int = 0) -> int:
    return _U32.unpack(a[kind])[0] if kind in a else default


def one(type_: int, body: bytes, side: Side, name_of: NameOf) -> Object | None:
    """Read one message of the answer to a dump; None for what no object can say.

    ``type_`` is the request's.
    """
    return _READERS[type_](body, side, name_of)


def canonical(wanted: Object) -> Object:
    """Bring an object into the one form in which `one` gives it.

    The kernel does not keep apart what is the same to it: no metric and the default
    metric, no source and any source.
    """
    match wanted:
        case Route(metric=uapi.IP6_RT_PRIO_USER) if wanted.destination.version == 6:  # noqa: PLR2004
            return evolve(wanted, metric=0)
        case Rule():
            return evolve(
                wanted,
                src=wanted.src if wanted.src and wanted.src.prefixlen else None,
                dst=wanted.dst if wanted.dst and wanted.dst.prefixlen else None,
                mask=0xFFFFFFFF if wanted.mark is None else wanted.mask,
            )
        case Qdisc():
            return qdisc.canonical(wanted)
        case _:
            return wanted


def _address(body: bytes, side: Side, name_of: NameOf) -> Object | None:
    family, length, _, _, index = _ADDRESS.unpack_from(body)
    a = dict(attributes(body, _ADDRESS.size))
    name = name_of(index)
    packed = a.get(uapi.IFA_LOCAL, a.get(uapi.IFA_ADDRESS))
    if family not in _VERSIONS or name is None or packed is None:
        return None
    return Address(link=name, address=ip_interface((packed, length)), side=side)


def _neighbor(body: bytes, side: Side, name_of: NameOf) -> Object | None:
    _, index, state, _, _ = _NEIGHBOR.unpack_from(body)
    a = dict(attributes(body, _NEIGHBOR.size))
    name = name_of(index)
    if not state & uapi.NUD_PERMANENT or uapi.NDA_LLADDR not in a or name is None:
        return None
    return Neighbor(
        link=name,
        address=ip_address(a[uapi.NDA_DST]),
        mac=a[uapi.NDA_LLADDR].hex(":"),
        side=side,
    )


def _network(family: int, packed: bytes | None, length: int) -> Network:
    if packed is None:
        return ip_network("0.0.0.0/0" if family == uapi.AF_INET else "::/0")
    return ip_network((packed, length))


_NO_ROUTE_OF_OURS: Final = {uapi.RTA_MULTIPATH, uapi.RTA_ENCAP, uapi.RTA_NH_ID}


def _route(body: bytes, side: Side, name_of: NameOf) -> Object | None:
    family, length, _, tos, table, protocol, _, type_, flags = _ROUTE.unpack_from(body)
    a = dict(attributes(body, _ROUTE.size))
    if (
        type_ != uapi.RTN_UNICAST
        or family not in _VERSIONS
        or flags & uapi.RTM_F_CLONED
        or uapi.RTA_OIF not in a
        or a.keys() & _NO_ROUTE_OF_OURS
    ):
        return None
    name = name_of(_u32(a, uapi.RTA_OIF))
    if name is None:
        return None
    metric = _u32(a, uapi.RTA_PRIORITY)
    if family == uapi.AF_INET6 and metric == uapi.IP6_RT_PRIO_USER:
        metric = 0
    return Route(
        destination=_network(family, a.get(uapi.RTA_DST), length),
        link=name,
        via=ip_address(a[uapi.RTA_GATEWAY]) if uapi.RTA_GATEWAY in a else None,
        src=ip_address(a[uapi.RTA_PREFSRC]) if uapi.RTA_PREFSRC in a else None,
        table=_u32(a, uapi.RTA_TABLE, table),
        metric=metric,
        tos=tos,
        onlink=bool(flags & uapi.RTNH_F_ONLINK),
        protocol=protocol,
        side=side,
    )


_OF_RULES: Final = {
    uapi.FRA_DST,
    uapi.FRA_SRC,
    uapi.FRA_IIFNAME,
    uapi.FRA_PRIORITY,
    uapi.FRA_FWMARK,
    uapi.FRA_FWMASK,
    uapi.FRA_TABLE,
    uapi.FRA_PROTOCOL,
    uapi.FRA_SUPPRESS_PREFIXLEN,
}


def _rule(body: bytes, side: Side, name_of: NameOf) -> Object | None:
    del name_of
    family, dlen, slen, tos, table, _, _, action, flags = _ROUTE.unpack_from(body)
    a = dict(attributes(body, _ROUTE.size))
    if (
        action != uapi.FR_ACT_TO_TBL
        or family not in _VERSIONS
        or tos
        or flags & uapi.FIB_RULE_INVERT
        or a.keys() - _OF_RULES
        or _u32(a, uapi.FRA_SUPPRESS_PREFIXLEN, 0xFFFFFFFF) != 0xFFFFFFFF  # noqa: PLR2004
    ):
        return None
    dst, src = a.get(uapi.FRA_DST), a.get(uapi.FRA_SRC)
    return Rule(
        priority=_u32(a, uapi.FRA_PRIORITY),
        table=_u32(a, uapi.FRA_TABLE, table),
        family=4 if family == uapi.AF_INET else 6,
        src=_network(family, src, slen) if src else None,
        dst=_network(family, dst, dlen) if dst else None,
        mark=_u32(a, uapi.FRA_FWMARK) if uapi.FRA_FWMARK in a else None,
        mask=_u32(a, uapi.FRA_FWMASK, 0xFFFFFFFF),
        iif=_text(a[uapi.FRA_IIFNAME]) if uapi.FRA_IIFNAME in a else None,
        protocol=a.get(uapi.FRA_PROTOCOL, b"\0")[0],
        side=side,
    )


_READERS: Final[Mapping[int, Callable[[bytes, Side, NameOf], Object | None]]] = {
    uapi.RTM_GETADDR: _address,
    uapi.RTM_GETNEIGH: _neighbor,
    uapi.RTM_GETROUTE: _route,
    uapi.RTM_GETRULE: _rule,
    uapi.RTM_GETQDISC: qdisc.read,
    uapi.RTM_GETTFILTER: redirect.read,
}
