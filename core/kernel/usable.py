"""An IPv6 address is usable a moment after the kernel took it.

The route by which a namespace takes packets for its own is made by a work queue
(addrconf_dad_work in net/ipv6/addrconf.c), also for an address for which no duplicates
are looked for.  Until it is there, packets for the address are dropped as somebody
else's: 10 of 100 that were sent right after an ADD.
"""

from __future__ import annotations

import struct
import time
from collections.abc import Iterable
from ipaddress import IPv6Interface
from typing import Final

from eniplug.core.kernel import uapi
from eniplug.core.kernel.attributes import attribute
from eniplug.core.kernel.namespace import Namespace
from eniplug.core.kernel.netlink import Message, NetlinkError
from eniplug.hooks import Address, Object
from eniplug.hooks.errors import KernelError

WITHIN: Final = 5.0
"""Seconds that it may take; microseconds as a rule."""

PAUSE: Final = 0.0001

_ROUTE: Final = struct.Struct("=BBBBBBBBI")


def await_usable(place: Namespace, objects: Iterable[Object]) -> None:
    """Wait until a namespace takes its IPv6 addresses for its own.

    Raises KernelError when that takes too long.
    """
    end = time.monotonic() + WITHIN
    for one in objects:
        if not isinstance(one, Address) or one.side is not place.side:
            continue
        address = one.address
        while isinstance(address, IPv6Interface) and not _is_local(place, address):
            if time.monotonic() > end:
                msg = f"{one} is not usable within {WITHIN:g} s"
                raise KernelError(msg, "see whether IPv6 is switched off in the pod")
            time.sleep(PAUSE)


def _is_local(place: Namespace, address: IPv6Interface) -> bool:
    """Ask where a packet for the address would go."""
    header = _ROUTE.pack(uapi.AF_INET6, 128, 0, 0, 0, 0, 0, 0, 0)
    body = header + attribute(uapi.RTA_DST, address.packed)
    try:
        found = place.ask(Message(uapi.RTM_GETROUTE, 0, body))
    except NetlinkError:
        return False  # nowhere yet
    kind: int = _ROUTE.unpack_from(found)[7]
    return kind == uapi.RTN_LOCAL
