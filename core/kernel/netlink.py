"""Transport: plain netlink sockets.

One socket is used by one thread at a time.  The kernel works a batch off inside
``send``, so when it returns every answer is queued.  Refusals are always answered,
success only where NLM_F_ACK is set: it is set on the last message of a batch.  A batch
is not a transaction: the kernel goes on after a message that it refused.
"""

from __future__ import annotations

import errno
import os
import random
import socket
import struct
from collections.abc import Iterator, Sequence
from itertools import count
from typing import Final, NamedTuple, Self

from eniplug.core.kernel.attributes import attributes
from eniplug.core.kernel.uapi import (
    NETLINK_CAP_ACK,
    NETLINK_EXT_ACK,
    NETLINK_GET_STRICT_CHK,
    NETLINK_ROUTE,
    NFNL_MSG_BATCH_BEGIN,
    NFNL_MSG_BATCH_END,
    NFNL_SUBSYS_NFTABLES,
    NLM_F_ACK,
    NLM_F_ACK_TLVS,
    NLM_F_DUMP,
    NLM_F_DUMP_INTR,
    NLM_F_REQUEST,
    NLMSG_DONE,
    NLMSG_ERROR,
    NLMSGERR_ATTR_MSG,
    SOL_NETLINK,
)

GONE: Final = frozenset({errno.ENOENT, errno.ESRCH, errno.ENODEV, errno.EADDRNOTAVAIL})
"""The kernel's words for: it was not there.  When removing, that is success."""

AT_ONCE: Final = 100
"""Messages in one send: their refusals must fit in the socket's receive buffer."""

OUR_PORTS: Final = 0x65000000
"""The port ids of our sockets: this and a number below `PORTS`.

A notification bears the port of whoever caused it (netlink(7), nl_pid), so what we did
ourselves can be told.
"""

PORTS: Final = 1 << 24

_HEADER: Final = struct.Struct("=IHHII")
_CODE: Final = struct.Struct("=i")
_ANSWER: Final = struct.Struct("=IHHIIi")  # a header, and the code of NLMSG_ERROR
_RECEIVE: Final = 1 << 16
_INTERRUPTED_TRIES: Final = 5


class Message(NamedTuple):
    """One request without its header: type, flags beside NLM_F_REQUEST, payload."""

    type: int
    flags: int
    body: bytes


_OF_NFTABLES: Final = struct.pack("!BBH", 0, 0, NFNL_SUBSYS_NFTABLES)
_BEGIN: Final = Message(NFNL_MSG_BATCH_BEGIN, 0, _OF_NFTABLES)
_END: Final = Message(NFNL_MSG_BATCH_END, 0, _OF_NFTABLES)


class NetlinkError(OSError):
    """The kernel refused a message; ``words`` are its own and the code's."""

    def __init__(self, code: int, words: str = "") -> None:
        text = os.strerror(code)
        self.words = f"{text} ({words})" if words else text
        super().__init__(code, self.words)


_ports: Final = count(random.randrange(PORTS))


def is_ours(port: int) -> bool:
    """Whether a notification's port id is one of our sockets'."""
    return port & ~(PORTS - 1) == OUR_PORTS


def bind(one: socket.socket) -> None:
    """Take a port of ours that no socket of this namespace has."""
    while True:
        try:
            one.bind((OUR_PORTS | next(_ports) % PORTS, 0))
        except OSError as error:
            if error.errno != errno.EADDRINUSE:
                raise
        else:
            return


