"""What others change in the node's network, heard as it happens.

Events are hints: they say where to look, never what is there.  A filter in the kernel
drops what we did ourselves (it bears the port id of one of our sockets) and what is
new and not in the place of something else, so that an ADD wakes nobody for long.

Not heard, and left to a look at everything now and then: a permanent neighbour that is
given another MAC address, a pod's link that is changed and not taken down, and sysctls
other than forwarding and rp_filter.
"""

from __future__ import annotations

import ctypes
import errno
import select
import socket
import struct
from collections.abc import Callable, Iterable, Mapping
from ipaddress import ip_address
from threading import Thread
from typing import Final, TypeAlias

import structlog
from attrs import define, field

from eniplug.core.kernel import decode, uapi
from eniplug.core.kernel.attributes import attributes
from eniplug.core.kernel.changes import slot
from eniplug.core.kernel.netlink import OUR_PORTS, PORTS, bind, is_ours, split
from eniplug.hooks import HOST
from eniplug.hooks.objects import Key

log = structlog.get_logger()

TableName: TypeAlias = tuple[str, str]
"""An nftables family and a table's name."""

OWN_LINKS: Final = 1 << 20
"""Links that we make have numbers from here on."""

GROUPS: Final = (
    uapi.RTNLGRP_LINK,
    uapi.RTNLGRP_NEIGH,
    uapi.RTNLGRP_TC,
    uapi.RTNLGRP_IPV4_IFADDR,
    uapi.RTNLGRP_IPV6_IFADDR,
    uapi.RTNLGRP_IPV4_ROUTE,
    uapi.RTNLGRP_IPV6_ROUTE,
    uapi.RTNLGRP_IPV4_RULE,
    uapi.RTNLGRP_IPV6_RULE,
    uapi.RTNLGRP_IPV4_NETCONF,
    uapi.RTNLGRP_IPV6_NETCONF,
)

BUFFER: Final = 4 << 20
"""Bytes of messages that may wait to be heard: some thousands."""

GATHER: Final = 0.02
"""Seconds for which more may come once something was heard: a thread that wakes for
each word takes the interpreter from those at whose work it listens."""

_RECEIVE: Final = 1 << 16
_FAMILIES: Final = {number: name for name, number in uapi.NFPROTO.items()}
_GET: Final[Mapping[int, int]] = {
    uapi.RTM_DELADDR: uapi.RTM_GETADDR,
    uapi.RTM_NEWROUTE: uapi.RTM_GETROUTE,
    uapi.RTM_DELROUTE: uapi.RTM_GETROUTE,
    uapi.RTM_DELRULE: uapi.RTM_GETRULE,
}
"""The request whose answer looks like a notification."""


@define
class Heard:
    """Where something may be otherwise than it was.

    ``slots`` are of objects that are gone or replaced (see `changes.slot`), ``links``
    of links whose state or settings changed, ``tables`` of nftables tables, with who
    changed them.  ``node`` stands for settings of the whole node; ``everything`` and
    ``every_table`` for all that there is, as when messages were lost.
    """

    slots: set[Key] = field(factory=set)
    links: set[str] = field(factory=set)
    tables: dict[TableName, str] = field(factory=dict)
    node: bool = False
    everything: bool = False
    every_table: bool = False

    def __bool__(self) -> bool:
        some = self.slots or self.links or self.tables
        return bool(some or self.node or self.everything or self.every_table)

    def add(self, other: Heard) -> None:
        """Take in what was heard since."""
        self.slots |= other.slots
        self.links |= other.links
        self.tables |= other.tables
        self.node |= other.node
        self.everything |= other.everything
        self.every_table |= other.every_table


