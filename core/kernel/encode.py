"""Objects to netlink messages, packed by hand.

pyroute2's message classes cost 43 to 62 µs a route and 240 a link, this 2 and 5: an
ADD has time for the one and not for the other.  The tests hold every message against
those classes.

Address, Neighbor, Route and Rule are alike: one payload both creates and deletes, and
the kernel deletes just what matches it whole.  Such a kind is one row of `_KINDS`; so
are Qdisc and Redirect, of which the kernel deletes whatever is in that place.
Links have messages of their own, in `encode_links`.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Final, NamedTuple, TypeAlias

from eniplug.core.kernel import qdisc, redirect, uapi
from eniplug.core.kernel.attributes import attribute, ip, mac, text, u32
from eniplug.core.kernel.encode_links import set_link
from eniplug.core.kernel.netlink import Message
from eniplug.hooks import (
    Address,
    LinkState,
    Neighbor,
    Object,
    Qdisc,
    Redirect,
    Route,
    Rule,
)

IndexOf: TypeAlias = Callable[[str], int]
"""From a link's name to its number; raises NetlinkError (ENODEV)."""

NEW: Final = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
REPLACE: Final = uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE

_FLAGS: Final = uapi.IFA_F_PERMANENT | uapi.IFA_F_NOPREFIXROUTE

_ADDRESS: Final = struct.Struct("=BBBBI")  # family, length, flags, scope, index
_NEIGHBOR: Final = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
# family, dst length, src length, tos, table, protocol, scope, type, flags; for rules
# the same with protocol and scope reserved, and the action for the type


def _family(version: int) -> int:
    return uapi.AF_INET if version == 4 else uapi.AF_INET6  # noqa: PLR2004


def in_dumps(one: Object) -> bool:
    """Whether its kind is one of `_KINDS`: made, deleted and dumped alike."""
    return type(one) in _KINDS


def create(one: Object, index_of: IndexOf, flags: int = NEW) -> Message:
    """Make an object, or set a LinkState.  ``flags``: `NEW` or `REPLACE`."""
    if isinstance(one, LinkState):
        return set_link(index_of(one.link), one.setting, one.value)
    kind = _KINDS[type(one)]
    return Message(kind.new, flags, kind.body(one, index_of))


def delete(one: Object, index_of: IndexOf) -> Message:
    """Delete just that object, and none that differs from it."""
    kind = _KINDS[type(one)]
    return Message(kind.new + 1, 0, kind.body(one, index_of))


def look(one: Object, index_of: IndexOf, *, wide: bool = False) -> Message:
    """Ask for the few things among which ``one`` is; ``wide`` on any link.

    A dump; for a qdisc, which has no dump of less than all links', the one in its
    place.
    """
    kind = _KINDS[type(one)]
    flags = qdisc.JUST_ONE if isinstance(one, Qdisc) else 0
    return Message(kind.new + 2, flags, kind.among(one, index_of, wide))


def _address(one: Address, index_of: IndexOf) -> bytes:
    address = one.address
    length, family, flags = address.network.prefixlen, uapi.AF_INET, _FLAGS
    if not isinstance(address, IPv4Address):
        family, flags = uapi.AF_INET6, _FLAGS | uapi.IFA_F_NODAD
    return (
        _ADDRESS.pack(family, length, 0, 0, index_of(one.link))
        + ip(uapi.IFA_LOCAL, address)
        + ip(uapi.IFA_ADDRESS, address)
        + u32(uapi.IFA_FLAGS, flags)
    )


def _address_among(one: Address, index_of: IndexOf, wide: bool) -> bytes:
    index = 0 if wide else index_of(one.link)
    return _ADDRESS.pack(_family(one.address.version), 0, 0, 0, index)


def _neighbor(one: Neighbor, index_of: IndexOf) -> bytes:
    address = one.address
    family = uapi.AF_INET if isinstance(address, IPv4Address) else uapi.AF_INET6
    return (
        _NEIGHBOR.pack(family, index_of(one.link), uapi.NUD_PERMANENT, 0, 0)
        + ip(uapi.NDA_DST, address)
        + mac(uapi.NDA_LLADDR, one.mac)
    )


