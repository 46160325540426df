"""Elements of nftables' sets and maps, as messages and as nft's commands.

A pod's elements go to the kernel in one transaction of our own, without the nft
program: two take microseconds, where nft takes 3 ms.  The transaction is such that the
kernel has no reason to refuse it, for what is refused costs 16 to 40 ms: it waits for a
grace period before it goes back.  So nothing is made exclusively, and what stands in an
element's place is destroyed first.
"""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from ipaddress import ip_address
from itertools import groupby
from socket import AF_INET, AF_INET6, inet_pton
from threading import Lock
from typing import Final
from weakref import finalize

from eniplug.core.kernel import uapi
from eniplug.core.kernel.attributes import attribute, attributes, nest, text
from eniplug.core.kernel.netlink import GONE, Message, NetlinkError, Socket
from eniplug.hooks import NftElement
from eniplug.hooks.errors import KernelError
from eniplug.hooks.objects import NFT_PROTOCOLS

_SINCE: Final = (6, 3)
"""The Linux that came with NFT_MSG_DESTROYSETELEM, for which absence is success."""

_PROTOCOL_NAMES: Final = {number: name for name, number in NFT_PROTOCOLS.items()}


def can_destroy(release: str) -> bool:
    """Whether a kernel of this release (uname -r) knows NFT_MSG_DESTROYSETELEM."""
    found = re.match(r"(\d+)\.(\d+)", release)
    return found is not None and tuple(map(int, found.groups())) >= _SINCE


DESTROYS: Final = can_destroy(os.uname().release)


# -- messages --------------------------------------------------------------------------


def create(one: NftElement) -> tuple[Message, ...]:
    """Make an element; where the kernel can, in place of any other of its key."""
    body = _body(one, one.value)
    new = Message(uapi.NFT_MSG_NEWSETELEM, uapi.NLM_F_CREATE, body)
    return (delete(one), new) if DESTROYS else (new,)


def delete(one: NftElement) -> Message:
    """Delete an element, whatever its value."""
    kind = uapi.NFT_MSG_DESTROYSETELEM if DESTROYS else uapi.NFT_MSG_DELSETELEM
    return Message(kind, 0, _body(one))


def _body(one: NftElement, value: str = "") -> bytes:
    element = _data(uapi.NFTA_SET_ELEM_KEY, one.element)
    if value:
        element += _data(uapi.NFTA_SET_ELEM_DATA, value)
    return (
        bytes((uapi.NFPROTO[one.family], 0, 0, 0))
        + text(uapi.NFTA_SET_ELEM_LIST_TABLE, one.table)
        + text(uapi.NFTA_SET_ELEM_LIST_SET, one.set)
        + nest(
            uapi.NFTA_SET_ELEM_LIST_ELEMENTS,
            nest(uapi.NFTA_LIST_ELEM, element),
        )
    )


def _data(kind: int, value: str) -> bytes:
    return nest(kind, attribute(uapi.NFTA_DATA_VALUE, pack(value)))


def pack(value: str) -> bytes:
    """Pack what nft writes; parts of a concatenation fill four bytes each."""
    parts = value.split(" . ")
    if len(parts) == 1:
        return _part(value)
    return b"".join(p + bytes(-len(p) & 3) for p in map(_part, parts))


def _part(value: str) -> bytes:
    if value in NFT_PROTOCOLS:
        return bytes((NFT_PROTOCOLS[value],))
    if value.isdecimal():
        return int(value).to_bytes(2, "big")
    return inet_pton(AF_INET6 if ":" in value else AF_INET, value)


def unpack(data: bytes, like: str) -> str:
    """Write as nft does what the kernel has in place of ``like``, of equal type."""
    found: list[str] = []
    for part in like.split(" . "):
        length = len(_part(part))
        mine, data = data[:length], data[length + (-length & 3) :]
        if part in NFT_PROTOCOLS:
            found.append(_PROTOCOL_NAMES.get(mine[0], str(mine[0])))
        elif part.isdecimal():
            found.append(str(int.from_bytes(mine, "big")))
        else:
            found.append(str(ip_address(mine)))
    return " . ".join(found)


# -- the kernel ------------------------------------------------------------------------


def of_nft(message: Message) -> bool:
    """Whether a message is for nftables, and so part of a transaction."""
    return message.type >> 8 == uapi.NFNL_SUBSYS_NFTABLES


def _transaction(numbered: tuple[int, Message]) -> int:
    number, message = numbered
    return number if message.type == uapi.NFT_MSG_DELSETELEM else -1


class Elements:
    """The elements that a namespace has.  Safe to call from many threads.

    The namespace is that of the first thread to call.  The socket stays open: to close
    one waits for the kernel to free what was deleted just now, 13 ms and more.
    """

    def __init__(self, connect: Callable[[int], Socket]) -> None:
        self._connect = connect
        self._socket: Socket | None = None
        self._lock = Lock()

    @contextmanager
    def _open(self) -> Generator[Socket]:
        with self._lock:
            if self._socket is None:
                self._socket = self._connect(uapi.NETLINK_NETFILTER)
                finalize(self, self._socket.close)
            yield self._socket

    def transact(self, messages: Sequence[Message]) -> dict[int, NetlinkError]:
        """Have messages carried out in one transaction; returns errors by position.

        A deletion that absence would refuse is a transaction of its own.
        """
        refused: dict[int, NetlinkError] = {}
        start = 0
        with self._open() as socket:
            for _, group in groupby(enumerate(messages), _transaction):
                part = [message for _, message in group]
                errors = socket.transact(part)
                refused |= {start + position: e for position, e in errors.items()}
                start += len(part)
        return refused

    def value_of(self, one: NftElement) -> str | None:
        """Return its present value, empty in a set; None when it is not there.

        Raises KernelError.
        """
        try:
            with self._open() as socket:
                body = socket.get(Message(uapi.NFT_MSG_GETSETELEM, 0, _body(one)))
        except NetlinkError as error:
            if error.errno in GONE:
                return None
            msg = f"reading {one}: {error.strerror}"
            raise KernelError(msg) from error
        listed = dict(attributes(body, 4))[uapi.NFTA_SET_ELEM_LIST_ELEMENTS]
        element = dict(attributes(dict(attributes(listed))[uapi.NFTA_LIST_ELEM]))
        if not one.value or uapi.NFTA_SET_ELEM_DATA not in element:
            return ""
        data = dict(attributes(element[uapi.NFTA_SET_ELEM_DATA]))
        return unpack(data[uapi.NFTA_DATA_VALUE], one.value)


# -- the program -----------------------------------------------------------------------


def command(one: NftElement) -> str:
    """Write nft's command that adds an element."""
    value = f" : {one.value}" if one.value else ""
    place = f"{one.family} {one.table} {one.set}"
    return f"add element {place} {{ {one.element}{value} }}"