class Watch(Thread):
    """Listens in the namespace of the thread that makes it, and calls ``tell``.

    ``is_own`` tells whether a port id is of a process that we run (nft).
    ``tell`` is called on this thread with what came since the last call.
    """

    def __init__(
        self,
        tell: Callable[[Heard], None],
        is_own: Callable[[int], bool],
        *,
        buffer: int = BUFFER,
    ) -> None:
        super().__init__(name="watch", daemon=True)
        self._tell = tell
        self._is_own = is_own
        self._route = listen(uapi.NETLINK_ROUTE, GROUPS, buffer)
        _attach_filter(self._route)
        self._nft = listen(uapi.NETLINK_NETFILTER, (uapi.NFNLGRP_NFTABLES,), buffer)
        self._end, self._over = socket.socketpair()

    def stop(self) -> None:
        """End."""
        self._end.close()
        if self.is_alive():
            self.join()
        for one in (self._route, self._nft, self._over):
            one.close()

    def run(self) -> None:
        """Hear until `stop`."""
        poll, end = select.poll(), select.poll()
        for one in (self._route, self._nft, self._over):
            poll.register(one, select.POLLIN)
        end.register(self._over, select.POLLIN)
        while True:
            poll.poll()
            if end.poll(1000 * GATHER):
                return
            heard = Heard()
            self._drain(self._route, heard, _hear_route)
            self._drain(self._nft, heard, self._hear_nft)
            if heard:
                self._tell(heard)

    def _drain(
        self,
        source: socket.socket,
        heard: Heard,
        hear: Callable[[bytes, Heard], None],
    ) -> None:
        while True:
            try:
                data = source.recv(_RECEIVE)
            except BlockingIOError:
                return
            except OSError as error:
                if error.errno != errno.ENOBUFS:
                    raise
                heard.everything = True
                heard.every_table |= source is self._nft
                continue
            try:
                hear(data, heard)
            except (KeyError, ValueError, struct.error):
                log.exception("a notification that is not understood")
                heard.everything = True

    def _hear_nft(self, data: bytes, heard: Heard) -> None:
        """A transaction's changes, and at its end who made it."""
        for kind, _, _, port, body in split(data):
            if is_ours(port) or self._is_own(port):
                continue
            if kind == uapi.NFT_MSG_NEWGEN:
                for table, author in heard.tables.items():
                    heard.tables[table] = author or _author(body)
                continue
            name = dict(attributes(body, 4)).get(uapi.NFTA_TABLE)
            if name is not None and body[0] in _FAMILIES:
                heard.tables.setdefault((_FAMILIES[body[0]], _text(name)), "")


def _hear_route(data: bytes, heard: Heard) -> None:
    for kind, _, _, _, body in split(data):
        if kind == uapi.RTM_NEWLINK:
            heard.links.add(decode.link(body).name)
        elif kind == uapi.RTM_NEWNETCONF:
            _hear_setting(body, heard)
        elif kind == uapi.RTM_DELNEIGH:
            _hear_neighbor(body, heard)
        elif kind in (uapi.RTM_DELQDISC, uapi.RTM_DELTFILTER):
            _hear_shaping(body, heard)
        elif kind in _GET:
            gone = decode.one(_GET[kind], body, HOST, _name_of)
            if gone is not None:
                heard.slots.add(slot(gone))


def _hear_setting(body: bytes, heard: Heard) -> None:
    (index,) = struct.unpack("=i", dict(attributes(body, 4))[uapi.NETCONFA_IFINDEX])
    name = _name_of(index) if index > 0 else None
    if name is not None:
        heard.links.add(name)
    heard.node |= index < 0


def _hear_shaping(body: bytes, heard: Heard) -> None:
    """What shapes a link is gone; the link's objects are looked at (struct tcmsg)."""
    (index,) = struct.unpack_from("=i", body, 4)
    name = _name_of(index)
    if name is not None:
        heard.links.add(name)


def _hear_neighbor(body: bytes, heard: Heard) -> None:
    """Not read as an object: one that is going is no longer permanent."""
    (index,) = struct.unpack_from("=i", body, 4)
    address = dict(attributes(body, 12)).get(uapi.NDA_DST)
    name = _name_of(index)
    if address is not None and name is not None and len(address) in (4, 16):
        heard.slots.add(("Neighbor", HOST, name, ip_address(address)))


def _name_of(index: int) -> str | None:
    try:
        return socket.if_indextoname(index)
    except (OSError, OverflowError):
        return None


def _author(body: bytes) -> str:
    a = dict(attributes(body, 4))
    pid = int.from_bytes(a.get(uapi.NFTA_GEN_PROC_PID, b""), "big")
    return f"{_text(a.get(uapi.NFTA_GEN_PROC_NAME, b''))} (process {pid})"