def _neighbor_among(one: Neighbor, index_of: IndexOf, wide: bool) -> bytes:
    header = _NEIGHBOR.pack(_family(one.address.version), 0, 0, 0, 0)
    return header if wide else header + u32(uapi.NDA_IFINDEX, index_of(one.link))


def _small(table: int) -> int:
    return table if table < 256 else uapi.RT_TABLE_COMPAT  # noqa: PLR2004


def _route(one: Route, index_of: IndexOf) -> bytes:
    to, table = one.destination, one.table
    length = to.prefixlen
    family, scope = uapi.AF_INET6, uapi.RT_SCOPE_UNIVERSE
    if isinstance(to, IPv4Network):
        family = uapi.AF_INET
        scope = uapi.RT_SCOPE_LINK if one.via is None else uapi.RT_SCOPE_UNIVERSE
    body = _ROUTE.pack(
        family,
        length,
        0,
        one.tos,
        _small(table),
        one.protocol,
        scope,
        uapi.RTN_UNICAST,
        uapi.RTNH_F_ONLINK if one.onlink else 0,
    )
    if length:
        body += ip(uapi.RTA_DST, to.network_address)
    if one.via is not None:
        body += ip(uapi.RTA_GATEWAY, one.via)
    if one.src is not None:
        body += ip(uapi.RTA_PREFSRC, one.src)
    if one.metric:
        body += u32(uapi.RTA_PRIORITY, one.metric)
    return body + u32(uapi.RTA_OIF, index_of(one.link)) + u32(uapi.RTA_TABLE, table)


def _route_among(one: Route, index_of: IndexOf, wide: bool) -> bytes:
    body = _ROUTE.pack(_family(one.destination.version), 0, 0, 0, 0, 0, 0, 0, 0)
    if not wide:
        body += u32(uapi.RTA_OIF, index_of(one.link))
    return body + u32(uapi.RTA_TABLE, one.table)


def _rule(one: Rule, index_of: IndexOf) -> bytes:
    del index_of
    src, dst = one.src, one.dst
    body = _ROUTE.pack(
        _family(one.family),
        dst.prefixlen if dst else 0,
        src.prefixlen if src else 0,
        0,
        _small(one.table),
        0,
        0,
        uapi.FR_ACT_TO_TBL,
        0,
    )
    if dst and dst.prefixlen:
        body += ip(uapi.FRA_DST, dst.network_address)
    if src and src.prefixlen:
        body += ip(uapi.FRA_SRC, src.network_address)
    if one.mark is not None:
        body += u32(uapi.FRA_FWMARK, one.mark) + u32(uapi.FRA_FWMASK, one.mask)
    if one.iif is not None:
        body += text(uapi.FRA_IIFNAME, one.iif)
    if one.protocol:
        body += attribute(uapi.FRA_PROTOCOL, bytes((one.protocol,)))
    return body + u32(uapi.FRA_PRIORITY, one.priority) + u32(uapi.FRA_TABLE, one.table)


def _rule_among(one: Rule, index_of: IndexOf, wide: bool) -> bytes:
    del index_of, wide
    return _ROUTE.pack(_family(one.family), 0, 0, 0, 0, 0, 0, 0, 0)


class _Kind(NamedTuple):
    """How one kind is packed; the kernel numbers new, delete and get in a row."""

    new: int
    body: Callable[[Any, IndexOf], bytes]
    among: Callable[[Any, IndexOf, bool], bytes]


_KINDS: Final[Mapping[type[Object], _Kind]] = {
    Address: _Kind(uapi.RTM_NEWADDR, _address, _address_among),
    Neighbor: _Kind(uapi.RTM_NEWNEIGH, _neighbor, _neighbor_among),
    Qdisc: _Kind(uapi.RTM_NEWQDISC, qdisc.body, qdisc.among),
    Redirect: _Kind(uapi.RTM_NEWTFILTER, redirect.body, redirect.among),
    Route: _Kind(uapi.RTM_NEWROUTE, _route, _route_among),
    Rule: _Kind(uapi.RTM_NEWRULE, _rule, _rule_among),
}
