"""A subnet's addresses, as EC2 gives them out and takes them back."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

from attrs import define, field

RESERVED = 4
"""Addresses at a subnet's start that EC2 keeps, beside the last one."""

SIZE = 16
"""Addresses of a /28, the smallest subnet and the size of a block."""

FULL = (1 << SIZE) - 1


@define(eq=False, kw_only=True)
class MemorySubnet:
    """Single addresses come from the low end, /28s from the high end.

    With an IPv6 range an ENI is born with an IPv6 address, out of the first /80, unless
    it is to have /80s.  While ``fragmented`` it has no free /28, as a subnet in which
    others' addresses are strewn about.

    A block is a bit in two bitmaps, of blocks with something free and of those that are
    free as a whole: what is drawn next is found without a search.
    """

    cidr: IPv4Network
    cidr6: IPv6Network | None = None
    tags: dict[str, str] = field(factory=dict)
    fragmented: bool = False

    _taken: dict[int, int] = field(factory=dict)
    _some: int = field(init=False)
    _whole: int = field(init=False)
    _free: int = field(init=False)
    _next6: int = 1
    _own6: int = RESERVED

    def __attrs_post_init__(self) -> None:
        """Keep what EC2 keeps."""
        size = self.cidr.num_addresses
        self._some = self._whole = (1 << size // SIZE) - 1
        self._free = size
        for number in (*range(RESERVED), size - 1):
            self._take(number // SIZE, 1 << number % SIZE)

    @property
    def free(self) -> int:
        """How many addresses are left."""
        return self._free

    def draw(self, count: int) -> tuple[IPv4Address, ...] | None:
        """Give out single addresses; None when there are not as many."""
        if count > self._free:
            return None
        return tuple(self._draw() for _ in range(count))

    def _draw(self) -> IPv4Address:
        block = lowest(self._some)
        place = lowest(~self._taken.get(block, 0))
        self._take(block, 1 << place)
        return self.cidr[block * SIZE + place]

    def draw_prefixes(self, count: int) -> tuple[IPv4Network, ...] | None:
        """Give out /28s; None when there are not as many."""
        if count > (0 if self.fragmented else self._whole.bit_count()):
            return None
        return tuple(self._draw_prefix() for _ in range(count))

    def _draw_prefix(self) -> IPv4Network:
        block = self._whole.bit_length() - 1
        self._take(block, FULL)
        return IPv4Network((self.cidr[block * SIZE], 28))

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
        for one in blocks:
            if isinstance(one, IPv4Address):
                block, place = divmod(int(one) - int(self.cidr[0]), SIZE)
                self._give(block, 1 << place)
            elif isinstance(one, IPv4Network):
                self._give((int(one[0]) - int(self.cidr[0])) // SIZE, FULL)

    def _take(self, block: int, places: int) -> None:
        self._note(block, self._taken.get(block, 0) | places)

    def _give(self, block: int, places: int) -> None:
        assert self._taken.get(block, 0) & places == places, "nobody had it"
        self._note(block, self._taken[block] & ~places)

    def _note(self, block: int, taken: int) -> None:
        self._free += self._taken.get(block, 0).bit_count() - taken.bit_count()
        self._taken[block] = taken
        bit = 1 << block
        self._some = self._some & ~bit if taken == FULL else self._some | bit
        self._whole = self._whole & ~bit if taken else self._whole | bit


def lowest(bits: int) -> int:
    """Return the number of the lowest bit that is set."""
    return (bits & -bits).bit_length() - 1
