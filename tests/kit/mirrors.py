"""Servers in a pod that tell their callers by which address they see them."""

from __future__ import annotations

import select
import socket
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address
from threading import Event, Thread
from typing import Literal

from kit.netns import inside

Protocol = Literal["tcp", "udp"]
KINDS = {"tcp": socket.SOCK_STREAM, "udp": socket.SOCK_DGRAM}
WITHIN = 1.0


@contextmanager
def mirrors(namespace: str, *ports: int) -> Generator[None]:
    """Listen on these ports in a namespace, TCP and UDP, IPv4 and IPv6."""
    stop = Event()
    with ExitStack() as stack:
        with inside(namespace):
            listening = [
                stack.enter_context(socket.socket(socket.AF_INET6, kind))
                for _ in ports
                for kind in KINDS.values()
            ]
        for number, one in enumerate(listening):
            one.bind(("::", ports[number // 2]))
            if one.type == socket.SOCK_STREAM:
                one.listen()
        thread = Thread(target=_serve, args=(listening, stop))
        thread.start()
        stack.callback(thread.join)
        stack.callback(stop.set)
        yield


def _serve(listening: list[socket.socket], stop: Event) -> None:
    while not stop.is_set():
        for one in select.select(listening, (), (), 0.05)[0]:
            if one.type == socket.SOCK_STREAM:
                caller, peer = one.accept()
                with caller:
                    caller.sendall(_seen(peer[0]))
            else:
                _, peer = one.recvfrom(99)
                one.sendto(_seen(peer[0]), peer)


def _seen(address: str) -> bytes:
    parsed = ip_address(address)
    return str(getattr(parsed, "ipv4_mapped", None) or parsed).encode()


def who(namespace: str, address: str, port: int, protocol: Protocol = "tcp") -> str:
    """Call a mirror; returns the address that it sees, or the error in brackets."""
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with inside(namespace), socket.socket(family, KINDS[protocol]) as sock:
        sock.settimeout(WITHIN)
        try:
            sock.connect((address, port))
            sock.send(b"?")
            return sock.recv(99).decode()
        except OSError as error:
            return f"({error})"
