"""A subnet's addresses: which are taken, and drawing from the rest.

Sources: VPC User Guide ("Subnet CIDR blocks"), EC2 User Guide ("Assign prefixes").
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from itertools import islice
from random import Random
from typing import Any, Final, Generic, TypeVar

from attrs import frozen

from eniplug.lab.rules import Ec2Error, full, invalid

A = TypeVar("A", IPv4Address, IPv6Address)
N = TypeVar("N", IPv4Network, IPv6Network)


class Space(Generic[A, N]):
    """A subnet's addresses of one family: which are taken, and drawing from the rest.

    EC2 keeps the first four and the last address of every subnet.  A prefix is drawn
    from the blocks of its length that are free as a whole.  `random` says which are
    drawn; without it, the lowest.  Each draw is all or nothing.
    """

    def __init__(
        self,
        cidr: N,
        length: int,
        make: tuple[Callable[[Any], A], Callable[[Any], N]],
        random: Random | None,
    ) -> None:
        self.version: int = cidr.version
        self._length = length
        self._address: Callable[[Any], A] = make[0]
        self._network: Callable[[Any], N] = make[1]
        self._random = random
        self._shift = cidr.max_prefixlen - length
        self._all = range(int(cidr.network_address), int(cidr.broadcast_address) + 1)
        self._taken = {*self._all[:4], self._all[-1]}
        self._blocks: set[int] = set()

    def hold(self, addresses: Iterable[A], prefixes: Iterable[N]) -> None:
        """Count as taken what an ENI has."""
        self._taken.update(map(int, addresses))
        self._blocks.update(int(p.network_address) >> self._shift for p in prefixes)

    @property
    def free(self) -> int:
        """How many single addresses are left (AvailableIpAddressCount)."""
        size = self._all.stop - self._all.start
        return size - len(self._taken) - (len(self._blocks) << self._shift)

    def draw(self, count: int) -> tuple[A, ...]:
        """Take addresses."""
        if count > self.free:
            raise full("InsufficientFreeAddressesInSubnet")
        drawn = self._choose(self._all, count, self._has)
        self._taken.update(drawn)
        return tuple(map(self._address, drawn))

    def draw_prefixes(self, count: int) -> tuple[N, ...]:
        """Take prefixes."""
        start, stop = (n >> self._shift for n in (self._all.start, self._all.stop))
        busy = self._blocks | {n >> self._shift for n in self._taken}
        if count > stop - start - len(busy):
            raise full("InsufficientCidrBlocks")
        drawn = self._choose(range(start, stop), count, busy.__contains__)
        self._blocks.update(drawn)
        return tuple(self._network((b << self._shift, self._length)) for b in drawn)

    def claim(self, addresses: Iterable[str]) -> tuple[A, ...]:
        """Take just these addresses."""
        claimed: list[A] = []
        for text in addresses:
            address = read(self._address, text)
            if int(address) not in self._all:
                message = "Address does not fall within the subnet's address range"
                raise invalid(f"{message}: {address}")
            if self._has(int(address)):
                raise Ec2Error(
                    "InvalidIPAddress.InUse", f"Address {address} is in use."
                )
            self._taken.add(int(address))
            claimed.append(address)
        return tuple(claimed)

    def claim_prefixes(self, prefixes: Iterable[str]) -> tuple[N, ...]:
        """Take just these prefixes."""
        claimed: list[N] = []
        for text in prefixes:
            prefix = read(self._network, text)
            start = int(prefix.network_address)
            if prefix.prefixlen != self._length or start not in self._all:
                raise invalid(
                    f"The prefix {prefix} is not a /{self._length} of the subnet"
                )
            block = start >> self._shift
            if block in self._blocks | {n >> self._shift for n in self._taken}:
                raise Ec2Error("InvalidIPAddress.InUse", f"Prefix {prefix} is in use.")
            self._blocks.add(block)
            claimed.append(prefix)
        return tuple(claimed)

    def _has(self, number: int) -> bool:
        return number in self._taken or number >> self._shift in self._blocks

    def _choose(
        self, among: range, count: int, taken: Callable[[int], bool]
    ) -> list[int]:
        """Choose numbers that are not taken; the caller knows that there are enough."""
        if self._random is None:
            free = (number for number in among if not taken(number))
            return list(islice(free, count))
        chosen: set[int] = set()
        while len(chosen) < count:
            number = self._random.randrange(among.start, among.stop)
            if not taken(number):
                chosen.add(number)
        return sorted(chosen)


def parse(text: str) -> Any:
    """Return an address or, where there is a slash, a network."""
    make = ip_network if "/" in text else ip_address
    return read(make, text)


def read(make: Callable[[str], Any], text: str) -> Any:
    """Make a value from text of a call; raises InvalidParameterValue."""
    try:
        return make(text)
    except ValueError:
        raise invalid(f"Invalid IPv4 or IPv6 address or prefix: {text}") from None


def space4(
    cidr: IPv4Network, random: Random | None = None
) -> Space[IPv4Address, IPv4Network]:
    """Return an empty subnet's IPv4 addresses; prefixes are /28."""
    return Space(cidr, 28, (IPv4Address, IPv4Network), random)


def space6(
    cidr: IPv6Network, random: Random | None = None
) -> Space[IPv6Address, IPv6Network]:
    """Return an empty subnet's IPv6 addresses; prefixes are /80."""
    return Space(cidr, 80, (IPv6Address, IPv6Network), random)


@frozen(kw_only=True)
class Order:
    """The addresses of one family that a call asks for: just these, or how many."""

    addresses: tuple[str, ...] = ()
    count: int = 0
    prefixes: tuple[str, ...] = ()
    prefix_count: int = 0

    @property
    def size(self) -> int:
        """How many of an interface's addresses it needs; a prefix is one."""
        listed = len(self.addresses) + len(self.prefixes)
        return listed + self.count + self.prefix_count

    def check(self) -> None:
        """Refuse to mix: EC2 takes one of the four."""
        given = (self.addresses, self.count, self.prefixes, self.prefix_count)
        if sum(map(bool, given)) > 1:
            message = "Only one of addresses, their count, prefixes, their count"
            raise Ec2Error("InvalidParameterCombination", f"{message} may be given")

    def take(self, space: Space[Any, Any]) -> tuple[tuple[Any, ...], tuple[Any, ...]]:
        """Take it from a subnet; return addresses and prefixes."""
        addresses = space.claim(self.addresses) + space.draw(self.count)
        prefixes = space.claim_prefixes(self.prefixes)
        return addresses, prefixes + space.draw_prefixes(self.prefix_count)


NOTHING: Final = Order()
