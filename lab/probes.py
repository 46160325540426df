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
from contextlib import suppress
from ipaddress import IPv4Address

WITHIN = 1.0
"""Seconds that one try may take; the lab's round trip is well below a millisecond."""

TRIES = 3

_ECHO_REQUEST, _ECHO_REPLY = 8, 0
_IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE = 10, 3  # linux/in.h
_HEADERS = 28


def ping(
    address: str, size: int = 84, *, tries: int = TRIES, within: float = WITHIN
) -> bool:
    """Send an ICMP echo of ``size`` bytes in all, not to be fragmented."""
    mark = os.urandom(4)
    body = mark + bytes(size - _HEADERS - len(mark))
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP) as sock:
        sock.setsockopt(socket.IPPROTO_IP, _IP_MTU_DISCOVER, _IP_PMTUDISC_PROBE)
        for number in range(tries):
            with suppress(OSError):  # no route, or too large for the link
                sock.sendto(_echo(number, body), (address, 0))
                if _replied(sock, mark, within):
                    return True
    return False


def _echo(number: int, body: bytes) -> bytes:
    head = struct.pack("!BBHHH", _ECHO_REQUEST, 0, 0, os.getpid() & 0xFFFF, number)
    checksum = _checksum(head + body)
    return head[:2] + struct.pack("!H", checksum) + head[4:] + body


def _checksum(data: bytes) -> int:
    """Return the internet checksum (RFC 1071)."""
    even = data + bytes(len(data) % 2)
    total: int = sum(struct.unpack(f"!{len(even) // 2}H", even))
    while total >> 16:
        total = (total & 0xFFFF) + (total >> 16)
    return total ^ 0xFFFF


def _replied(sock: socket.socket, mark: bytes, within: float) -> bool:
    deadline = time.monotonic() + within
    while (left := deadline - time.monotonic()) > 0:
        if not select.select([sock], [], [], left)[0]:
            return False
        packet = sock.recv(65536)
        icmp = packet[4 * (packet[0] & 0x0F) :]
        if icmp[0] == _ECHO_REPLY and icmp[8:12] == mark:
            return True
    return False


class Mirror:
    """A TCP server that tells its callers the address it sees them with."""

    def __init__(self) -> None:
        """Listen in the calling thread's namespace, until `close`."""
        self._socket = socket.create_server(("", 0))
        self.port: int = self._socket.getsockname()[1]
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):  # closed
            while True:
                caller, (address, _) = self._socket.accept()
                with caller:
                    caller.sendall(address.encode())

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
    connection = http.client.HTTPConnection(address, timeout=WITHIN)
    try:
        connection.request("GET", "/")
        return connection.getresponse().read().decode().strip()
    except (OSError, http.client.HTTPException) as error:
        return f"({error})"
    finally:
        connection.close()


class Catcher:
    """A UDP socket in the namespace of the thread that made it."""

    def __init__(self) -> None:
        self._socket = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
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


def forge_and_send(source: str, address: str, port: int) -> None:
    """Send ``forged`` from a source that is not ours, then ``honest`` from our own.

    They take the same way, so a receiver whose first one is ``honest`` was never
    reached by the other.
    """
    text = b"forged"
    udp = struct.pack("!HHHH", 9, port, 8 + len(text), 0)
    ends = IPv4Address(source).packed + IPv4Address(address).packed
    # The kernel fills in total length, id and checksum (raw(7)).
    head = struct.pack("!BBHHHBBH", 0x45, 0, 0, 0, 0, 64, socket.IPPROTO_UDP, 0) + ends
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_RAW) as raw:
        raw.sendto(head + udp + text, (address, 0))
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"honest", (address, port))
