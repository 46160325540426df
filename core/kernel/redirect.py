"""Redirects to netlink and back: a u32 filter that matches all, with a mirred action.

u32 is in every kernel of a distribution, and one filter takes every protocol.  Its
handle is said, and not the kernel's choice: without one the kernel would put a second
filter beside the first where it should say that there is one (net/sched/cls_u32.c).
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Final

from eniplug.core.kernel import uapi
from eniplug.core.kernel.attributes import attribute, attributes, nest, text
from eniplug.core.kernel.qdisc import TCMSG
from eniplug.hooks import Redirect, Side

_HANDLE: Final = 0x80000800
"""800::800, the first filter of the first table: what tc(8) would get as well."""

_PARENT: Final = 0xFFFF0000
_ALL: Final = socket.htons(uapi.ETH_P_ALL)

_SELECTOR: Final = struct.pack(
    "=BBBxHHhhI" + "IIii", uapi.TC_U32_TERMINAL, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0
)
# flags, offset shift, number of keys, and what offsets and hashes need; then the one
# key: mask, value, offset, mask of the offset.  With no mask everything matches.

_MIRRED: Final = struct.Struct("=IIiiiiI")
# index, capabilities, verdict, two counts; what to do, and by which link


def body(one: Redirect, index_of: Callable[[str], int]) -> bytes:
    """Pack what makes a redirect, and what deletes the one in its place."""
    parms = _MIRRED.pack(
        0,
        0,
        uapi.TC_ACT_STOLEN,
        0,
        0,
        uapi.TCA_EGRESS_REDIR,
        index_of(one.to),
    )
    action = nest(
        1,
        text(uapi.TCA_ACT_KIND, "mirred"),
        nest(uapi.TCA_ACT_OPTIONS, attribute(uapi.TCA_MIRRED_PARMS, parms)),
    )
    return (
        _head(one, index_of, _HANDLE)
        + text(uapi.TCA_KIND, "u32")
        + nest(
            uapi.TCA_OPTIONS,
            attribute(uapi.TCA_U32_SEL, _SELECTOR),
            nest(uapi.TCA_U32_ACT, action),
        )
    )


def among(one: Redirect, index_of: Callable[[str], int], wide: bool) -> bytes:
    """Pack what asks for the filters of its priority."""
    del wide
    return _head(one, index_of, 0)


def _head(one: Redirect, index_of: Callable[[str], int], handle: int) -> bytes:
    index = index_of(one.link)
    return TCMSG.pack(0, index, handle, _PARENT, one.priority << 16 | _ALL)


def read(
    data: bytes, side: Side, name_of: Callable[[int], str | None]
) -> Redirect | None:
    """Read one RTM_NEWTFILTER; None for what no `Redirect` can say."""
    _, index, handle, parent, info = TCMSG.unpack_from(data)
    a = dict(attributes(data, TCMSG.size))
    options = dict(attributes(a.get(uapi.TCA_OPTIONS, b"")))
    if (
        a.get(uapi.TCA_KIND) != b"u32\0"
        or (handle, parent, info & 0xFFFF) != (_HANDLE, _PARENT, _ALL)
        or options.get(uapi.TCA_U32_SEL) != _SELECTOR
    ):
        return None
    link, to = name_of(index), _target(options.get(uapi.TCA_U32_ACT, b""))
    name = name_of(to) if to else None
    if link is None or name is None:
        return None
    return Redirect(link=link, to=name, priority=info >> 16, side=side)


def _target(actions: bytes) -> int:
    """Return the number of the link to which one mirred action sends all; 0 if none."""
    found = list(attributes(actions))
    if len(found) != 1:
        return 0
    a = dict(attributes(found[0][1]))
    options = dict(attributes(a.get(uapi.TCA_ACT_OPTIONS, b"")))
    parms = options.get(uapi.TCA_MIRRED_PARMS, b"")
    if a.get(uapi.TCA_ACT_KIND) != b"mirred\0" or len(parms) < _MIRRED.size:
        return 0
    _, _, verdict, _, _, what, link = _MIRRED.unpack_from(parms)
    sends = (verdict, what) == (uapi.TC_ACT_STOLEN, uapi.TCA_EGRESS_REDIR)
    return int(link) if sends else 0
