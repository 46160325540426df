r"""What the executable and the agent say to each other over the unix socket.

A request is ``b"eniplug"``, a version byte, the length of the body (u32, at most
1 MiB) and the body: 16 bytes of request id, the number of variables (u16), each as its
length (u16) and ``KEY=VALUE``, then the length (u32) and the bytes of standard input.
At most one descriptor, the pod's network namespace, comes with the first byte.  An
answer is a version byte, the exit status (one byte), a length (u32) and standard
output.  Numbers are little-endian.

A tombstone is a file that holds one request.
"""

from __future__ import annotations

import os
import re
import socket
import struct
from collections.abc import Iterable, Mapping
from typing import Final

from attrs import frozen

VERSION: Final = 1
"""The wire's own version; it is not CNI's."""

NAME: Final = b"eniplug"
MAGIC: Final = NAME + bytes((VERSION,))

LIMIT: Final = 1 << 20
"""Bytes of the longest body, and of the longest answer."""

ID_BYTES: Final = 16

_HEADER: Final = struct.Struct("<8sI")
_ANSWER: Final = struct.Struct("<BBI")
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")

ASK: Final = "ENIPLUG_ASK"
"""What an operator's command asks the agent, in place of CNI_COMMAND.

The executable never sends it: a container runtime cannot ask.
"""

ABOUT: Final = "ENIPLUG_ABOUT"
"""Whom the question is about."""

_TRAVELS: Final = re.compile(rf"CNI_|(?:TRACEPARENT|TRACESTATE|{ASK}|{ABOUT})\Z")
"""How the name of a variable begins that is sent: CNI's, the trace's, a question."""


class WireError(Exception):
    """What came is no request, or no answer, of this wire version."""


@frozen(kw_only=True)
class Request:
    """One request: ``id`` is the same in every repetition of it.

    ``netns`` is a descriptor that its holder closes, or None.  Bytes of a variable
    that are not UTF-8 are surrogates in ``environ``.
    """

    id: bytes
    environ: dict[str, str]
    stdin: bytes
    netns: int | None = None


def encode_request(id_: bytes, environ: Mapping[str, str], stdin: bytes) -> bytes:
    """Return a request's bytes; variables that do not travel are left out.

    Raises WireError when it is too long.
    """
    if len(id_) != ID_BYTES:
        raise WireError(f"a request id has {ID_BYTES} bytes, not {len(id_)}")
    pairs = [_bytes(f"{k}={v}") for k, v in environ.items() if _TRAVELS.match(k)]
    try:
        parts = [id_, _U16.pack(len(pairs))]
        for pair in pairs:
            parts += _U16.pack(len(pair)), pair
        parts += _U32.pack(len(stdin)), stdin
    except struct.error as error:
        raise WireError("a variable is too long, or there are too many") from error
    body = b"".join(parts)
    if len(body) > LIMIT:
        raise WireError(f"a request of {len(body)} bytes; the limit is {LIMIT}")
    return _HEADER.pack(MAGIC, len(body)) + body


class Reader:
    """Takes one connection's bytes and descriptors until they are a request.

    It never holds more than the longest request, and no descriptor but the first one:
    the rest are closed as they come.
    """

    def __init__(self) -> None:
        self.request: Request | None = None
        """The request, once it is complete; its descriptor is the caller's then."""
        self._buffer = bytearray()
        self._netns: int | None = None
        self._begun = False

    def feed(self, data: bytes, descriptors: Iterable[int] = ()) -> None:
        """Take what one recvmsg gave.

        Raises WireError as soon as it cannot become a request; every descriptor is
        closed then, and the connection is of no more use.
        """
        for descriptor in descriptors:
            if self._begun or self._netns is not None:
                os.close(descriptor)
            else:
                self._netns = descriptor
        self._begun = self._begun or bool(data)
        try:
            self._take(data)
        except WireError:
            self.close()
            raise

    def close(self) -> None:
        """Close the descriptor of a request that did not become complete."""
        if self._netns is not None:
            os.close(self._netns)
            self._netns = None

    def _take(self, data: bytes) -> None:
        if self.request is not None:
            if data:
                raise WireError("more than one request")
            return
        most = _HEADER.size + LIMIT + 1
        self._buffer += data[: most - len(self._buffer)]
        got = bytes(self._buffer[: len(MAGIC)])
        if not MAGIC.startswith(got):
            if got.startswith(NAME):
                raise WireError(f"wire version {got[-1]}; this is version {VERSION}")
            raise WireError("not a request of eniplug's executable")
        if len(self._buffer) < _HEADER.size:
            return
        _, length = _HEADER.unpack_from(self._buffer)
        if length > LIMIT:
            raise WireError(f"a request of {length} bytes; the limit is {LIMIT}")
        surplus = len(self._buffer) - _HEADER.size - length
        if surplus > 0:
            raise WireError("more than one request")
        if surplus == 0:
            self.request = _read(bytes(self._buffer[_HEADER.size :]), self._netns)
            self._netns = None
            self._buffer.clear()


def _read(body: bytes, netns: int | None) -> Request:
    """Take a request's body apart from the front.

    A length that is too great leads beyond the end, and is found there.
    """
    environ: dict[str, str] = {}
    try:
        (count,) = _U16.unpack_from(body, ID_BYTES)
        at = ID_BYTES + _U16.size
        for _ in range(count):
            (length,) = _U16.unpack_from(body, at)
            at += _U16.size + length
            pair = body[at - length : at].decode("utf-8", "surrogateescape")
            key, equals, value = pair.partition("=")
            if not (equals and _TRAVELS.match(key)) or key in environ or "\0" in value:
                raise WireError(f"{key!r} is no variable that travels, or comes twice")
            environ[key] = value
        (length,) = _U32.unpack_from(body, at)
        at += _U32.size
    except struct.error as error:
        raise WireError("the lengths in a request do not agree") from error
    if at + length != len(body):
        raise WireError("the lengths in a request do not agree")
    return Request(id=body[:ID_BYTES], environ=environ, stdin=body[at:], netns=netns)


def _bytes(value: str) -> bytes:
    return value.encode("utf-8", "surrogateescape")


def encode_answer(status: int, stdout: bytes) -> bytes:
    """Return an answer's bytes; raises WireError when it is too long."""
    if len(stdout) > LIMIT:
        raise WireError(f"an answer of {len(stdout)} bytes; the limit is {LIMIT}")
    return _ANSWER.pack(VERSION, status, len(stdout)) + stdout


def decode_answer(data: bytes) -> tuple[int, bytes] | None:
    """Return an answer's exit status and standard output; None while it is not whole.

    Raises WireError when it cannot become one answer.
    """
    if data and data[0] != VERSION:
        raise WireError(f"an answer of wire version {data[0]}; this is {VERSION}")
    if len(data) < _ANSWER.size:
        return None
    _, status, length = _ANSWER.unpack_from(data)
    surplus = len(data) - _ANSWER.size - length
    if length > LIMIT or surplus > 0:
        raise WireError("an answer is longer than it may be")
    return None if surplus else (status, data[_ANSWER.size :])


def read_answer(connection: socket.socket) -> tuple[int, bytes]:
    """Receive an answer: exit status and standard output.

    Raises WireError when the connection ends before it does or it is no answer, and
    OSError as the socket does.
    """
    data = b""
    while (answer := decode_answer(data)) is None:
        piece = connection.recv(1 << 16)
        if not piece:
            raise WireError("the agent closed the connection before its answer")
        data += piece
    return answer
