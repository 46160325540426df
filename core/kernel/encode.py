"""Objects to netlink messages, packed by hand.

pyroute2's message classes cost 43 to 62 µs a route and 240 a link, this 2 and 5: an
ADD has time for the one and not for the other.  The tests hold every message against
those classes.

Address, Neighbor, Route and Rule are alike: one payload both creates and deletes, and
the kernel deletes just what matches it whole.  Such a kind is one row of `_KINDS`.
Links are made and changed by messages of their own.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping
from typing import Any, Final, NamedTuple, TypeAlias

from eniplug.core.kernel import uapi
from eniplug.core.kernel.netlink import Message
from eniplug.hooks import Address, LinkState, Neighbor, Object, Route, Rule, Veth

IndexOf: TypeAlias = Callable[[str], int]
"""From a link's name to its number; raises NetlinkError (ENODEV)."""

NEW: Final = uapi.NLM_F_CREATE | uapi.NLM_F_EXCL
REPLACE: Final = uapi.NLM_F_CREATE | uapi.NLM_F_REPLACE

_ATTRIBUTE: Final = struct.Struct("=HH")
_U32: Final = struct.Struct("=HHI")
_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change
_ADDRESS: Final = struct.Struct("=BBBBI")  # family, length, flags, scope, index
_NEIGHBOR: Final = struct.Struct("=BxxxiHBB")  # family, index, state, flags, type
_ROUTE: Final = struct.Struct("=BBBBBBBBI")
# family, dst length, src length, tos, table, protocol, scope, type, flags; for rules
# the same with protocol and scope reserved, and the action for the type


def attribute(kind: int, data: bytes) -> bytes:
    """Pack one attribute, padded."""
    length = len(data)
    return _ATTRIBUTE.pack(length + 4, kind) + data + bytes(-length & 3)


def nest(kind: int, *parts: bytes) -> bytes:
    """Pack attributes into one."""
    return attribute(kind | uapi.NLA_F_NESTED, b"".join(parts))


def u32(kind: int, value: int) -> bytes:
    """Pack an attribute of 32 bits in the machine's order."""
    return _U32.pack(8, kind, value)


def text(kind: int, value: str) -> bytes:
    """Pack a string with its end mark."""
    return attribute(kind, value.encode() + b"\0")


def _mac(value: str) -> bytes:
    return bytes.fromhex(value.replace(":", ""))


def _family(version: int) -> int:
    return uapi.AF_INET if version == 4 else uapi.AF_INET6  # noqa: PLR2004


# -- links -----------------------------------------------------------------------------

_ONE_QUEUE: Final = u32(uapi.IFLA_NUM_TX_QUEUES, 1) + u32(uapi.IFLA_NUM_RX_QUEUES, 1)
# The default is one queue per possible CPU, at both ends: 2.7 ms a pair at 96 of them.

_NO_LINK_LOCAL: Final = nest(
    uapi.AF_INET6,
    attribute(uapi.IFLA_INET6_ADDR_GEN_MODE, bytes((uapi.IN6_ADDR_GEN_MODE_NONE,))),
)
# No fe80:: address of the kernel's own: no duplicate detection, no solicitations.


def _link(index: int, *attributes: bytes, up: bool | None = None) -> bytes:
    change = 0 if up is None else uapi.IFF_UP
    flags = uapi.IFF_UP if up else 0
    return _LINK.pack(0, 0, index, flags, change) + b"".join(attributes)


def create_veth(veth: Veth, index: int, netns: int, group: int = 0) -> Message:
    """Make a pair whose ends both have the number ``index`` and are down.

    The pod's end is born in the namespace of the descriptor ``netns``.
    """
    mtu = u32(uapi.IFLA_MTU, veth.mtu)
    peer = _link(
        index,
        text(uapi.IFLA_IFNAME, veth.peer),
        attribute(uapi.IFLA_ADDRESS, _mac(veth.peer_mac)),
        mtu,
        _ONE_QUEUE,
        u32(uapi.IFLA_NET_NS_FD, netns),
    )
    info = nest(
        uapi.IFLA_LINKINFO,
        text(uapi.IFLA_INFO_KIND, "veth"),
        nest(uapi.IFLA_INFO_DATA, nest(uapi.VETH_INFO_PEER, peer)),
    )
    body = _link(
        index,
        text(uapi.IFLA_IFNAME, veth.name),
        attribute(uapi.IFLA_ADDRESS, _mac(veth.mac)),
        mtu,
        _ONE_QUEUE,
        u32(uapi.IFLA_GROUP, group) if group else b"",
        info,
    )
    return Message(uapi.RTM_NEWLINK, NEW, body)


def raise_link(
    index: int,
    settings: Mapping[str, int],
    *,
    alias: str = "",
    no_link_local: bool = True,
) -> tuple[Message, Message]:
    """Bring a new link up, after what its create message does not take.

    ``settings`` are IPv4 settings.  The kernel refuses IFLA_AF_SPEC, and ignores the
    alias, in the message that creates a link; and an end whose other end is up may
    have made its fe80:: address before it reads IFLA_AF_SPEC in one that raises it.
    """
    parts = [_ipv4(settings)] if settings else []
    if no_link_local:
        parts.append(_NO_LINK_LOCAL)
    marked = _link(
        index,
        text(uapi.IFLA_IFALIAS, alias) if alias else b"",
        nest(uapi.IFLA_AF_SPEC, *parts) if parts else b"",
    )
    return Message(uapi.RTM_SETLINK, 0, marked), set_link(index, "up", 1)


