"""Netlink attributes: a length, a number and a content, padded to four bytes."""

from __future__ import annotations

import struct
from collections.abc import Callable, Container
from functools import partial
from ipaddress import IPv4Address
from socket import htonl
from typing import Final

from eniplug.core.kernel.uapi import NLA_F_NESTED, NLA_TYPE_MASK
from eniplug.hooks import Ip

_HEADER: Final = struct.Struct("=HH")

u32: Final[Callable[[int, int], bytes]] = partial(struct.Struct("=HHI").pack, 8)
"""Pack a number and a content of 32 bits, in the machine's order."""

_MAC: Final[Callable[[int, bytes], bytes]] = partial(struct.Struct("=HH6sxx").pack, 10)


def attribute(kind: int, data: bytes) -> bytes:
    """Pack one attribute, padded."""
    length = len(data)
    return _HEADER.pack(length + 4, kind) + data + bytes(-length & 3)


def nest(kind: int, *parts: bytes) -> bytes:
    """Pack attributes, which are padded, into one."""
    data = b"".join(parts)
    return _HEADER.pack(len(data) + 4, kind | NLA_F_NESTED) + data


def ip(kind: int, address: Ip) -> bytes:
    """Pack an address in the network's order."""
    if isinstance(address, IPv4Address):
        return u32(kind, htonl(int(address)))
    return attribute(kind, address.packed)


def text(kind: int, value: str) -> bytes:
    """Pack a string with its end mark."""
    return attribute(kind, value.encode() + b"\0")


def mac(kind: int, value: str) -> bytes:
    """Pack a MAC address."""
    return _MAC(kind, bytes.fromhex(value.replace(":", "")))


def attributes(data: bytes, at: int = 0) -> list[tuple[int, bytes]]:
    """Take attributes apart: number without its flags, and content."""
    found: list[tuple[int, bytes]] = []
    last = len(data) - _HEADER.size
    while at <= last:
        length, kind = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            break
        found.append((kind & NLA_TYPE_MASK, data[at + 4 : at + length]))
        at += length + 3 & ~3
    return found


def chosen(data: bytes, at: int, wanted: Container[int]) -> dict[int, bytes]:
    """Take out the few that are wanted of many attributes: half the time of all."""
    found: dict[int, bytes] = {}
    last = len(data) - _HEADER.size
    while at <= last:
        length, kind = _HEADER.unpack_from(data, at)
        if length < _HEADER.size:
            break
        kind &= NLA_TYPE_MASK
        if kind in wanted:
            found[kind] = data[at + 4 : at + length]
        at += length + 3 & ~3
    return found
