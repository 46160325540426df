"""A subnet's addresses, as EC2 gives them out and takes them back."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import define, field

RESERVED = 4
"""Addresses at a subnet's start that EC2 keeps, beside the last one."""

SIZE = 16
"""Addresses of a /28."""


@define(eq=False, kw_only=True)
class MemorySubnet:
    """Single addresses come from the low end, /28s from the high end.

    With an IPv6 range an ENI is born with an IPv6 address, out of the first /80, unless
    it is to have /80s.
    While ``fragmented`` it has no free /28, as a subnet in which others' addresses are
    strewn about.
    """

    cidr: IPv4Network
    cidr6: IPv6Network | None = None
    tags: dict[str, str] = field(factory=dict)
    fragmented: bool = False

    _taken: set[int] = field(factory=set)
    _blocks: dict[int, int] = field(factory=dict)
    _low: int = 0
    _high: int = 0
    _next6: int = 1
    _own6: int = RESERVED

    def __attrs_post_init__(self) -> None:
        """Keep what EC2 keeps."""
        first, last = int(self.cidr[0]), int(self.cidr[-1])
        for number in (*range(first, first + RESERVED), last):
            self._take(number)
        self._low, self._high = first, last // SIZE

    @property
    def free(self) -> int:
        """How many addresses are left."""
        return self.cidr.num_addresses - len(self._taken)

    def draw(self, count: int) -> tuple[IPv4Address, ...] | None:
        """Give out single addresses; None when there are not as many."""
        if count > self.free:
            return None
        drawn: list[int] = []
        while len(drawn) < count:
            if self._low not in self._taken:
                drawn.append(self._low)
                self._take(self._low)
            self._low += 1
        return tuple(IPv4Address(number) for number in drawn)

    def draw_prefixes(self, count: int) -> tuple[IPv4Network, ...] | None:
        """Give out /28s; None when there are not as many."""
        if count == 0:
            return ()
        found: list[int] = []
        block, first = self._high, int(self.cidr[0]) // SIZE
        while len(found) < count and block >= first and not self.fragmented:
            if not self._blocks.get(block):
                found.append(block)
            block -= 1
        if len(found) < count:
            return None
        self._high = block
        for one in found:
            for number in range(one * SIZE, one * SIZE + SIZE):
                self._take(number)
        return tuple(IPv4Network((one * SIZE, 28)) for one in found)

    def draw_prefixes6(self, count: int) -> tuple[IPv6Network, ...] | None:
        """Give out /80s, never the same again; None without an IPv6 range."""
        if count == 0:
            return ()
        if self.cidr6 is None:
            return None
        base = int(self.cidr6.network_address)
        numbers = range(self._next6, self._next6 + count)
        self._next6 += count
        return tuple(IPv6Network((base + (number << 48), 80)) for number in numbers)

    def draw6(self) -> tuple[IPv6Address, ...]:
        """Give out an ENI's own IPv6 address; none without an IPv6 range."""
        if self.cidr6 is None:
            return ()
        number = self._own6
        self._own6 += 1
        return (self.cidr6[number],)

    def put_back(self, blocks: Iterable[object]) -> None:
        """Take addresses and prefixes back."""
        for block in blocks:
            if isinstance(block, IPv4Address):
                self._free(int(block))
            elif isinstance(block, IPv4Network):
                for address in block:
                    self._free(int(address))

    def _take(self, number: int) -> None:
        self._taken.add(number)
        self._blocks[number // SIZE] = self._blocks.get(number // SIZE, 0) + 1

    def _free(self, number: int) -> None:
        self._taken.remove(number)
        self._blocks[number // SIZE] -= 1
        self._low = min(self._low, number)
        self._high = max(self._high, number // SIZE)
