"""Messages that make, change, bury and find links, packed by hand as in `encode`."""

from __future__ import annotations

import struct
from collections.abc import Mapping
from functools import lru_cache
from typing import Final

from eniplug.core.kernel import uapi
from eniplug.core.kernel.attributes import attribute, mac, nest, text, u32
from eniplug.core.kernel.netlink import Message
from eniplug.hooks import Ifb, Veth

_LINK: Final = struct.Struct("=BxHiII")  # family, type, index, flags, change

_ONE_QUEUE: Final = u32(uapi.IFLA_NUM_TX_QUEUES, 1) + u32(uapi.IFLA_NUM_RX_QUEUES, 1)
# The default is one queue per possible CPU, at both ends: 2.7 ms a pair at 96 of them.

_VETH: Final = text(uapi.IFLA_INFO_KIND, "veth")
_IFB: Final = nest(uapi.IFLA_LINKINFO, text(uapi.IFLA_INFO_KIND, "ifb"))

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
        mac(uapi.IFLA_ADDRESS, veth.peer_mac),
        mtu,
        _ONE_QUEUE,
        u32(uapi.IFLA_NET_NS_FD, netns),
    )
    info = nest(
        uapi.IFLA_LINKINFO,
        _VETH,
        nest(uapi.IFLA_INFO_DATA, nest(uapi.VETH_INFO_PEER, peer)),
    )
    body = _link(
        index,
        text(uapi.IFLA_IFNAME, veth.name),
        mac(uapi.IFLA_ADDRESS, veth.mac),
        mtu,
        _ONE_QUEUE,
        u32(uapi.IFLA_GROUP, group) if group else b"",
        info,
    )
    return Message(uapi.RTM_NEWLINK, uapi.NLM_F_CREATE | uapi.NLM_F_EXCL, body)


def create_ifb(ifb: Ifb, index: int = 0) -> Message:
    """Make an ifb, down; the kernel numbers it when ``index`` is 0."""
    body = _link(
        index,
        text(uapi.IFLA_IFNAME, ifb.name),
        mac(uapi.IFLA_ADDRESS, ifb.mac),
        u32(uapi.IFLA_MTU, ifb.mtu),
        _ONE_QUEUE,
        _IFB,
    )
    return Message(uapi.RTM_NEWLINK, uapi.NLM_F_CREATE | uapi.NLM_F_EXCL, body)


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
    marked = _link(
        index,
        text(uapi.IFLA_IFALIAS, alias) if alias else b"",
        _af_spec(tuple(settings.items()), no_link_local),
    )
    raised = _link(index, up=True)
    return (
        Message(uapi.RTM_SETLINK, 0, marked),
        Message(uapi.RTM_SETLINK, 0, raised),
    )


@lru_cache(64)  # most pods want the same
def _af_spec(settings: tuple[tuple[str, int], ...], no_link_local: bool) -> bytes:
    parts = [_ipv4(dict(settings))] if settings else []
    if no_link_local:
        parts.append(_NO_LINK_LOCAL)
    return nest(uapi.IFLA_AF_SPEC, *parts) if parts else b""


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


def bury(index: int, group: int) -> Message:
    """Take a link out of service: down, and in a dead group.

    It keeps its name: to rename it waits for a grace period of its own.
    """
    body = _link(index, u32(uapi.IFLA_GROUP, group), up=False)
    return Message(uapi.RTM_SETLINK, 0, body)


def step_aside(index: int) -> tuple[Message, Message]:
    """Give a dead link's name free.

    Two messages, as Linux before 6.2 renames only what is down.
    """
    renamed = _link(index, text(uapi.IFLA_IFNAME, f"x{index}"))
    return set_link(index, "up", 0), Message(uapi.RTM_SETLINK, 0, renamed)


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
