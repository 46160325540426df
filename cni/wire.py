"""What the executable and the agent say to each other, over a unix stream socket.

Request: ``eniplug`` and a version byte, u32 length of the rest (at most 1 MiB), then a
16-byte request id, u16 count of variables, each as u16 length and ``KEY=VALUE``, and
u32 length and bytes of standard input.  With the first byte travels at most one
descriptor: the pod's network namespace.  Answer: version byte, exit status byte, u32
length, standard output.  All numbers are little-endian.
"""

from __future__ import annotations

import os
import struct
from collections.abc import Mapping, Sequence
from typing import Final

from attrs import frozen

MAGIC: Final = b"eniplug\x01"
VERSION: Final = MAGIC[-1]
LIMIT: Final = 1 << 20
ID_LENGTH: Final = 16
TRAVELS: Final = ("CNI_", "TRACEPARENT", "TRACESTATE")

_HEADER: Final = struct.Struct("<8sI")
_ANSWER: Final = struct.Struct("<BBI")
_U16: Final = struct.Struct("<H")
_U32: Final = struct.Struct("<I")


class WireError(Exception):
    """What came is no request (or answer) of a version that is spoken here."""


@frozen(kw_only=True)
class Request:
    """One request; ``netns`` is a descriptor that its holder closes, or None."""

    id: bytes
    environ: Mapping[str, str]
    stdin: bytes
    netns: int | None = None


def encode_request(
    request_id: bytes, environ: Mapping[str, str], stdin: bytes
) -> bytes:
    """Encode a request; of ``environ`` only what `TRAVELS` says goes along.

    Raises WireError when it is longer than 1 MiB.
    """
    pairs = [
        os.fsencode(f"{key}={value}")
        for key, value in environ.items()
        if key.startswith(TRAVELS)
    ]
    body = b"".join(
        (
            request_id,
            _U16.pack(len(pairs)),
            *(_U16.pack(len(pair)) + pair for pair in pairs),
            _U32.pack(len(stdin)),
            stdin,
        )
    )
    if len(body) > LIMIT:
        msg = f"the request has {len(body)} bytes, more than {LIMIT}"
        raise WireError(msg)
    return _HEADER.pack(MAGIC, len(body)) + body


def decode_body(body: bytes, netns: int | None = None) -> Request:
    """Decode what follows a request's header. Raises WireError."""
    try:
        request_id = body[:ID_LENGTH]
        (count,) = _U16.unpack_from(body, ID_LENGTH)
        at = ID_LENGTH + _U16.size
        environ: dict[str, str] = {}
        for _ in range(count):
            (length,) = _U16.unpack_from(body, at)
            pair = body[at + _U16.size : at + _U16.size + length]
            at += _U16.size + length
            key, equals, value = os.fsdecode(pair).partition("=")
            if not equals or len(pair) != length or not key.startswith(TRAVELS):
                msg = "a variable is not KEY=VALUE"
                raise WireError(msg)
            environ[key] = value
        (length,) = _U32.unpack_from(body, at)
    except struct.error as error:
        msg = "the request ends too early"
        raise WireError(msg) from error
    stdin = body[at + _U32.size :]
    if len(stdin) != length:
        msg = f"standard input has {len(stdin)} bytes, not {length}"
        raise WireError(msg)
    return Request(id=request_id, environ=environ, stdin=stdin, netns=netns)


class Reader:
    """Takes a request in pieces; ``request`` is there once it is whole.

    It never holds more than one request, and keeps one descriptor at most.
    """

    def __init__(self) -> None:
        self._data = bytearray()
        self._netns: int | None = None
        self.request: Request | None = None

    def feed(self, data: bytes, descriptors: Sequence[int]) -> None:
        """Take bytes and descriptors as they come. Raises WireError."""
        for descriptor in descriptors:
            if self._netns is None and not self._data and self.request is None:
                self._netns = descriptor
            else:
                os.close(descriptor)
        try:
            self._take(data)
        except WireError:
            self.close()
            raise

    def _take(self, data: bytes) -> None:
        if self.request is not None and data:
            msg = "more came than one request"
            raise WireError(msg)
        self._data += data
        known = bytes(self._data[: len(MAGIC)])
        if not MAGIC.startswith(known):
            msg = f"no request of version {VERSION} begins with {known!r}"
            raise WireError(msg)
        if len(self._data) < _HEADER.size:
            return
        _, length = _HEADER.unpack_from(self._data)
        if length > LIMIT:
            msg = f"the request has {length} bytes, more than {LIMIT}"
            raise WireError(msg)
        whole = _HEADER.size + length
        if len(self._data) > whole:
            msg = "more came than one request"
            raise WireError(msg)
        if len(self._data) == whole:
            body = bytes(self._data[_HEADER.size :])
            self.request = decode_body(body, self._netns)
            self._netns = None  # it is the request's from here on

    def close(self) -> None:
        """Give up: close what came along."""
        self._data.clear()
        if self._netns is not None:
            os.close(self._netns)
            self._netns = None


def encode_answer(status: int, stdout: bytes) -> bytes:
    """Encode an answer."""
    return _ANSWER.pack(VERSION, status, len(stdout)) + stdout


def decode_answer(data: bytes) -> tuple[int, bytes] | None:
    """Decode an answer to exit status and standard output; None while it is not whole.

    Raises WireError.
    """
    if data and data[0] != VERSION:
        msg = f"the answer has version {data[0]}, not {VERSION}"
        raise WireError(msg)
    if len(data) < _ANSWER.size:
        return None
    _, status, length = _ANSWER.unpack_from(data)
    stdout = data[_ANSWER.size :]
    if len(stdout) > length:
        msg = "more came than one answer"
        raise WireError(msg)
    return (status, stdout) if len(stdout) == length else None