class Socket:
    """A netlink socket of the network namespace in which it was made."""

    def __init__(self, protocol: int = NETLINK_ROUTE) -> None:
        self._socket = socket.socket(
            socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, protocol
        )
        for option in (NETLINK_CAP_ACK, NETLINK_EXT_ACK, NETLINK_GET_STRICT_CHK):
            self._socket.setsockopt(SOL_NETLINK, option, 1)
        bind(self._socket)
        self._sequence = 1

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """Give the descriptor back."""
        self._socket.close()

    def send(self, messages: Sequence[Message]) -> dict[int, NetlinkError]:
        """Have the messages carried out in their order.

        Returns the refused ones by position; all others were carried out.
        """
        refused: dict[int, NetlinkError] = {}
        for start in range(0, len(messages), AT_ONCE):
            batch = messages[start : start + AT_ONCE]
            last = len(batch) - 1
            first = self._write(batch, acked=last)
            for position, error in self._refusals(first, first + last):
                refused[start + position] = error
        return refused

    def transact(self, messages: Sequence[Message]) -> dict[int, NetlinkError]:
        """Have messages to nftables carried out in one transaction: all or none.

        Returns none, or every position with its error; ECANCELED for what was refused
        because of the others only.
        """
        first = self._write((_BEGIN, *messages, _END), acked=len(messages))
        refused: dict[int, NetlinkError] = {}
        for position, error in self._refusals(first, first + len(messages)):
            if position == 0:  # the transaction as such, and no more answers follow
                return dict.fromkeys(range(len(messages)), error)
            refused[position - 1] = error
        if refused:
            for position in range(len(messages)):
                refused.setdefault(position, NetlinkError(errno.ECANCELED))
        return refused

    def _refusals(self, first: int, last: int) -> Iterator[tuple[int, NetlinkError]]:
        """Read answers up to that to ``last``; yields errors by position."""
        while True:
            data = self._socket.recv(_RECEIVE)
            _, kind, _, sequence, _, code = _ANSWER.unpack_from(data)
            if sequence == last and kind == NLMSG_ERROR and not code:
                return  # at once as a rule: nothing was refused
            for kind, flags, sequence, _, payload in split(data):
                if kind != NLMSG_ERROR or not first <= sequence <= last:
                    continue
                code = -_CODE.unpack_from(payload)[0]
                if code:
                    yield sequence - first, NetlinkError(code, _words(flags, payload))
                if sequence == last:
                    return

    def get(self, message: Message) -> bytes:
        """Ask for one thing; returns the answer's payload.  Raises NetlinkError."""
        sequence = self._ask(message, 0)
        while True:
            for kind, flags, got, _, payload in self._receive():
                if got != sequence:
                    continue
                if kind == NLMSG_ERROR:
                    raise NetlinkError(
                        -_CODE.unpack_from(payload)[0], _words(flags, payload)
                    )
                return payload

    def dump(self, message: Message) -> list[bytes]:
        """Ask for many things; returns the answers' payloads.  Raises NetlinkError.

        A dump during which the kernel's tables changed is asked for again.
        """
        bodies: list[bytes] = []
        for _ in range(_INTERRUPTED_TRIES):
            whole, bodies = self._dump(message)
            if whole:
                break
        return bodies

    def _dump(self, message: Message) -> tuple[bool, list[bytes]]:
        sequence = self._ask(message, NLM_F_DUMP)
        bodies: list[bytes] = []
        whole = True
        while True:
            for kind, flags, got, _, payload in self._receive():
                if got != sequence:
                    continue
                whole = whole and not flags & NLM_F_DUMP_INTR
                if kind in (NLMSG_ERROR, NLMSG_DONE):
                    code = -_CODE.unpack_from(payload)[0] if payload else 0
                    if code:
                        words = _words(flags, payload) if kind == NLMSG_ERROR else ""
                        raise NetlinkError(code, words)
                    return whole, bodies
                bodies.append(payload)

    def _ask(self, message: Message, flags: int) -> int:
        return self._write((message._replace(flags=message.flags | flags),))

    def _write(self, messages: Sequence[Message], acked: int = -1) -> int:
        """Send messages in one datagram; returns the first one's sequence number.

        The one at position ``acked`` is answered though it is not refused.
        """
        first = self._sequence
        self._sequence = first + len(messages) & 0x3FFFFFFF
        parts: list[bytes] = []
        for position, (kind, flags, body) in enumerate(messages):
            body += bytes(-len(body) & 3)  # noqa: PLW2901
            flags |= NLM_F_REQUEST  # noqa: PLW2901
            if position == acked:
                flags |= NLM_F_ACK  # noqa: PLW2901
            number = first + position
            parts += _HEADER.pack(16 + len(body), kind, flags, number, 0), body
        self._socket.send(b"".join(parts))
        return first

    def _receive(self) -> Iterator[tuple[int, int, int, int, bytes]]:
        return split(self._socket.recv(_RECEIVE))


def split(data: bytes) -> Iterator[tuple[int, int, int, int, bytes]]:
    """Take one datagram apart: type, flags, sequence number, port id, payload."""
    at = 0
    while at < len(data):
        length, kind, flags, sequence, port = _HEADER.unpack_from(data, at)
        yield kind, flags, sequence, port, data[at + 16 : at + length]
        at += length + 3 & ~3


def _words(flags: int, payload: bytes) -> str:
    """The kernel's own words behind an error code and the refused header."""
    if flags & NLM_F_ACK_TLVS:
        for kind, value in attributes(payload, 20):
            if kind == NLMSGERR_ATTR_MSG:
                return value.rstrip(b"\0").decode(errors="replace")
    return ""
