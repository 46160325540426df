"""Netlink attributes: a length, a number and a content, padded to four bytes."""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import Final

from eniplug.core.kernel.uapi import NLA_F_NESTED, NLA_TYPE_MASK

_HEADER: Final = struct.Struct("=HH")
_U32: Final = struct.Struct("=HHI")


def attribute(kind: int, data: bytes) -> bytes:
    """Pack one attribute, padded."""
    length = len(data)
    return _HEADER.pack(length + 4, kind) + data + bytes(-length & 3)


def nest(kind: int, *parts: bytes) -> bytes:
    """Pack attributes into one."""
    return attribute(kind | NLA_F_NESTED, b"".join(parts))


def u32(kind: int, value: int) -> bytes:
    """Pack an attribute of 32 bits in the machine's order."""
    return _U32.pack(8, kind, value)


def text(kind: int, value: str) -> bytes:
    """Pack a string with its end mark."""
    return attribute(kind, value.encode() + b"\0")


def mac(kind: int, value: str) -> bytes:
    """Pack a MAC address."""
    return attribute(kind, bytes.fromhex(value.replace(":", "")))


def attributes(data: bytes, at: int = 0) -> Iterator[tuple[int, bytes]]:
    """Take attributes apart: number without its flags, and content."""
    end = len(data)
    while at + 4 <= end:
        length, kind = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            return
        yield kind & NLA_TYPE_MASK, data[at + 4 : at + length]
        at += length + 3 & ~3
