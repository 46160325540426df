"""How fast a pod really receives: datagrams of one size, counted where they arrive."""

from __future__ import annotations

import socket
import threading
import time
from contextlib import suppress
from ipaddress import ip_address
from typing import Final

from eniplug.lab.fabric import six

FRAME: Final = 1514
"""Bytes of each frame: Ethernet, IP and UDP headers among them."""

_HEADERS: Final = {4: 42, 6: 62}
_BUFFER: Final = 4 << 20
_PACE: Final = 0.002


class Sink:
    """Counts datagrams in the namespace of the thread that made it."""

    def __init__(self) -> None:
        family = socket.AF_INET6 if six() else socket.AF_INET  # IPv6 takes both
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
        self._socket.bind(("", 0))
        self.port: int = self._socket.getsockname()[1]
        self.count = 0
        self._thread = threading.Thread(target=self._receive, daemon=True)
        self._thread.start()

    def _receive(self) -> None:
        with suppress(OSError):  # closed
            while self._socket.recv(1):
                self.count += 1

    def rate(self, seconds: float) -> float:
        """Count for so long; returns bits per second, in frames as they were sent."""
        began, before = time.monotonic(), self.count
        time.sleep(seconds)
        frames, took = self.count - before, time.monotonic() - began
        return 8 * FRAME * frames / took

    def close(self) -> None:
        """Count no more."""
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join()


class Stream:
    """Sends to a `Sink`, out of the namespace of the thread that made it."""

    def __init__(self, address: str, port: int, rate: float) -> None:
        """Send at ``rate`` bits per second until `close`."""
        version = ip_address(address).version
        family = socket.AF_INET if version == 4 else socket.AF_INET6  # noqa: PLR2004
        self._socket = socket.socket(family, socket.SOCK_DGRAM)
        self._socket.connect((address, port))
        self._datagram = bytes([1]) * (FRAME - _HEADERS[version])
        self._rate = rate
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._send, daemon=True)
        self._thread.start()

    def _send(self) -> None:
        began, sent = time.monotonic(), 0
        while not self._over.wait(_PACE):
            due = int((time.monotonic() - began) * self._rate / 8 / FRAME)
            for _ in range(sent, due):
                with suppress(OSError):  # refused: the sink is gone
                    self._socket.send(self._datagram)
            sent = due

    def close(self) -> None:
        """Send no more."""
        self._over.set()
        self._thread.join()
        self._socket.close()
