"""The pool: every address that this node may hand out, in memory.

Rules of this file:

- An address is in exactly one of three states: *assigned*, *cooling* or *idle*.
- Taking and giving back cost the same for 100 addresses as for 10 000; only the number
  of ENIs, which is small, is ever walked.
- It packs: addresses come from the ENI that serves most, so that the others drain and
  can be given back.  Within an ENI the address that rested longest is next.
- It is not thread-safe: its owner holds a mutex.  It does not write anything down: its
  owner commits what must survive.
"""

from __future__ import annotations

import heapq
from collections import OrderedDict
from collections.abc import Callable, Iterable
from itertools import count

from attrs import define, field, frozen

from eniplug.hooks.errors import PoolEmptyError
from eniplug.hooks.objects import Family, Ip
from eniplug.hooks.values import Eni, EniView, Lease


@frozen(kw_only=True)
class Counts:
    """How many addresses are in which state."""

    total: int
    assigned: int
    cooling: int
    idle: int


def _rests() -> dict[int, OrderedDict[Ip, None]]:
    return {4: OrderedDict(), 6: OrderedDict()}


@define(eq=False, kw_only=True)
class _Shelf:
    """One ENI's addresses."""

    eni: Eni
    capacity: int
    since: float
    assigned: set[Ip] = field(factory=set)
    cooling: set[Ip] = field(factory=set)
    # An OrderedDict and not a dict: taking the first key of a dict, again and again,
    # walks over all that were taken before.
    idle: dict[int, OrderedDict[Ip, None]] = field(factory=_rests)

    @property
    def idle_count(self) -> int:
        return sum(map(len, self.idle.values()))

    @property
    def total(self) -> int:
        return len(self.assigned) + len(self.cooling) + self.idle_count

    def view(self, now: float) -> EniView:
        return EniView(
            id=self.eni.id,
            primary=self.eni.primary,
            assigned=len(self.assigned),
            cooling=len(self.cooling),
            idle=tuple(address for idle in self.idle.values() for address in idle),
            slots=max(self.capacity - self.total, 0),
            age=now - self.since,
        )


