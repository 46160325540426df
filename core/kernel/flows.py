"""Conntrack's entries of flows: found by the kernel's own filter, and deleted.

The kernel walks its table for it, and tells only what matches (Linux 5.8).
"""

from __future__ import annotations

from typing import Final

from eniplug.core.kernel import uapi
from eniplug.core.kernel.attributes import attribute, attributes, nest, u32
from eniplug.core.kernel.netlink import Message, Socket
from eniplug.hooks import StaleFlows
from eniplug.hooks.objects import NFT_PROTOCOLS

_FAMILIES: Final = {4: uapi.AF_INET, 6: uapi.AF_INET6}
_BY_PORT: Final = uapi.CTA_FILTER_F_PROTO_NUM | uapi.CTA_FILTER_F_PROTO_DST_PORT


def look(flows: StaleFlows) -> Message:
    """Ask for the entries whose first packet was sent to that port."""
    proto = nest(
        uapi.CTA_TUPLE_PROTO,
        attribute(uapi.CTA_PROTO_NUM, bytes((NFT_PROTOCOLS[flows.protocol],))),
        attribute(uapi.CTA_PROTO_DST_PORT, flows.port.to_bytes(2, "big")),
    )
    only = nest(
        uapi.CTA_FILTER,
        u32(uapi.CTA_FILTER_ORIG_FLAGS, _BY_PORT),
        u32(uapi.CTA_FILTER_REPLY_FLAGS, 0),
    )
    head = bytes((_FAMILIES[flows.family], 0, 0, 0))
    body = head + nest(uapi.CTA_TUPLE_ORIG, proto) + only
    return Message(uapi.IPCTNL_MSG_CT_GET, 0, body)


def delete(entry: bytes) -> Message:
    """Delete an entry as `look` brought it."""
    found = dict(attributes(entry, 4))
    body = entry[:4] + nest(uapi.CTA_TUPLE_ORIG, found[uapi.CTA_TUPLE_ORIG])
    if uapi.CTA_ZONE in found:
        body += attribute(uapi.CTA_ZONE, found[uapi.CTA_ZONE])
    return Message(uapi.IPCTNL_MSG_CT_DELETE, 0, body)


def forget(socket: Socket, flows: StaleFlows) -> None:
    """Delete the entries; those that end meanwhile are no matter.

    Raises NetlinkError where the kernel has no such interface.
    """
    socket.send([delete(entry) for entry in socket.dump(look(flows))])
