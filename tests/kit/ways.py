"""Which way a packet takes, and connections that must not notice a change."""

from __future__ import annotations

import os
import socket
import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import ip_address

from attrs import define, field

from eniplug.lab.netns import Inside

WITHIN = 5.0

_ALL = socket.htons(3)  # ETH_P_ALL
_OUTGOING = 4  # PACKET_OUTGOING


def way_out(node: Inside, pod: Inside, to: str) -> tuple[str, str]:
    """Return the ENI by which a datagram leaves, and its source at that moment."""
    mark = os.urandom(8)
    with node.call(socket.socket, socket.AF_PACKET, socket.SOCK_DGRAM, _ALL) as seen:
        pod.call(_send, to, mark)
        end = time.monotonic() + WITHIN
        while (left := end - time.monotonic()) > 0:
            seen.settimeout(left)
            data, (link, _, direction, *_) = seen.recvfrom(2048)
            if mark in data and link.startswith("ens") and direction == _OUTGOING:
                source = data[12:16] if data[0] >> 4 == 4 else data[8:24]
                return link, str(ip_address(source))
    msg = f"nothing left for {to}"
    raise AssertionError(msg)


def _send(to: str, data: bytes) -> None:
    family = socket.AF_INET6 if ":" in to else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(data, (to, 9))


@define
class Stream:
    """What became of one connection."""

    rounds: int = 0
    slowest: float = 0.0
    broken: str = ""
    _over: threading.Event = field(factory=threading.Event)

    def run(self, address: str, patience: float) -> None:
        """Send and get back each millisecond, over one TCP connection."""
        try:
            with socket.create_connection((address, 7), patience) as sock:
                while not self._over.wait(0.001):
                    began = time.monotonic()
                    sock.sendall(b"%08d" % self.rounds)
                    assert sock.recv(100) == b"%08d" % self.rounds
                    self.slowest = max(self.slowest, time.monotonic() - began)
                    self.rounds += 1
        except OSError as error:
            self.broken = f"after {self.rounds}: {error}"

    def end(self) -> None:
        """Let the connection end."""
        self._over.set()


@contextmanager
def stream(namespace: str, address: str, patience: float = WITHIN) -> Generator[Stream]:
    """Keep an echo going from a namespace; it must be whole at the end.

    It is broken when nothing comes back for so many seconds.
    """
    found, inside = Stream(), Inside(namespace)
    thread = threading.Thread(target=inside.call, args=(found.run, address, patience))
    thread.start()
    try:
        yield found
    finally:
        found.end()
        thread.join(2 * WITHIN)
        inside.close()
    assert found.broken == ""
