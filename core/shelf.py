"""One ENI's part of the pool: its blocks, and the state of each of their addresses."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from eniplug.hooks.capacity import Block, EniView, Kind, PrefixView
from eniplug.hooks.objects import Family, Ip, Network
from eniplug.hooks.values import Eni

LENGTHS: Final = {4: 28, 6: 80}
"""How long a prefix is that EC2 gives (EC2 user guide, "Prefix delegation")."""

_REST: Final = {4: 32 - 28, 6: 128 - 80}
"""How many bits of an address its prefix leaves open."""

WIDE: Final = 1024
"""A prefix that has this many rested addresses reuses them before it takes new ones."""


class Prefix:
    """One prefix.  Its addresses are made when they are needed: a /80 has 2^48."""

    def __init__(self, network: Network) -> None:
        if network.prefixlen != LENGTHS[network.version]:
            msg = f"{network} is no prefix of EC2: those are /28 and /80"
            raise ValueError(msg)
        self.network = network
        self.assigned: set[Ip] = set()
        self.cooling: set[Ip] = set()
        # Addresses below this offset were taken once, and are in one of the three.
        self._fresh = 0
        # An OrderedDict and not a dict: taking the first key of a dict, again and
        # again, walks over all that were taken before.
        self.rested: OrderedDict[Ip, None] = OrderedDict()

    @property
    def place(self) -> tuple[int, int]:
        """What all addresses of it have in common."""
        return self.place_of(self.network.network_address)

    @staticmethod
    def place_of(address: Ip) -> tuple[int, int]:
        """The place of the prefix that an address would be of."""
        family = address.version
        return family, int(address) >> _REST[family]

    @property
    def busy(self) -> int:
        """Addresses that pods have, or had a moment ago."""
        return len(self.assigned) + len(self.cooling)

    @property
    def idle(self) -> int:
        """Addresses that nobody has."""
        return self.network.num_addresses - self.busy

    def next(self) -> Ip:
        """Take an idle address; the caller knows that there is one."""
        while len(self.rested) < WIDE and self._fresh < self.network.num_addresses:
            address = self.network[self._fresh]
            self._fresh += 1
            # One that an earlier life of the agent gave out was never taken here.
            unknown = address not in self.assigned and address not in self.cooling
            if unknown and address not in self.rested:
                return address
        return self.rested.popitem(last=False)[0]


class _Ranks:
    """The prefixes that have an idle address, by how many of them pods have."""

    def __init__(self) -> None:
        self._ranks: dict[int, dict[Prefix, None]] = {}
        self.rank_of: dict[Prefix, int] = {}

    def put(self, prefix: Prefix) -> None:
        """Know a prefix as it is now."""
        self.drop(prefix)
        if prefix.idle:
            rank = len(prefix.assigned)
            self._ranks.setdefault(rank, {})[prefix] = None
            self.rank_of[prefix] = rank

    def drop(self, prefix: Prefix) -> None:
        """Know a prefix no more."""
        rank = self.rank_of.pop(prefix, None)
        if rank is not None:
            del self._ranks[rank][prefix]
            if not self._ranks[rank]:
                del self._ranks[rank]

    def fullest(self) -> Prefix:
        """One of the highest rank; there are at most as many ranks as prefixes."""
        return next(iter(self._ranks[max(self._ranks)]))


class Shelf:
    """One ENI's blocks.  `AddressPool` is the only one to call it."""

    def __init__(self, eni: Eni, slots: int, slots6: int, *, since: float) -> None:
        self.eni = eni
        self.slots = slots
        self.slots6 = slots6
        self.since = since
        self.kept = eni.primary
        self.assigned: set[Ip] = set()
        self.cooling: set[Ip] = set()
        self.singles: dict[Ip, None] = {}
        self.prefixes: dict[Network, Prefix] = {}
        self.held: dict[Block, str] = {}
        self._rested: dict[int, OrderedDict[Ip, None]] = {
            4: OrderedDict(),
            6: OrderedDict(),
        }
        self._open: dict[int, _Ranks] = {4: _Ranks(), 6: _Ranks()}
        self._busy = {4: [0, 0], 6: [0, 0]}

    # -- blocks ------------------------------------------------------------------------

    def blocks(self) -> Iterator[Block]:
        """All blocks, also those in quarantine."""
        yield from self.singles
        yield from self.prefixes

    def add_prefix(self, prefix: Prefix) -> tuple[Ip, ...]:
        """Know a prefix; returns what was held singly so far and is of it."""
        self.prefixes[prefix.network] = prefix
        place = prefix.place
        for busy, here in (
            (self.assigned, prefix.assigned),
            (self.cooling, prefix.cooling),
        ):
            here.update(a for a in busy if Prefix.place_of(a) == place)
        inside = tuple(a for a in self.singles if Prefix.place_of(a) == place)
        for address in inside:
            self._drop_single(address)
        self._open[prefix.network.version].put(prefix)
        return inside

    def is_unused(self, block: Block) -> bool:
        """Whether it is here, and no pod has or had a moment ago an address of it."""
        if isinstance(block, IPv4Address | IPv6Address):
            busy = block in self.assigned or block in self.cooling
            return block in self.singles and not busy
        prefix = self.prefixes.get(block)
        return prefix is not None and not prefix.busy

    def forget(self, block: Block) -> None:
        """Know an unused block no more."""
        self.held.pop(block, None)
        if isinstance(block, IPv4Address | IPv6Address):
            self._drop_single(block)
        else:
            self._open[block.version].drop(self.prefixes.pop(block))

    def _drop_single(self, address: Ip) -> None:
        self.singles.pop(address, None)
        self._rested[address.version].pop(address, None)

    def quarantine(self, block: Block, reason: str) -> None:
        """Hand out no more of a block; raises LookupError if it is not here."""
        if isinstance(block, IPv4Address | IPv6Address):
            if block not in self.singles:
                msg = f"{block} is no block of {self.eni.id}"
                raise LookupError(msg)
            self._rested[block.version].pop(block, None)
        else:
            self._open[block.version].drop(self.prefixes[block])
        self.held[block] = reason

    def release_block(self, block: Block) -> None:
        """Hand out a block that was in quarantine."""
        if self.held.pop(block, None) is None:
            return
        if not isinstance(block, IPv4Address | IPv6Address):
            self._open[block.version].put(self.prefixes[block])
        elif self.is_unused(block):
            self._rested[block.version][block] = None

    def assigned_of(self, block: Block) -> int:
        """How many addresses of a block pods have."""
        if isinstance(block, IPv4Address | IPv6Address):
            return int(block in self.assigned)
        return len(self.prefixes[block].assigned)

    # -- addresses ---------------------------------------------------------------------

    def offers(self, family: Family, kind: Kind | None = None) -> bool:
        """Whether there is an idle address, of a prefix or single if that is asked."""
        singly, among = self._rested[family], self._open[family].rank_of
        if kind is None:
            return bool(singly or among)
        return bool(singly if kind == "address" else among)

    def open_prefixes(self, family: Family) -> tuple[Prefix, ...]:
        """The prefixes that have an idle address."""
        return tuple(self._open[family].rank_of)

    def fullest(self, family: Family) -> Prefix:
        """The prefix that serves most and has an idle address; there must be one."""
        return self._open[family].fullest()

    def take_rested(self, family: Family) -> Ip:
        """Assign the single address that rested longest; there must be one."""
        address, _ = self._rested[family].popitem(last=False)
        self._assign(address, None)
        return address

    def take_of(self, prefix: Prefix) -> Ip:
        """Assign an address of a prefix that has an idle one."""
        address = prefix.next()
        self._assign(address, prefix)
        return address

    def hold(self, address: Ip, prefix: Prefix | None) -> None:
        """Assign just this address, which is not assigned yet."""
        if prefix is None:
            self.singles[address] = None
            self._rested[address.version].pop(address, None)
        else:
            prefix.rested.pop(address, None)
        if address in self.cooling:
            self._uncool(address, prefix)
        self._assign(address, prefix)

    def cool(self, address: Ip, prefix: Prefix | None) -> None:
        """Let an assigned address cool down."""
        self.assigned.remove(address)
        self.cooling.add(address)
        busy = self._busy[address.version]
        busy[0] -= 1
        busy[1] += 1
        if prefix is not None:
            prefix.assigned.remove(address)
            prefix.cooling.add(address)
            self._sort(prefix)

    def ready(self, address: Ip, prefix: Prefix | None) -> None:
        """Make an address idle that has cooled down."""
        self._uncool(address, prefix)
        self.rest(address, prefix)

    def rest(self, address: Ip, prefix: Prefix | None = None) -> None:
        """Let an address wait for a pod."""
        if prefix is not None:
            prefix.rested[address] = None
            self._sort(prefix)
            return
        self.singles[address] = None
        if address not in self.held:
            self._rested[address.version][address] = None

    def _assign(self, address: Ip, prefix: Prefix | None) -> None:
        self.assigned.add(address)
        self._busy[address.version][0] += 1
        if prefix is not None:
            prefix.assigned.add(address)
            self._sort(prefix)

    def _uncool(self, address: Ip, prefix: Prefix | None) -> None:
        self.cooling.remove(address)
        self._busy[address.version][1] -= 1
        if prefix is not None:
            prefix.cooling.remove(address)

    def _sort(self, prefix: Prefix) -> None:
        if prefix.network not in self.held:
            self._open[prefix.network.version].put(prefix)

    # -- looking -----------------------------------------------------------------------

    def counts(self, family: Family) -> tuple[int, int, int, int]:
        """How many are assigned, cool down, can be handed out, are held back."""
        assigned, cooling = self._busy[family]
        among = self.open_prefixes(family)
        idle = len(self._rested[family]) + sum(prefix.idle for prefix in among)
        held = sum(
            int(self.is_unused(block))
            if isinstance(block, IPv4Address | IPv6Address)
            else self.prefixes[block].idle
            for block in self.held
            if block.version == family
        )
        return assigned, cooling, idle, held

    def view(self, now: float) -> EniView:
        """What plan_capacity sees; what is in quarantine only takes its place."""
        prefixes = tuple(
            PrefixView(
                prefix=network,
                assigned=len(prefix.assigned),
                cooling=len(prefix.cooling),
            )
            for network, prefix in self.prefixes.items()
            if network not in self.held
        )
        places = {4: self.slots, 6: self.slots6}
        for block in self.blocks():
            places[block.version] -= 1
        return EniView(
            id=self.eni.id,
            primary=self.eni.primary,
            assigned=self._busy[4][0],
            cooling=self._busy[4][1],
            idle=tuple(a for rested in self._rested.values() for a in rested),
            slots=max(places[4], 0),
            slots6=max(places[6], 0),
            age=now - self.since,
            prefixes=prefixes,
            kept=self.kept,
            card=self.eni.card,
        )
