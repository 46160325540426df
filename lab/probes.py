"""Packets that prove something; each function runs in the calling thread's namespace.

They need no tools in the machine and take milliseconds.
"""

from __future__ import annotations

import http.client
import os
import select
import socket
import struct
import threading
import time
from collections.abc import Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import TypeAlias

from attrs import frozen

from eniplug.lab.fabric import six

Address: TypeAlias = IPv4Address | IPv6Address

WITHIN = 1.0
"""Seconds that one try may take; the lab's round trip is well below a millisecond."""

TRIES = 3


@frozen
class _Echo:
    """How ICMP echo goes in one family (RFC 792; RFC 4443, section 4)."""

    family: int
    protocol: int
    request: int
    reply: int
    headers: int
    """Bytes of IP and ICMP headers."""

    probe: tuple[int, int, int]
    """The socket option that forbids to fragment (linux/in.h, linux/in6.h)."""


_ECHOES: Mapping[int, _Echo] = {
    4: _Echo(socket.AF_INET, socket.IPPROTO_ICMP, 8, 0, 28, (socket.IPPROTO_IP, 10, 3)),
    6: _Echo(
        socket.AF_INET6,
        socket.IPPROTO_ICMPV6,
        128,
        129,
        48,
        (socket.IPPROTO_IPV6, 23, 3),
    ),
}


def ping(
    address: str, size: int = 84, *, tries: int = TRIES, within: float = WITHIN
) -> bool:
    """Send an ICMP echo of ``size`` bytes in all, not to be fragmented."""
    echo = _ECHOES[ip_address(address).version]
    mark = os.urandom(4)
    body = mark + bytes(size - echo.headers - len(mark))
    with socket.socket(echo.family, socket.SOCK_RAW, echo.protocol) as sock:
        sock.setsockopt(*echo.probe)
        for number in range(tries):
            with suppress(OSError):  # no route, or too large for the link
                sock.sendto(_request(echo, number, body), (address, 0))
                if _replied(sock, echo, mark, within):
                    return True
    return False


def _request(echo: _Echo, number: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHH", echo.request, 0, 0, os.getpid() & 0xFFFF, number)
    # Of ICMPv6 the kernel fills the checksum in itself (RFC 3542, section 3.1).
    return head[:2] + struct.pack("!H", _checksum(head + body)) + head[4:] + body


def _checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071)."""
    even = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _replied(sock: socket.socket, echo: _Echo, mark: bytes, within: float) -> bool:
    deadline = time.monotonic() + within
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([sock], [], [], left)[0]:
            return False
        packet = sock.recv(65536)
        # A raw socket shows the IP header of IPv4, and none of IPv6.
        start = 4 * (packet[0] & 0x0F) if echo.family == socket.AF_INET else 0
        if packet[start] == echo.reply and packet[start + 8 : start + 12] == mark:
            return True
    return False


def unmapped(address: str) -> str:
    """Return a mapped address (RFC 4291, 2.5.5.2) as the IPv4 address it is."""
    parsed = ip_address(address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed)


class Mirror:
    """A TCP server that tells its callers the address it sees them with."""

    def __init__(self, port: int = 0) -> None:
        """Listen in the calling thread's namespace, until `close`; 0: any port."""
        self._socket = socket.create_server(
            ("", port),
            family=socket.AF_INET6 if six() else socket.AF_INET,
            dualstack_ipv6=six(),
        )
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                caller, where = self._socket.accept()
                with caller:
                    caller.sendall(unmapped(where[0]).encode())

    def close(self) -> None:
        """Stop listening."""
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


def ask(address: str, port: int) -> str:
    """Return the address that a `Mirror` sees us with, or the error in brackets."""
    try:
        with socket.create_connection((address, port), WITHIN) as sock:
            return sock.recv(100).decode()
    except OSError as error:
        return f"({error})"


def fetch(address: str) -> str:
    """Return the body of http://address/, or the error in brackets."""
    # Without the port, http.client takes the end of an IPv6 address for it.
    connection = http.client.HTTPConnection(address, 80, timeout=WITHIN)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        return f"({error})"
    finally:
        connection.close()


def has_route(address: str) -> bool:
    """Tell whether there is any way to an address."""
    family = _ECHOES[ip_address(address).version].family
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        try:
            sock.connect((address, 9))
        except OSError:
            return False
    return True


class Catcher:
    """A UDP socket in the namespace of the thread that made it."""

    def __init__(self) -> None:
        family = socket.AF_INET6 if six() else socket.AF_INET  # IPv6 takes both
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.settimeout(WITHIN)
        self._socket.bind(("", 0))
        self.port: int = self._socket.getsockname()[1]

    def first(self) -> bytes | None:
        """Return the first datagram, or None when none came."""
        try:
            return self._socket.recv(100)
        except TimeoutError:
            return None

    def close(self) -> None:
        """Give the port back."""
        self._socket.close()


def forge_and_send(source: str, address: str, port: int, link: str = "") -> None:
    """Send ``forged`` from a source that is not ours, then ``honest`` from our own.

    They take the same way, by ``link`` if it is told, so a receiver whose first one is
    ``honest`` was never reached by the other.
    """
    by = link.encode()
    packet = _datagram(ip_address(source), ip_address(address), port, b"forged")
    family = _ECHOES[ip_address(address).version].family
    with socket.socket(family, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, by)
        raw.sendto(packet, (address, 0))
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, by)
        sock.sendto(b"honest", (address, port))


def _datagram(source: Address, target: Address, port: int, text: bytes) -> bytes:
    """Write a UDP datagram with its IP header, whatever addresses are ours."""
    ends, size = source.packed + target.packed, 8 + len(text)
    udp = struct.pack("!HHHH", 9, port, size, 0)
    if source.version == 4:  # noqa: PLR2004
        # The kernel fills in total length, id and checksum (raw(7)).
        head = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0)
        return head + ends + udp + text
    head = struct.pack("!IHBB", 6 << 28, size, socket.IPPROTO_UDP, 64)
    # With IPv6 a checksum is a duty (RFC 8200, section 8.1).
    pseudo = ends + struct.pack("!II", size, socket.IPPROTO_UDP)
    udp = udp[:6] + struct.pack("!H", _checksum(pseudo + udp + text) or 0xFFFF)
    return head + ends + udp + text