def _text(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


def listen(protocol: int, groups: Iterable[int], buffer: int) -> socket.socket:
    """Open a socket that hears groups; ``buffer`` bytes may wait there to be heard."""
    kind = socket.SOCK_RAW | socket.SOCK_CLOEXEC | socket.SOCK_NONBLOCK
    one = socket.socket(socket.AF_NETLINK, kind, protocol)
    one.setsockopt(socket.SOL_SOCKET, uapi.SO_RCVBUFFORCE, buffer)
    bind(one)  # one without a port is told nothing
    for group in groups:
        one.setsockopt(uapi.SOL_NETLINK, uapi.NETLINK_ADD_MEMBERSHIP, group)
    return one


# -- the filter ------------------------------------------------------------------------

_LOAD_WORD, _LOAD_HALF = 0x20, 0x28
_AND, _EQUAL, _ANY_BIT, _RETURN = 0x54, 0x15, 0x45, 0x06
_KEEP, _DROP = "keep", "drop"

_Step: TypeAlias = tuple[int, int, str, str]
"""Operation, operand, and the labels to go on at if true and if false."""


def _word(value: int) -> int:
    """A number of the machine's order, as the filter loads it."""
    return socket.htonl(value)


def _half(value: int) -> int:
    return socket.htons(value)


_SINGLE: Final = 36
"""Bytes of a notification of one setting; that of a new link's settings is longer."""

_PROGRAM: Final[Mapping[str, tuple[_Step, ...]]] = {
    "start": (
        (_LOAD_WORD, 12, "", ""),  # nlmsg_pid
        (_AND, _word(0xFFFFFFFF ^ (PORTS - 1)), "", ""),
        (_EQUAL, _word(OUR_PORTS), _DROP, ""),
        (_LOAD_HALF, 4, "", ""),  # nlmsg_type
        (_EQUAL, _half(uapi.RTM_NEWLINK), "link", ""),
        (_EQUAL, _half(uapi.RTM_NEWROUTE), "route", ""),
        (_EQUAL, _half(uapi.RTM_NEWNETCONF), "setting", ""),
        (_EQUAL, _half(uapi.RTM_DELADDR), _KEEP, ""),
        (_EQUAL, _half(uapi.RTM_DELROUTE), _KEEP, ""),
        (_EQUAL, _half(uapi.RTM_DELNEIGH), _KEEP, ""),
        (_EQUAL, _half(uapi.RTM_DELQDISC), _KEEP, ""),
        (_EQUAL, _half(uapi.RTM_DELTFILTER), _KEEP, ""),
        (_EQUAL, _half(uapi.RTM_DELRULE), _KEEP, _DROP),
    ),
    "link": (
        (_LOAD_WORD, 28, "", ""),  # ifi_change, all of it for a new link
        (_EQUAL, 0xFFFFFFFF, _DROP, ""),
        (_LOAD_WORD, 24, "", ""),  # ifi_flags
        (_ANY_BIT, _word(uapi.IFF_UP), "", _KEEP),
        (_LOAD_WORD, 20, "", ""),  # ifi_index
        (_ANY_BIT, _word(0xFFFFFFFF ^ (OWN_LINKS - 1)), _DROP, _KEEP),
    ),
    "route": (
        (_LOAD_HALF, 6, "", ""),  # nlmsg_flags
        (_ANY_BIT, _half(uapi.NLM_F_REPLACE), _KEEP, _DROP),
    ),
    "setting": (
        (_LOAD_WORD, 0, "", ""),  # nlmsg_len
        (_EQUAL, _word(_SINGLE), _KEEP, _DROP),
    ),
    _KEEP: ((_RETURN, 0xFFFFFFFF, "", ""),),
    _DROP: ((_RETURN, 0, "", ""),),
}
"""A classic BPF program over the message's header (linux/filter.h)."""


def _assemble() -> bytes:
    places: dict[str, int] = {}
    steps: list[_Step] = []
    for label, block in _PROGRAM.items():
        places[label] = len(steps)
        steps += block
    return b"".join(
        struct.pack(
            "=HBBI",
            operation,
            *(places[label] - at - 1 if label else 0 for label in labels),
            operand,
        )
        for at, (operation, operand, *labels) in enumerate(steps)
    )


def _attach_filter(one: socket.socket) -> None:
    program = _assemble()
    held = ctypes.create_string_buffer(program)
    one.setsockopt(
        socket.SOL_SOCKET,
        uapi.SO_ATTACH_FILTER,
        struct.pack("@HP", len(program) // 8, ctypes.addressof(held)),
    )