class AddressPool:
    """All addresses of a node's ENIs, and who rests and who serves.

    ``cooldown`` is how many seconds an address rests after its pod is gone; ``clock``
    gives seconds that never go back.  Naming an unknown ENI or address raises
    LookupError, asking for a change that an address's state forbids ValueError.
    """

    def __init__(self, cooldown: float, clock: Callable[[], float]) -> None:
        self.cooldown = cooldown
        self._clock = clock
        self._shelves: dict[str, _Shelf] = {}
        self._home: dict[Ip, _Shelf] = {}
        self._due: dict[Ip, float] = {}
        # May hold what no longer cools; an entry counts if it agrees with _due.
        self._queue: list[tuple[float, int, Ip]] = []
        self._order = count()

    # -- what there is ---------------------------------------------------------------

    def add_eni(self, eni: Eni, capacity: int = 0) -> None:
        """Know an ENI that may carry ``capacity`` addresses for pods.

        A known one keeps its addresses and takes the new description.
        """
        known = self._shelves.get(eni.id)
        if known is None:
            shelf = _Shelf(eni=eni, capacity=capacity, since=self._clock())
            self._shelves[eni.id] = shelf
        else:
            known.eni, known.capacity = eni, capacity

    def remove_eni(self, eni_id: str) -> None:
        """Forget an ENI and its idle addresses.

        Raises ValueError while one of its addresses is assigned or cooling.
        """
        shelf = self._shelf(eni_id)
        if shelf.assigned or shelf.cooling:
            msg = (
                f"{eni_id} still has {len(shelf.assigned)} assigned"
                f" and {len(shelf.cooling)} cooling addresses"
            )
            raise ValueError(msg)
        for idle in shelf.idle.values():
            for address in idle:
                del self._home[address]
        del self._shelves[eni_id]

    def add(self, eni_id: str, addresses: Iterable[Ip]) -> None:
        """Take addresses of an ENI in; one that is known stays as it is.

        Raises ValueError, and adds none, if another ENI has one of them.
        """
        shelf = self._shelf(eni_id)
        given = sorted(set(addresses), key=lambda a: (a.version, int(a)))
        for address in given:
            home = self._home.get(address, shelf)
            if home is not shelf:
                msg = f"{address} is an address of {home.eni.id}, not of {eni_id}"
                raise ValueError(msg)
        for address in given:
            if address not in self._home:
                self._home[address] = shelf
                shelf.idle[address.version][address] = None

    def withdraw(self, eni_id: str, addresses: Iterable[Ip]) -> tuple[Ip, ...]:
        """Forget those of the addresses that are idle, and return them."""
        shelf = self._shelf(eni_id)
        left = tuple(
            address
            for address in dict.fromkeys(addresses)
            if address in shelf.idle[address.version]
        )
        for address in left:
            del shelf.idle[address.version][address]
            del self._home[address]
        return left

    # -- pods come and go ------------------------------------------------------------

    def take(
        self,
        family: Family = 4,
        *,
        address: Ip | None = None,
        eni: str | None = None,
    ) -> Lease:
        """Assign an idle address: just this one, or one of this ENI, or any.

        Raises PoolEmptyError when there is none.
        """
        if address is not None:
            return self._take_this(address, eni)
        shelf = max(
            (
                shelf
                for shelf in self._shelves.values()
                if shelf.idle[family] and eni in {None, shelf.eni.id}
            ),
            # Among equals the primary ENI, which can never be given back anyway.
            key=lambda shelf: (len(shelf.assigned), shelf.eni.primary),
            default=None,
        )
        if shelf is None:
            raise self._empty(family, eni)
        address, _ = shelf.idle[family].popitem(last=False)
        shelf.assigned.add(address)
        return Lease(address=address, eni=shelf.eni)

    def hold(self, address: Ip, *, eni: str | None = None) -> Lease:
        """Mark an address as assigned, as a node's earlier life left it.

        It may be cooling, and it may be one that was not added yet: then ``eni``
        says whose it is, and may be left out if only one ENI's subnet has it.

        Raises ValueError if it is assigned, LookupError if it belongs to no known ENI.
        """
        shelf = self._home.get(address) or self._shelf_for(address, eni)
        if address in shelf.assigned:
            msg = f"{address} of {shelf.eni.id} is assigned already"
            raise ValueError(msg)
        self._rouse(shelf, address)
        self._home[address] = shelf
        shelf.assigned.add(address)
        return Lease(address=address, eni=shelf.eni)

    def release(self, address: Ip, *, cooldown: float | None = None) -> None:
        """Give an assigned address back; it cools down first.

        ``cooldown`` in seconds, if not the pool's: 0 for one that no pod has used.
        """
        shelf = self._home.get(address)
        if shelf is None or address not in shelf.assigned:
            msg = f"{address} is not assigned"
            raise ValueError(msg)
        shelf.assigned.remove(address)
        self._rest(shelf, address, self.cooldown if cooldown is None else cooldown)

    def cool(self, address: Ip, seconds: float) -> None:
        """Let an address that is not assigned rest, as an earlier life left it."""
        shelf = self._home.get(address)
        if shelf is None:
            msg = f"{address} belongs to no known ENI"
            raise LookupError(msg)
        if address in shelf.assigned:
            msg = f"{address} is assigned"
            raise ValueError(msg)
        self._rouse(shelf, address)
        self._rest(shelf, address, seconds)

    def expire(self) -> tuple[Ip, ...]:
        """Make those idle that have cooled down, and return them."""
        now = self._clock()
        ready: list[Ip] = []
        while (due := self.next_due()) is not None and due <= now:
            address = heapq.heappop(self._queue)[2]
            shelf = self._home[address]
            self._rouse(shelf, address)
            shelf.idle[address.version][address] = None
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
        shelf = self._home.get(address)
        if shelf is None or address not in shelf.assigned:
            return None
        return Lease(address=address, eni=shelf.eni)

    def eni(self, eni_id: str) -> Eni | None:
        """Return a known ENI, else None."""
        shelf = self._shelves.get(eni_id)
        return shelf.eni if shelf else None

    def enis(self) -> tuple[Eni, ...]:
        """Return the known ENIs, the primary first, then as they were added."""
        enis = (shelf.eni for shelf in self._shelves.values())
        return tuple(sorted(enis, key=lambda eni: not eni.primary))

    def views(self) -> tuple[EniView, ...]:
        """Return what plan_capacity sees, the primary ENI first."""
        now = self._clock()
        return tuple(self._shelves[eni.id].view(now) for eni in self.enis())

    def counts(self) -> Counts:
        """Count the addresses."""
        shelves = self._shelves.values()
        return Counts(
            total=len(self._home),
            assigned=sum(len(shelf.assigned) for shelf in shelves),
            cooling=len(self._due),
            idle=sum(shelf.idle_count for shelf in shelves),
        )

    # -- inside ----------------------------------------------------------------------

    def _shelf(self, eni_id: str) -> _Shelf:
        try:
            return self._shelves[eni_id]
        except KeyError:
            msg = f"{eni_id} is not known"
            raise LookupError(msg) from None

    def _shelf_for(self, address: Ip, eni: str | None) -> _Shelf:
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
        shelf = self._home.get(address)
        if shelf is None or eni not in {None, shelf.eni.id}:
            msg = f"{address} is no address of {eni or 'this node'}"
            raise PoolEmptyError(msg)
        if address not in shelf.idle[address.version]:
            state = "assigned" if address in shelf.assigned else "cooling down"
            msg = f"{address} is {state}"
            raise PoolEmptyError(msg)
        del shelf.idle[address.version][address]
        shelf.assigned.add(address)
        return Lease(address=address, eni=shelf.eni)

    def _rest(self, shelf: _Shelf, address: Ip, seconds: float) -> None:
        if seconds <= 0:
            shelf.idle[address.version][address] = None
            return
        due = self._clock() + seconds
        shelf.cooling.add(address)
        self._due[address] = due
        heapq.heappush(self._queue, (due, next(self._order), address))

    def _rouse(self, shelf: _Shelf, address: Ip) -> None:
        shelf.idle[address.version].pop(address, None)
        shelf.cooling.discard(address)
        self._due.pop(address, None)

    def _empty(self, family: Family, eni: str | None) -> PoolEmptyError:
        counts = self.counts()
        place = f"on {eni}" if eni else "on this node"
        msg = (
            f"no IPv{family} address is free {place}: of {counts.total}"
            f" {counts.assigned} are assigned and {counts.cooling} are cooling down"
        )
        return PoolEmptyError(msg)
