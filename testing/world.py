"""A node and its pods as network namespaces: where objects meet a real kernel."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Callable, Generator, Iterable, Iterator, Sequence
from contextlib import contextmanager
from itertools import count
from typing import Any, Final

from attrs import define, field

from eniplug.core.kernel import Kernel
from eniplug.core.kernel.encode_links import set_link
from eniplug.core.kernel.netlink import Message, NetlinkError, Socket
from eniplug.hooks import Node, Object
from eniplug.hooks.objects import Key
from eniplug.lab import netns

LOOKS: Final = (
    "ip -o -d link",
    "ip -o addr",
    "ip -4 route show table all",
    "ip -6 route show table all",
    "ip -4 rule",
    "ip -6 rule",
    "ip neigh show nud permanent",
    "nft -s list ruleset",
)
"""Everything of a namespace that an object can change, but sysctls."""

_LATER: Final = re.compile(r"state [A-Z]+ |NO-CARRIER,|,LOWER_UP| linkdown")
"""What follows a change of a link a moment later, in the kernel's own time."""

_KERNELS: Final = " table local proto kernel "
"""Routes that follow links and addresses, IPv6's in the kernel's own time as well."""

NO_LINK: Final = 0x7FFFFFF0


@define(eq=False)
class Refuser:
    """Makes sockets of which, counted over all, message number ``bad`` is refused.

    A message that the kernel refuses goes in its place; ``seen`` counts.
    """

    bad: int
    seen: int = 0

    def connect(self, protocol: int) -> Socket:
        """Make a socket (the argument of `Kernel`)."""
        return _Refusing(self, protocol)


class _Refusing(Socket):
    def __init__(self, refuser: Refuser, protocol: int) -> None:
        super().__init__(protocol)
        self._refuser = refuser

    def send(self, messages: Sequence[Message]) -> dict[int, NetlinkError]:
        return super().send(self._spoilt(messages))

    def transact(self, messages: Sequence[Message]) -> dict[int, NetlinkError]:
        number = self._refuser.seen
        self._refuser.seen += len(messages)
        if number <= self._refuser.bad < self._refuser.seen:
            error = NetlinkError(1, "refused by the test")
            return dict.fromkeys(range(len(messages)), error)
        return super().transact(messages)

    def _spoilt(self, messages: Iterable[Message]) -> list[Message]:
        sent = list(messages)
        for position in range(len(sent)):
            if self._refuser.seen == self._refuser.bad:
                sent[position] = set_link(NO_LINK, "up", 1)
            self._refuser.seen += 1
        return sent


@define(eq=False)
class World:
    """One node.  Each pod is a namespace that lasts as long as its `pod`."""

    name: str
    inside: netns.Inside
    _numbers: Iterator[int] = field(factory=count)
    _earlier: dict[Key, str] = field(factory=dict)

    def call(self, work: Callable[..., Any], *args: Any) -> Any:
        """Run something in the node's namespace."""
        return self.inside.call(work, *args)

    def run(self, *words: str) -> str:
        """Run a command on the node; returns what it printed.

        Raises subprocess.CalledProcessError.
        """
        return str(self.call(_run, words))

    def snapshot(self) -> frozenset[str]:
        """Say all about the node that an object can change, in lines."""
        lines = self.run("sh", "-c", "; ".join(LOOKS)).splitlines()
        return frozenset(_LATER.sub("", line) for line in lines if _KERNELS not in line)

    @contextmanager
    def pod(self) -> Generator[int]:
        """Make a pod's namespace; gives a descriptor, and ends with it."""
        name = f"{self.name}-pod{next(self._numbers)}"
        path = netns.create(name)
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            yield descriptor
        finally:
            os.close(descriptor)
            netns.remove(name)

    def settle(self, had: Iterable[Object], wanted: Iterable[Object]) -> None:
        """Make the node's own objects as wanted; earlier values are remembered."""
        for key, value in self.call(Kernel().earlier, tuple(wanted)).items():
            self._earlier.setdefault(key, value)
        self.call(Kernel().settle, tuple(had), tuple(wanted), self._earlier)


def _run(words: tuple[str, ...]) -> str:
    done = subprocess.run(words, capture_output=True, text=True, timeout=30, check=True)
    return done.stdout


@contextmanager
def a_world(node: Node) -> Generator[World]:
    """Make a node with links for its ENIs; everything is gone afterwards.

    Raises PermissionError without root.
    """
    if os.geteuid():
        msg = "this test makes network namespaces: run it as root"
        raise PermissionError(msg)
    name = f"kit-{os.getpid()}-{secrets.token_hex(3)}"
    netns.create(name)
    inside = netns.Inside(name)
    try:
        world = World(name, inside)
        for number, eni in enumerate(node.enis):
            _plug(world, eni.link, f"far{number}")
        for address in node.primary.addresses:  # the others' are plugins' to set
            nodad = ("nodad",) if address.version == 6 else ()  # noqa: PLR2004
            words = ("ip", "addr", "add", str(address), "dev", node.primary.link)
            world.run(*words, "noprefixroute", *nodad)
        yield world
    finally:
        inside.close()
        netns.remove(name)


def _plug(world: World, link: str, far: str) -> None:
    world.run(*f"ip link add {link} type veth peer name {far}".split())
    for one in (link, far):
        world.run(*f"ip link set {one} up addrgenmode none".split())
