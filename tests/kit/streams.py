"""Streams between namespaces that are always more than fits, and what arrives of them.

Small ones are UDP, somewhat faster than what may pass, so that a token bucket is never
left to fill up again; large ones TCP, which needs this process less often.
"""

from __future__ import annotations

import selectors
import socket
import time
from collections.abc import Generator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from threading import Event, Thread
from typing import Self

from attrs import frozen

from eniplug.core.kernel.home import Home

LARGE = 50.0
"""Mbit/s from which on a stream is TCP."""

_MORE = 1.5
_ZEROS = bytes(1 << 16)
_LOOK = 0.005
_ETHERNET, _TCP, _UDP = 14, 32, 8
_IP = {4: 20, 6: 40}


@frozen
class Counted:
    """What a link has received until ``when`` (monotonic seconds)."""

    when: float
    bytes: int
    packets: int

    @classmethod
    def at(cls, netns: int, link: str = "eth0") -> Self:
        """Read a link's counters."""
        lines = (
            Home()
            .visit(netns, Path("/proc/thread-self/net/dev").read_text)
            .splitlines()
        )
        (line,) = [line for line in lines if line.strip().startswith(f"{link}:")]
        count, packets, *_ = line.partition(":")[2].split()
        return cls(time.monotonic(), int(count), int(packets))


@frozen(kw_only=True)
class Stream:
    """From one namespace to an address in another, where ``mbit`` a second may pass."""

    source: int
    sink: int
    address: str
    mbit: float
    mtu: int

    @property
    def family(self) -> int:
        """4 or 6."""
        return 6 if ":" in self.address else 4

    @property
    def size(self) -> int:
        """Bytes of payload of a UDP datagram that fills a frame."""
        return self.mtu - _IP[self.family] - _UDP

    def rate(self, before: Counted, after: Counted) -> float:
        """Mbit a second that arrived, Ethernet headers counted.

        A veth hands many TCP segments over as one packet with one header (GSO); on a
        wire, and in a token bucket, each has its own.
        """
        size: float = after.bytes - before.bytes
        if self.mbit >= LARGE:
            header = _ETHERNET + _IP[self.family] + _TCP
            payload = size - header * (after.packets - before.packets)
            size = payload + payload / (self.mtu + _ETHERNET - header) * header
        return size * 8e-6 / (after.when - before.when)


@contextmanager
def streaming(streams: Sequence[Stream]) -> Generator[None]:
    """Keep streams going."""
    with ExitStack() as stack, selectors.DefaultSelector() as ready:
        paced: list[tuple[Stream, socket.socket]] = []
        for stream in streams:
            family = socket.AF_INET if stream.family == 4 else socket.AF_INET6
            if stream.mbit < LARGE:
                make = partial(socket.socket, family, socket.SOCK_DGRAM)
                sink = stack.enter_context(Home().visit(stream.sink, make))
                sink.bind((stream.address, 0))
                sender = stack.enter_context(Home().visit(stream.source, make))
                sender.connect(sink.getsockname())
                sender.setblocking(False)
                paced.append((stream, sender))
                continue
            listen = partial(socket.create_server, (stream.address, 0), family=family)
            with Home().visit(stream.sink, listen) as server:
                sender = Home().visit(stream.source, partial(socket.socket, family))
                stack.enter_context(sender).settimeout(5)
                sender.connect(server.getsockname())
                receiver = stack.enter_context(server.accept()[0])
            for end, event in (
                (sender, selectors.EVENT_WRITE),
                (receiver, selectors.EVENT_READ),
            ):
                end.setblocking(False)
                ready.register(end, event)
        over = Event()
        threads = (
            Thread(target=_pump, args=(ready, over)),
            Thread(target=_pace, args=(paced, over)),
        )
        for thread in threads:
            thread.start()
        try:
            yield
        finally:
            over.set()
            for thread in threads:
                thread.join()


def _pace(streams: list[tuple[Stream, socket.socket]], over: Event) -> None:
    began = time.monotonic()
    sent = [0] * len(streams)
    while not over.wait(_LOOK):
        gone = time.monotonic() - began
        for number, (stream, sender) in enumerate(streams):
            while sent[number] * 8e-6 < stream.mbit * _MORE * gone:
                sent[number] += stream.size
                try:
                    sender.send(_ZEROS[: stream.size])
                except OSError:  # a queue is full, as it should be
                    break


def _pump(ready: selectors.BaseSelector, over: Event) -> None:
    buffer = bytearray(1 << 20)
    while not over.is_set():
        for key, event in ready.select(10 * _LOOK):
            end = key.fileobj
            assert isinstance(end, socket.socket)
            try:
                if event & selectors.EVENT_WRITE:
                    end.send(_ZEROS)
                else:
                    end.recv_into(buffer)
            except BlockingIOError:
                continue
