"""The pool: every address that this node may hand out, in memory.

Rules of this file:

- EC2 gives *blocks*: single addresses, and prefixes whose addresses all serve pods.  An
  address is in exactly one of three states: *assigned*, *cooling* or *idle*.
- Taking and giving back cost the same for 100 addresses as for 10 000; only the number
  of ENIs, which is small, is ever walked.
- It packs: addresses come from the ENI that serves most, and there from the prefix that
  serves most, so that the others drain and can be given back.  Within those the address
  that rested longest is next.  A network card serves when those before it have none.
- A block in *quarantine* keeps the pods that it has and gets no others.
- It is not thread-safe: its owner holds a mutex.  It does not write anything down: its
  owner commits what must survive.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Iterable, Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address
from itertools import count

from attrs import frozen

from eniplug.core.shelf import Prefix, Shelf
from eniplug.hooks.capacity import Block, EniView, Kind
from eniplug.hooks.errors import CoolingError, PoolEmptyError, QuarantineError
from eniplug.hooks.objects import Family, Ip
from eniplug.hooks.values import Eni, Lease


@frozen(kw_only=True)
class Counts:
    """How many addresses are in which state; ``held`` are idle and in quarantine."""

    total: int
    assigned: int
    cooling: int
    idle: int
    held: int = 0


@frozen(kw_only=True)
class Quarantined:
    """A block that gets no new pods, and why."""

    block: Block
    eni: str
    reason: str
    assigned: int


class AddressPool:
    """All addresses of a node's ENIs, and who rests and who serves.

    ``cooldown`` is how many seconds an address rests after its pod is gone; ``clock``
    gives seconds that never go back.  Naming an unknown ENI or address raises
    LookupError, asking for a change that an address's state forbids ValueError.
    """

    def __init__(self, cooldown: float, clock: Callable[[], float]) -> None:
        self.cooldown = cooldown
        self._clock = clock
        self._shelves: dict[str, Shelf] = {}
        self._home: dict[Ip, Shelf] = {}
        self._prefixes: dict[tuple[int, int], tuple[Shelf, Prefix]] = {}
        self._due: dict[Ip, float] = {}
        # Both hold what is kept; a key counts if its address is still kept for it.
        self._kept: dict[tuple[str, Family], Ip] = {}
        self._key_of: dict[Ip, str] = {}
        # May hold what no longer cools; an entry counts if it agrees with _due.
        self._queue: list[tuple[float, int, Ip]] = []
        self._order = count()

    # -- what there is ---------------------------------------------------------------

    def add_eni(
        self, eni: Eni, slots: int = 0, slots6: int = 0, *, kept: bool = False
    ) -> None:
        """Know an ENI that may carry ``slots`` blocks of IPv4 and ``slots6`` of IPv6.

        A known one keeps its blocks and takes the new description.
        """
        known = self._shelves.get(eni.id)
        if known is None:
            known = Shelf(eni, slots, slots6, since=self._clock())
            self._shelves[eni.id] = known
        known.eni, known.slots, known.slots6 = eni, slots, slots6
        known.kept = kept or eni.primary

    def remove_eni(self, eni_id: str) -> None:
        """Forget an ENI and its idle blocks.

        Raises ValueError while one of its addresses is assigned or cooling.
        """
        shelf = self._shelf(eni_id)
        if shelf.assigned or shelf.cooling:
            msg = (
                f"{eni_id} still has {len(shelf.assigned)} assigned"
                f" and {len(shelf.cooling)} cooling addresses"
            )
            raise ValueError(msg)
        for block in tuple(shelf.blocks()):
            self._forget(shelf, block)
        del self._shelves[eni_id]

    def add(self, eni_id: str, blocks: Iterable[Block]) -> None:
        """Take blocks of an ENI in; one that is known stays as it is.

        A known one in quarantine is good again.  Raises ValueError, and adds none, if
        another ENI has one of them.
        """
        shelf = self._shelf(eni_id)
        given = sorted(set(blocks), key=_in_order)
        for block in given:
            home = self._home_of(block) or shelf
            if home is not shelf:
                msg = f"{block} is of {home.eni.id}, not of {eni_id}"
                raise ValueError(msg)
        for block in given:
            if isinstance(block, IPv4Address | IPv6Address):
                self._add_single(shelf, block)
            elif block not in shelf.prefixes:
                prefix = Prefix(block)
                self._prefixes[prefix.place] = (shelf, prefix)
                for address in shelf.add_prefix(prefix):
                    del self._home[address]
            shelf.release_block(block)

    def _add_single(self, shelf: Shelf, address: Ip) -> None:
        if address not in self._home:
            self._home[address] = shelf
            shelf.rest(address)

    def withdraw(self, eni_id: str, blocks: Iterable[Block]) -> tuple[Block, ...]:
        """Forget those of the blocks that nobody has or had a moment ago; return them.

        What is in quarantine is among them.
        """
        shelf = self._shelf(eni_id)
        left = tuple(b for b in dict.fromkeys(blocks) if shelf.is_unused(b))
        for block in left:
            self._forget(shelf, block)
        return left

    def quarantine(self, eni_id: str, block: Block, reason: str) -> None:
        """Hand out no more of a block; pods that have an address of it keep it."""
        self._shelf(eni_id).quarantine(block, reason)

    # -- pods come and go ------------------------------------------------------------

    def take(
        self,
        family: Family = 4,
        *,
        address: Ip | None = None,
        eni: str | None = None,
        prefer: Kind | None = None,
        kept: str | None = None,
    ) -> Lease:
        """Assign an idle address: just this one, or one of this ENI, or any.

        The one that is ``kept`` under this key comes first. Raises PoolEmptyError when
        there is none.
        """
        if kept is not None and (mine := self._kept_for(kept, family, eni)):
            return self.hold(mine)
        if address is not None:
            return self._take_this(address, eni)
        able = [
            shelf
            for shelf in self._shelves.values()
            if eni in {None, shelf.eni.id} and shelf.offers(family)
        ]
        if not able:
            raise self._empty(family, eni)
        return self._take_from(self._choose(able, family, prefer), family, prefer)

    def take_pair(self, *, prefer: Kind | None = None) -> tuple[Lease, Lease]:
        """Assign an IPv4 and an IPv6 address of one ENI.

        Raises PoolEmptyError when no ENI has both idle.
        """
        able = [s for s in self._shelves.values() if s.offers(4) and s.offers(6)]
        if not able:
            raise self._empty(6 if self.counts(4).idle else 4)
        shelf = self._choose(able, 4, prefer)
        first, second = (self._take_from(shelf, family, prefer) for family in _BOTH)
        return first, second

    def take_each(
        self, cards: Iterable[int], *, prefer: Kind | None = None
    ) -> tuple[Lease, ...]:
        """Assign an IPv4 address of each of these network cards, in their order.

        Raises PoolEmptyError, and assigns none, when one of them has none.
        """
        chosen: list[Shelf] = []
        for card in cards:
            able = [
                shelf
                for shelf in self._shelves.values()
                if shelf.eni.card == card and shelf.offers(4)
            ]
            if not able:
                raise self._empty(4, card=card)
            chosen.append(self._choose(able, 4, prefer))
        return tuple(self._take_from(shelf, 4, prefer) for shelf in chosen)

    def _choose(
        self, able: Sequence[Shelf], family: Family, prefer: Kind | None
    ) -> Shelf:
        if len(able) == 1:
            return able[0]
        first = min([shelf.eni.card for shelf in able])
        able = [shelf for shelf in able if shelf.eni.card == first]
        if prefer is not None:
            able = [s for s in able if s.offers(family, prefer)] or able
        return self._choose_eni(able)

    def _choose_eni(self, able: Sequence[Shelf]) -> Shelf:
        """The one that serves most; among equals one that is never given back."""
        return max(able, key=lambda shelf: (len(shelf.assigned), shelf.kept))

    def _choose_prefix(self, shelf: Shelf, family: Family) -> Prefix:
        """The one that serves most and has an address left."""
        return shelf.fullest(family)

    def _take_from(self, shelf: Shelf, family: Family, prefer: Kind | None) -> Lease:
        singly = shelf.offers(family, "address")
        if singly and prefer == "prefix":
            singly = not shelf.offers(family, "prefix")
        if singly:
            address = shelf.take_rested(family)
            return Lease(address=address, eni=shelf.eni)
        prefix = self._choose_prefix(shelf, family)
        address = shelf.take_of(prefix)
        return Lease(address=address, eni=shelf.eni, prefix=prefix.network)

    def hold(self, address: Ip, *, eni: str | None = None) -> Lease:
        """Mark an address as assigned, as a node's earlier life left it.

        It may be cooling, and it may be one that was not added yet: then ``eni``
        says whose it is, and may be left out if only one ENI's subnet has it.

        Raises ValueError if it is assigned, LookupError if it belongs to no known ENI.
        """
        shelf, prefix = self._find(address)
        if shelf is None:
            shelf = self._shelf_for(address, eni)
        if address in shelf.assigned:
            msg = f"{address} of {shelf.eni.id} is assigned already"
            raise ValueError(msg)
        self._due.pop(address, None)
        self._key_of.pop(address, None)
        self._occupy(shelf, prefix, address)
        return Lease(
            address=address, eni=shelf.eni, prefix=prefix.network if prefix else None
        )

    def release(self, address: Ip, *, cooldown: float | None = None) -> None:
        """Give an assigned address back; it cools down first.

        ``cooldown`` in seconds, if not the pool's: 0 for one that no pod has used.
        """
        shelf, prefix = self._find(address)
        if shelf is None or address not in shelf.assigned:
            msg = f"{address} is not assigned"
            raise ValueError(msg)
        seconds = self.cooldown if cooldown is None else cooldown
        shelf.cool(address, prefix)
        self._rest(shelf, prefix, address, seconds)

    def cool(self, address: Ip, seconds: float) -> None:
        """Let an address that is not assigned rest, as an earlier life left it."""
        shelf, prefix = self._find(address)
        if shelf is None:
            msg = f"{address} belongs to no known ENI"
            raise LookupError(msg)
        if address in shelf.assigned:
            msg = f"{address} is assigned"
            raise ValueError(msg)
        if address not in shelf.cooling:
            self._occupy(shelf, prefix, address)
            shelf.cool(address, prefix)
        self._rest(shelf, prefix, address, seconds)

    def keep(self, address: Ip, key: str, seconds: float) -> None:
        """Let an address that is not assigned rest for whoever takes it by this key.

        It rests for its cooldown at least.
        """
        cooling = self._due.get(address, 0.0) - self._clock()
        self.cool(address, max(seconds, cooling))
        self._key_of[address] = key
        self._kept[key, address.version] = address

    def kept(self) -> Mapping[Ip, str]:
        """Return what is kept, and under which key."""
        return self._key_of

    def expire(self) -> tuple[Ip, ...]:
        """Make those idle that have cooled down, and return them."""
        now = self._clock()
        ready: list[Ip] = []
        while (due := self.next_due()) is not None and due <= now:
            address = heapq.heappop(self._queue)[2]
            shelf, prefix = self._find(address)
            assert shelf is not None
            self._ready(shelf, prefix, address)
            ready.append(address)
        return tuple(ready)

    def next_due(self) -> float | None:
        """Return the clock's time at which `expire` finds something next."""
        while self._queue:
            due, _, address = self._queue[0]
            if self._due.get(address) == due:
                return due
            heapq.heappop(self._queue)
        return None

    # -- looking ---------------------------------------------------------------------

    def lease_of(self, address: Ip) -> Lease | None:
        """Return the lease of an assigned address, else None."""
        shelf, prefix = self._find(address)
        if shelf is None or address not in shelf.assigned:
            return None
        return Lease(
            address=address, eni=shelf.eni, prefix=prefix.network if prefix else None
        )

    def eni(self, eni_id: str) -> Eni | None:
        """Return a known ENI, else None."""
        shelf = self._shelves.get(eni_id)
        return shelf.eni if shelf else None

    def enis(self) -> tuple[Eni, ...]:
        """Return the known ENIs, the primary first, then as they were added."""
        enis = (shelf.eni for shelf in self._shelves.values())
        return tuple(sorted(enis, key=lambda eni: not eni.primary))

    def blocks(self, eni_id: str) -> frozenset[Block]:
        """Return all that an ENI has here, in quarantine or not."""
        return frozenset(self._shelf(eni_id).blocks())

    def quarantined(self) -> tuple[Quarantined, ...]:
        """Return what gets no new pods."""
        return tuple(
            Quarantined(
                block=block,
                eni=shelf.eni.id,
                reason=reason,
                assigned=shelf.assigned_of(block),
            )
            for shelf in self._shelves.values()
            for block, reason in shelf.held.items()
        )

    def views(self) -> tuple[EniView, ...]:
        """Return what plan_capacity sees, the primary ENI first."""
        now = self._clock()
        return tuple(self._shelves[eni.id].view(now) for eni in self.enis())

    def counts(
        self, family: Family | None = None, *, card: int | None = None
    ) -> Counts:
        """Count the addresses, of one family or both, on one network card or all."""
        each = [
            shelf.counts(one)
            for shelf in self._shelves.values()
            if card in {None, shelf.eni.card}
            for one in ((family,) if family else _BOTH)
        ]
        assigned, cooling, idle, held = (
            sum(column) for column in zip((0, 0, 0, 0), *each, strict=True)
        )
        return Counts(
            total=assigned + cooling + idle + held,
            assigned=assigned,
            cooling=cooling,
            idle=idle,
            held=held,
        )

    # -- inside ----------------------------------------------------------------------

    def _shelf(self, eni_id: str) -> Shelf:
        try:
            return self._shelves[eni_id]
        except KeyError:
            msg = f"{eni_id} is not known"
            raise LookupError(msg) from None

    def _find(self, address: Ip) -> tuple[Shelf | None, Prefix | None]:
        """Where an address belongs: its ENI's shelf, and its prefix if it has one."""
        if self._prefixes:
            found = self._prefixes.get(Prefix.place_of(address))
            if found is not None:
                return found
        return self._home.get(address), None

    def _home_of(self, block: Block) -> Shelf | None:
        if isinstance(block, IPv4Address | IPv6Address):
            return self._home.get(block)
        found = self._prefixes.get(Prefix(block).place)
        return found[0] if found else None

    def _forget(self, shelf: Shelf, block: Block) -> None:
        if isinstance(block, IPv4Address | IPv6Address):
            self._home.pop(block, None)
        else:
            del self._prefixes[shelf.prefixes[block].place]
        shelf.forget(block)

    def _shelf_for(self, address: Ip, eni: str | None) -> Shelf:
        if eni is not None:
            return self._shelf(eni)
        able = [
            shelf
            for shelf in self._shelves.values()
            if any(address in own.network for own in shelf.eni.addresses)
        ]
        if len(able) != 1:
            msg = f"{address} cannot be told to one of the known ENIs"
            raise LookupError(msg)
        return able[0]

    def _take_this(self, address: Ip, eni: str | None) -> Lease:
        shelf, prefix = self._find(address)
        if shelf is None or eni not in {None, shelf.eni.id}:
            msg = f"{address} is no address of {eni or 'this node'}"
            raise PoolEmptyError(msg)
        if address in shelf.assigned:
            msg = f"{address} is assigned"
            raise PoolEmptyError(msg)
        if address in shelf.cooling:
            msg = f"{address} is cooling down"
            raise CoolingError(msg)
        held = shelf.held.get(prefix.network if prefix else address)
        if held is not None:
            msg = f"{address} is in quarantine: {held}"
            raise QuarantineError(msg)
        self._occupy(shelf, prefix, address)
        return Lease(
            address=address, eni=shelf.eni, prefix=prefix.network if prefix else None
        )

    def _kept_for(self, key: str, family: Family, eni: str | None) -> Ip | None:
        """The address that rests for a key, if it may be handed out."""
        address = self._kept.pop((key, family), None)
        if address is None or self._key_of.get(address) != key:
            return None
        shelf, prefix = self._find(address)
        if shelf is None or (prefix.network if prefix else address) in shelf.held:
            return None
        return address if eni in {None, shelf.eni.id} else None

    def _occupy(self, shelf: Shelf, prefix: Prefix | None, address: Ip) -> None:
        if prefix is None:
            self._home[address] = shelf
        shelf.hold(address, prefix)

    def _rest(
        self, shelf: Shelf, prefix: Prefix | None, address: Ip, seconds: float
    ) -> None:
        if seconds <= 0:
            self._ready(shelf, prefix, address)
            return
        due = self._clock() + seconds
        self._due[address] = due
        heapq.heappush(self._queue, (due, next(self._order), address))

    def _ready(self, shelf: Shelf, prefix: Prefix | None, address: Ip) -> None:
        self._due.pop(address, None)
        key = self._key_of.pop(address, None)
        if key is not None and self._kept.get((key, address.version)) == address:
            del self._kept[key, address.version]
        shelf.ready(address, prefix)

    def _empty(
        self, family: Family, eni: str | None = None, *, card: int | None = None
    ) -> PoolEmptyError:
        counts = self.counts(family, card=card)
        place = f"on {eni}" if eni else "on this node"
        if card is not None:
            place = f"on network card {card}"
        msg = (
            f"no IPv{family} address is free {place}: of {counts.total}"
            f" {counts.assigned} are assigned and {counts.cooling} are cooling down"
        )
        if counts.held:
            return QuarantineError(f"{msg}; {counts.held} are in quarantine")
        return CoolingError(msg) if counts.cooling else PoolEmptyError(msg)


_BOTH: tuple[Family, Family] = (4, 6)


def _in_order(block: Block) -> tuple[int, int]:
    first = (
        block if isinstance(block, IPv4Address | IPv6Address) else block.network_address
    )
    return block.version, int(first)
