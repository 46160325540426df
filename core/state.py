"""State: the pool, the parts, the slots, those who wait, and the store.

One object, one mutex.  Inside the mutex there is memory and the store's commit, never
a hook, netlink, a file, the log or a cloud call.  The one exception is the desk's
``take``, which allocate_ip calls and which takes the mutex itself.

Those who wait stand in a line: as long as somebody waits, nobody who came later is
given an address, and when one comes free the first in the line is woken.
"""

from __future__ import annotations

import heapq
import time
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, contextmanager, suppress
from ipaddress import IPv4Address, IPv6Address
from threading import Event, Lock
from typing import Any, Final, TypeVar

from attrs import define, evolve, field, frozen

from eniplug.core.claims import Claims
from eniplug.core.holdings import Holding, Holdings, holding_of
from eniplug.core.parts import AttachmentKey, Life, Part
from eniplug.core.pool import AddressPool, Counts, Quarantined
from eniplug.core.public import Standing, declared
from eniplug.core.store import Store
from eniplug.hooks import (
    Block,
    Eni,
    EniView,
    Family,
    Ip,
    Keep,
    Kind,
    Lease,
    Object,
)
from eniplug.hooks.errors import (
    CancelledError,
    EniplugError,
    PluginError,
    PoolEmptyError,
    StoreError,
    UnsupportedError,
)
from eniplug.hooks.objects import Key

T = TypeVar("T")

ELASTIC_IPS: Final = "elastic-ips"
"""The fact that EC2 may have public addresses of this node's."""


@define(eq=False)
class Waiter:
    """An ADD that stands in the line. ``turn`` is set when it should look again.

    ``every_card`` says that it wants an address of each network card.  ``pod`` is its
    namespace and name, ``since`` when it came.
    """

    key: AttachmentKey
    every_card: bool = False
    pod: tuple[str, str] = ("", "")
    since: float = 0.0
    turn: Event = field(factory=Event)
    cancelled: str = ""


@frozen(kw_only=True)
class Waiting:
    """Who stands in the line: at which place, counted from 1, and since how long."""

    namespace: str
    name: str
    container_id: str
    place: int
    seconds: float


class Desk:
    """The pool, as allocate_ip sees it during one ADD (`eniplug.hooks.Pool`).

    It closes when the hook has ended, or was given up: what a plugin took later than
    that would be nobody's.
    """

    def __init__(self, state: State, waiter: Waiter | None) -> None:
        self._state = state
        self._waiter = waiter
        self._closed = False
        self.taken: list[Lease] = []
        self.every_card = False

    def take(
        self,
        family: Family = 4,
        *,
        address: Ip | None = None,
        eni: str | None = None,
        prefer: Kind | None = None,
        kept: str | None = None,
    ) -> Lease:
        """Take an address, unless somebody waits who came before."""
        with self._state.still():
            lease = self._pool().take(
                family, address=address, eni=eni, prefer=prefer, kept=kept
            )
            self.taken.append(lease)
        self._state.wake_cloud()
        return lease

    def take_pair(self, *, prefer: Kind | None = None) -> tuple[Lease, Lease]:
        """Take an address of each family, unless somebody waits who came before."""
        with self._state.still():
            pair = self._pool().take_pair(prefer=prefer)
            self.taken += pair
        self._state.wake_cloud()
        return pair

    def take_each_card(self, *, prefer: Kind | None = None) -> tuple[Lease, ...]:
        """Take an address of each managed card, unless somebody waits who came before.

        Raises UnsupportedError where only card 0 is managed because of the settings.
        """
        if self._state.cards is None:
            msg = "the pod asks for an interface on every network card"
            remedy = "set ENABLE_MULTI_NIC=true, or take the pod's annotation away"
            raise UnsupportedError(msg, remedy)
        self.every_card = True
        with self._state.still():
            leases = self._pool().take_each(self._state.cards, prefer=prefer)
            self.taken += leases
        self._state.wake_cloud()
        return leases

    def held(self, **match: str) -> int:
        """Count the pods that hold addresses and whose fields are as given."""
        return self._state.held(match)

    def close(self) -> None:
        """Give nothing more out."""
        with self._state.still():
            self._closed = True

    def keep(self, used: Collection[Ip]) -> None:
        """Return what was taken and is not used."""
        for lease in [one for one in self.taken if one.address not in used]:
            self.taken.remove(lease)
            self._state.give_back(lease)

    def give_back(self) -> None:
        """Return what was taken: the ADD has failed, or begins anew."""
        self.close()
        while self.taken:
            self._state.give_back(self.taken.pop())

    def _pool(self) -> AddressPool:
        pool = self._state.turn(self._waiter)
        if self._closed:
            msg = "the pool was asked for an address when allocate_ip had ended"
            raise PluginError(msg)
        return pool