def _ipv4(settings: Mapping[str, int]) -> bytes:
    values = (u32(uapi.IPV4_DEVCONF[k], v) for k, v in settings.items())
    return nest(uapi.AF_INET, nest(uapi.IFLA_INET_CONF, *values))


def set_link(index: int, setting: str, value: int) -> Message:
    """Change one property of a link, as `LinkState` names them."""
    match setting:
        case "up":
            body = _link(index, up=bool(value))
        case "mtu":
            body = _link(index, u32(uapi.IFLA_MTU, value))
        case "group":
            body = _link(index, u32(uapi.IFLA_GROUP, value))
        case _:
            body = _link(index, nest(uapi.IFLA_AF_SPEC, _ipv4({setting: value})))
    return Message(uapi.RTM_SETLINK, 0, body)


def bury(index: int, group: int) -> tuple[Message, Message]:
    """Take a link out of service: down, in a dead group, its name free again.

    Two messages, as Linux before 6.2 renames only what is down.
    """
    return (
        Message(
            uapi.RTM_SETLINK, 0, _link(index, u32(uapi.IFLA_GROUP, group), up=False)
        ),
        Message(uapi.RTM_SETLINK, 0, _link(index, text(uapi.IFLA_IFNAME, f"x{index}"))),
    )


def step_aside(index: int) -> tuple[Message, Message]:
    """Give a dead link's name free: down, then renamed."""
    return set_link(index, "up", 0), bury(index, 0)[1]


def delete_link(index: int) -> Message:
    """Delete a link, and its peer with it."""
    return Message(uapi.RTM_DELLINK, 0, _link(index))


def delete_group(group: int) -> Message:
    """Delete every link of a group."""
    return Message(uapi.RTM_DELLINK, 0, _link(0, u32(uapi.IFLA_GROUP, group)))


_BRIEFLY: Final = u32(uapi.IFLA_EXT_MASK, uapi.RTEXT_FILTER_SKIP_STATS)


def look_link(link: str | int) -> Message:
    """Ask for a link by name or number."""
    if isinstance(link, int):
        body = _link(link, _BRIEFLY)
    else:
        body = _link(0, text(uapi.IFLA_IFNAME, link), _BRIEFLY)
    return Message(uapi.RTM_GETLINK, 0, body)


LOOK_LINKS: Final = Message(uapi.RTM_GETLINK, 0, _link(0, _BRIEFLY))
"""Ask for all links."""


# -- what stands on links --------------------------------------------------------------


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
    """Ask for the few things among which ``one`` is; ``wide`` on any link."""
    kind = _KINDS[type(one)]
    return Message(kind.new + 2, 0, kind.among(one, index_of, wide))


def _address(one: Address, index_of: IndexOf) -> bytes:
    ip = one.address
    family = _family(ip.version)
    flags = uapi.IFA_F_PERMANENT | uapi.IFA_F_NOPREFIXROUTE
    if family == uapi.AF_INET6:
        flags |= uapi.IFA_F_NODAD
    return (
        _ADDRESS.pack(family, ip.network.prefixlen, 0, 0, index_of(one.link))
        + attribute(uapi.IFA_LOCAL, ip.packed)
        + attribute(uapi.IFA_ADDRESS, ip.packed)
        + u32(uapi.IFA_FLAGS, flags)
    )


def _address_among(one: Address, index_of: IndexOf, wide: bool) -> bytes:
    del wide
    return _ADDRESS.pack(_family(one.address.version), 0, 0, 0, index_of(one.link))


def _neighbor(one: Neighbor, index_of: IndexOf) -> bytes:
    family = _family(one.address.version)
    return (
        _NEIGHBOR.pack(family, index_of(one.link), uapi.NUD_PERMANENT, 0, 0)
        + attribute(uapi.NDA_DST, one.address.packed)
        + attribute(uapi.NDA_LLADDR, _mac(one.mac))
    )


def _neighbor_among(one: Neighbor, index_of: IndexOf, wide: bool) -> bytes:
    del wide
    header = _NEIGHBOR.pack(_family(one.address.version), 0, 0, 0, 0)
    return header + u32(uapi.NDA_IFINDEX, index_of(one.link))


def _small(table: int) -> int:
    return table if table < 256 else uapi.RT_TABLE_COMPAT  # noqa: PLR2004


def _route(one: Route, index_of: IndexOf) -> bytes:
    to = one.destination
    near = one.via is None and to.version == 4  # noqa: PLR2004
    body = _ROUTE.pack(
        _family(to.version),
        to.prefixlen,
        0,
        one.tos,
        _small(one.table),
        one.protocol,
        uapi.RT_SCOPE_LINK if near else uapi.RT_SCOPE_UNIVERSE,
        uapi.RTN_UNICAST,
        uapi.RTNH_F_ONLINK if one.onlink else 0,
    )
    if to.prefixlen:
        body += attribute(uapi.RTA_DST, to.network_address.packed)
    if one.via is not None:
        body += attribute(uapi.RTA_GATEWAY, one.via.packed)
    if one.src is not None:
        body += attribute(uapi.RTA_PREFSRC, one.src.packed)
    if one.metric:
        body += u32(uapi.RTA_PRIORITY, one.metric)
    return body + u32(uapi.RTA_OIF, index_of(one.link)) + u32(uapi.RTA_TABLE, one.table)


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
        body += attribute(uapi.FRA_DST, dst.network_address.packed)
    if src and src.prefixlen:
        body += attribute(uapi.FRA_SRC, src.network_address.packed)
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
    Route: _Kind(uapi.RTM_NEWROUTE, _route, _route_among),
    Rule: _Kind(uapi.RTM_NEWRULE, _rule, _rule_among),
}