class State:
    """What the agent knows and must not forget.

    ``cards`` are the network cards that pods may ask for; None where they may not.
    """

    def __init__(
        self,
        store: Store,
        pool: AddressPool,
        wake_cloud: Callable[[], None],
        now: Callable[[], float] = time.time,
        *,
        cards: tuple[int, ...] | None = None,
    ) -> None:
        self.cards = cards
        self._mutex = Lock()
        self._store = store
        self._pool = pool
        self.wake_cloud = wake_cloud
        self._now = now
        self._parts: dict[AttachmentKey, dict[int, Part]] = {}
        self._holdings = Holdings()
        self._claims = Claims()
        self._line: list[Waiter] = []
        self._standing_by: list[Waiter] = []
        self._tenants: dict[int, AttachmentKey] = {}
        self._elastic_ips = Standing()
        self._slots_used: set[int] = set()
        self._slots_free: list[int] = []
        self._unwritten: set[int] = set()
        self._marks = store.marks()
        self._still_cooling = store.cooling()
        self._still_kept = store.kept()
        self._blocked: EniplugError | None = None
        for part in store.parts():
            self._file(part, holding_of(part))
            self._slots_used.add(part.pod.slot)
        self._slots_free = [
            n
            for n in range(max(self._slots_used, default=-1))
            if n not in self._slots_used
        ]

    # -- addresses ---------------------------------------------------------------------

    def add_eni(
        self,
        eni: Eni,
        places: tuple[int, int],
        blocks: Iterable[Block],
        *,
        kept: bool = False,
    ) -> None:
        """Let the pool hand out an ENI's addresses; pods keep those they have.

        ``places`` is how many blocks of IPv4 and of IPv6 it may carry.
        """
        with self._mutex:
            self._pool.add_eni(eni, *places, kept=kept)
            self._admit(eni.id, blocks)
            for part in self._all():
                for nic in part.allocation.nics if part.leased else ():
                    if nic.eni is not None and nic.eni.id == eni.id:
                        for one in nic.addresses:
                            if self._pool.lease_of(one.ip) is None:
                                self._pool.hold(one.ip, eni=eni.id)
            self._next_in_line()

    def _admit(self, eni_id: str, blocks: Iterable[Block]) -> None:
        """Add blocks, and write them down.

        Addresses that were cooling when the agent stopped go on to.
        """
        known = tuple(blocks)
        self._store.keep_blocks(eni_id, known)
        self._pool.add(eni_id, known)
        for address, until in tuple(self._still_cooling.items()):
            if any(_within(address, block) for block in known):
                del self._still_cooling[address]
                if self._pool.lease_of(address) is None:
                    left = max(0.0, until - self._now())
                    key = self._still_kept.get(address)
                    if key is None:
                        self._pool.cool(address, left)
                    else:
                        self._pool.keep(address, key, left)

    def remove_eni(self, eni_id: str) -> bool:
        """Take a whole ENI out of the pool; False when an address of it is in use."""
        with self._mutex:
            view = next((v for v in self._pool.views() if v.id == eni_id), None)
            if view is None or view.assigned or view.cooling or self._line:
                return False
            self._store.drop_blocks(self._pool.blocks(eni_id))
            self._pool.remove_eni(eni_id)
            return True

    def supply(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Let more blocks of a known ENI be handed out."""
        with self._mutex:
            self._admit(eni_id, blocks)
            self._blocked = None
            self._next_in_line()

    def withdraw(self, eni_id: str, blocks: Sequence[Block]) -> tuple[Block, ...]:
        """Take unused blocks out of the pool; nobody who waits goes short."""
        with self._mutex:
            if self._line:
                return ()
            left = self._pool.withdraw(eni_id, blocks)
            self._store.drop_blocks(left)
            return left

    def blocks(self, eni_id: str) -> frozenset[Block]:
        """All that the pool has of an ENI; empty if it does not know it."""
        with self._mutex:
            return self._pool.blocks(eni_id) if self._pool.eni(eni_id) else frozenset()

    def quarantine(self, eni_id: str, block: Block, reason: str) -> None:
        """Hand out no more of a block; pods that have an address of it keep it."""
        with self._mutex:
            self._store.keep_blocks(eni_id, (block,), reason)
            self._pool.quarantine(eni_id, block, reason)

    def quarantined(self) -> tuple[Quarantined, ...]:
        """What gets no new pods, and why."""
        with self._mutex:
            return self._pool.quarantined()

    def still(self) -> AbstractContextManager[bool]:
        """Hold that nobody takes from the pool meanwhile."""
        return self._mutex

    def turn(self, waiter: Waiter | None) -> AddressPool:
        """Give the pool, for as long as the caller holds it `still`.

        Raises PoolEmptyError when it is not one's turn.
        """
        self._expire()
        ahead = self._line[0] if self._line else None
        if ahead is not None and ahead is not waiter:
            msg = f"{len(self._line)} pods wait for an address already"
            raise PoolEmptyError(msg)
        return self._pool

    def give_back(self, lease: Lease) -> None:
        """Return an address that no pod has used."""
        with self._mutex:
            self._pool.release(lease.address, cooldown=0.0)
            self._next_in_line()

    def keep(self, addresses: Iterable[Ip], wish: Keep) -> None:
        """Keep addresses that a pod gave back for whoever takes them by a key."""
        with self._mutex:
            free = [one for one in addresses if self._pool.lease_of(one) is None]
            kept = {**self._pool.kept(), **dict.fromkeys(free, wish.key)}
            self._store.keep(kept, dict.fromkeys(free, self._now() + wish.seconds))
            for address in free:
                self._pool.keep(address, wish.key, wish.seconds)

    def held(self, match: Mapping[str, str]) -> int:
        """Count attachments with addresses whose pod has these fields."""
        with self._mutex:
            return sum(
                part.leased
                and all(getattr(part.pod, k) == wanted for k, wanted in match.items())
                for part in self._all()
            )

    def views(self) -> tuple[tuple[EniView, ...], int]:
        """The pool's ENIs, and how many ADDs wait."""
        with self._mutex:
            self._expire()
            return self._pool.views(), len(self._line)

    def waiting_for_all(self) -> int:
        """How many of those who wait want an address of each network card."""
        with self._mutex:
            return sum(waiter.every_card for waiter in self._line)

    def counts(self, family: Family | None = None) -> Counts:
        """How many addresses there are, of one family or both, and in which state."""
        with self._mutex:
            self._expire()
            return self._pool.counts(family)

    def _expire(self) -> None:
        cooled = self._pool.expire()
        if cooled:
            # What is not forgotten cools on after a restart: no reason to fail.
            with suppress(StoreError):
                self._store.cooled(cooled)

    # -- the line ----------------------------------------------------------------------

    def queue(
        self,
        key: AttachmentKey,
        *,
        every_card: bool = False,
        pod: tuple[str, str] = ("", ""),
    ) -> Waiter:
        """Stand in the line, for one address or one of each network card."""
        waiter = Waiter(key, every_card, pod, self._now())
        with self._mutex:
            self._line.append(waiter)
        self.wake_cloud()
        return waiter

    def waiting(self) -> tuple[Waiting, ...]:
        """Who stands in the line, in order."""
        with self._mutex:
            line, now = tuple(self._line), self._now()
        return tuple(
            Waiting(
                namespace=waiter.pod[0],
                name=waiter.pod[1],
                container_id=waiter.key.container_id,
                place=place,
                seconds=round(now - waiter.since, 1),
            )
            for place, waiter in enumerate(line, 1)
        )

    def leave(self, waiter: Waiter) -> None:
        """Leave the line, served or not; the next one may look."""
        with self._mutex:
            self._line.remove(waiter)
            self._next_in_line()

    def is_first(self, waiter: Waiter) -> bool:
        """Whether it is this one's turn."""
        with self._mutex:
            return self._line[0] is waiter

    def cancel(self, key: AttachmentKey | None, why: str) -> None:
        """End the waiting of one attachment's ADDs, or of all."""
        with self._mutex:
            for waiter in (*self._line, *self._standing_by):
                if key is None or waiter.key == key:
                    waiter.cancelled = why
                    waiter.turn.set()

    def look_again(self) -> float | None:
        """Wake the first in the line; returns when the next address has cooled down.

        The time is of the pool's clock, in seconds; None when nothing cools.
        """
        with self._mutex:
            self._next_in_line()
            return self._pool.next_due()

    def _next_in_line(self) -> None:
        if self._line:
            self._line[0].turn.set()

    def blocked(self, error: EniplugError | None) -> None:
        """Note why there are no more addresses to be had; those who wait are told."""
        with self._mutex:
            self._blocked = error
            self._next_in_line()

    def why_blocked(self) -> EniplugError | None:
        """Why no more addresses can be had, or None when they can."""
        with self._mutex:
            return self._blocked

    # -- public addresses --------------------------------------------------------------

    def tenants(self) -> tuple[Part, ...]:
        """The parts that declare a public address."""
        with self._mutex:
            return tuple(
                self._parts[key][number] for number, key in self._tenants.items()
            )

    def expect_elastic_ips(self) -> None:
        """Commit that from now on EC2 may have public addresses of this node's."""
        with self._mutex:
            if self._store.fact(ELASTIC_IPS) is None:
                self._store.keep_fact(ELASTIC_IPS, "")

    def elastic_ips_are(self, standing: Standing) -> None:
        """Take what is known of public addresses; whoever waits for one may look."""
        with self._mutex:
            self._elastic_ips = standing
            for waiter in self._standing_by:
                waiter.turn.set()

    @property
    def elastic_ips(self) -> Standing:
        """What is known of public addresses."""
        return self._elastic_ips

    @contextmanager
    def standing_by(self, key: AttachmentKey) -> Generator[Waiter]:
        """Wait, in no line, for what EC2 does; a DEL or the agent's end cancels it."""
        waiter = Waiter(key)
        with self._mutex:
            self._standing_by.append(waiter)
        try:
            yield waiter
        finally:
            with self._mutex:
                self._standing_by.remove(waiter)

    # -- parts -------------------------------------------------------------------------

    def open_slot(self) -> int:
        """Take the smallest free integer of this node."""
        with self._mutex:
            if self._slots_free:
                slot = heapq.heappop(self._slots_free)
            else:
                slot = len(self._slots_used)  # all smaller ones are in use
            self._slots_used.add(slot)
            return slot

    def close_slot(self, slot: int) -> None:
        """Give a slot back."""
        with self._mutex:
            self._close_slot(slot)

    def _close_slot(self, slot: int) -> None:
        self._slots_used.discard(slot)
        heapq.heappush(self._slots_free, slot)

    def begin(self, part: Part) -> Part:
        """Commit a part before anything of it is done.

        Raises TakenError when another attachment has what it claims, ConflictError
        when one has another of its host objects.
        """
        holding = holding_of(part)
        with self._mutex:
            self._claims.check(part)
            self._holdings.check(holding)
            part = self._store.begin(part)
            self._file(part, holding)
        if part.id in self._tenants:
            self.wake_cloud()
        return part

    def live(
        self, part: Part, result: Mapping[str, Any], foreign: Collection[Object] = ()
    ) -> Part:
        """Commit that a part is whole; see `made` for what need not wait for that.

        ``foreign`` objects were there before: they are used, but not ours to remove.
        """
        kept = part.objects
        if foreign:
            kept = tuple(o for o in kept if o not in foreign)
        whole = kept != part.objects
        alive = evolve(part, life=Life.LIVE, result=result, objects=kept)
        with self._mutex:
            self._store.update(alive, whole=whole)
            if whole:
                self._unfile(part)
                self._file(alive, holding_of(alive))
            else:
                self._parts[part.key][part.id] = alive
        if part.id in self._tenants:
            self.wake_cloud()
        return alive

    def made(self, part: Part) -> Part:
        """Know that a part is whole, before its ADD is answered.

        It was committed with its result, and its link, which is raised last, tells the
        same: the store hears of it with the next `catch_up`.
        """
        alive = evolve(part, life=Life.LIVE)
        with self._mutex:
            self._parts[part.key][part.id] = alive
            self._unwritten.add(part.id)
        if part.id in self._tenants:
            self.wake_cloud()
        return alive

    def catch_up(self) -> None:
        """Commit which parts are live, as far as only their links tell."""
        with self._mutex:
            if self._unwritten:
                self._store.enliven(self._unwritten)
                self._unwritten.clear()

    def dying(self, part: Part) -> Part:
        """Commit that a part is about to be removed."""
        with self._mutex:
            held = self._parts[part.key]
            part = evolve(held[part.id], life=Life.DYING)
            self._store.mark(part)
            self._unwritten.discard(part.id)
            held[part.id] = part
        if part.id in self._tenants:
            self.wake_cloud()
        return part

    def gone(self, part: Part) -> None:
        """Forget a part that is removed; its addresses begin to cool."""
        with self._mutex:
            self._drop(part, self._pool.cooldown)
        self.wake_cloud()

    def aborted(self, part: Part) -> None:
        """Forget a part that never came to live; its addresses are free at once."""
        with self._mutex:
            self._drop(part, 0.0)
        if declared(part):
            self.wake_cloud()

    def _drop(self, part: Part, cooldown: float) -> None:
        addresses = part.addresses
        until = self._now() + cooldown
        self._store.drop(part, dict.fromkeys(addresses, until) if cooldown else {})
        if not self._unfile(part):
            self._close_slot(part.pod.slot)
        for address in addresses:
            with suppress(ValueError):  # its ENI may not be in the pool
                self._pool.release(address, cooldown=cooldown)
        self._next_in_line()

    def parts_of(self, key: AttachmentKey) -> tuple[Part, ...]:
        """The parts of an attachment, oldest first."""
        with self._mutex:
            return tuple(self._parts.get(key, {}).values())

    def parts(self) -> tuple[Part, ...]:
        """All parts of all attachments."""
        with self._mutex:
            return tuple(self._all())

    def owners(
        self, slots: Iterable[Key], links: Iterable[str]
    ) -> frozenset[AttachmentKey]:
        """The attachments that have host objects in these slots, or on these links."""
        with self._mutex:
            return self._holdings.owners(slots, links)

    def _all(self) -> Iterable[Part]:
        return (part for parts in self._parts.values() for part in parts.values())

    def _file(self, part: Part, holding: Holding) -> None:
        key = holding.key
        self._parts.setdefault(key, {})[part.id] = part
        if declared(part):
            self._tenants[part.id] = key
        self._claims.add(part)
        self._holdings.add(part.id, holding)

    def _unfile(self, part: Part) -> Collection[Part]:
        """Know a part no more; returns what is left of its attachment."""
        key = part.key
        siblings = self._parts[key]
        del siblings[part.id]
        if not siblings:
            del self._parts[key]
        self._tenants.pop(part.id, None)
        self._claims.remove(part)
        self._holdings.remove(part.id, siblings)
        return siblings.values()

    # -- the node ----------------------------------------------------------------------

    def mark_for(self, eni_id: str, *, primary: bool = False) -> int:
        """An ENI's number: 1 for the primary one, else the smallest free from 2 on."""
        if primary:
            return 1
        with self._mutex:
            if eni_id not in self._marks:
                used = set(self._marks.values())
                mark = next(n for n in range(2, 128) if n not in used)
                self._store.keep_mark(eni_id, mark)
                self._marks[eni_id] = mark
            return self._marks[eni_id]

    def drop_mark(self, eni_id: str) -> None:
        """Free the number of an ENI that is gone."""
        with self._mutex:
            self._marks.pop(eni_id, None)
            self._store.drop_mark(eni_id)

    def with_store(self, work: Callable[[Store], T]) -> T:
        """Use the store for what is not a part, under the mutex."""
        with self._mutex:
            return work(self._store)


def cancelled(waiter: Waiter) -> CancelledError:
    """The error that a waiting ADD ends with."""
    return CancelledError(f"waiting for an address was given up: {waiter.cancelled}")


def _within(address: Ip, block: Block) -> bool:
    """Whether an address is a block, or of it."""
    if isinstance(block, IPv4Address | IPv6Address):
        return address == block
    return address.version == block.version and address in block
