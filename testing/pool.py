"""The pool's desk in memory, for allocate_ip: real bookkeeping, and no agent."""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from eniplug.core.pool import AddressPool
from eniplug.hooks import Eni, Family, Ip, Keep, Kind, Lease, Pod
from eniplug.testing.clock import HandClock


@define(eq=False)
class MemoryPool:
    """A desk as allocate_ip gets it (`eniplug.hooks.Pool`), over a pool of its own.

    ``taken`` lists what was taken, in order; ``clock`` is moved by hand, and an address
    that comes back rests for 30 s of it.
    """

    clock: HandClock = field(factory=HandClock)
    taken: list[Lease] = field(factory=list)
    holders: list[Pod] = field(factory=list)
    _pool: AddressPool = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Begin with nothing."""
        self._pool = AddressPool(30.0, self.clock)

    # -- a test's own ------------------------------------------------------------------

    def add(self, eni: Eni) -> None:
        """Let there be an ENI."""
        self._pool.add_eni(eni, slots=99, slots6=99)

    def fill(self, eni: Eni, addresses: Iterable[Ip]) -> None:
        """Let an ENI have more addresses."""
        self._pool.add(eni.id, addresses)

    def serve(self, pod: Pod) -> None:
        """Let a pod hold an address of any family."""
        self._pool.take(4 if self._pool.counts(4).idle else 6)
        self.holders.append(pod)

    def give_back(self, lease: Lease, wish: Keep | None = None) -> None:
        """Take an address back from a pod, and keep it if its release_ip says so."""
        self.taken.remove(lease)
        self._pool.release(lease.address)
        if wish is not None:
            self._pool.keep(lease.address, wish.key, wish.seconds)

    # -- the desk ----------------------------------------------------------------------

    def take(
        self,
        family: Family = 4,
        *,
        address: Ip | None = None,
        eni: str | None = None,
        prefer: Kind | None = None,
        kept: str | None = None,
    ) -> Lease:
        """Take an address; raises PoolEmptyError when there is none."""
        self._pool.expire()
        lease = self._pool.take(
            family, address=address, eni=eni, prefer=prefer, kept=kept
        )
        self.taken.append(lease)
        return lease

    def take_pair(self, *, prefer: Kind | None = None) -> tuple[Lease, Lease]:
        """Take an address of each family of one ENI."""
        self._pool.expire()
        pair = self._pool.take_pair(prefer=prefer)
        self.taken += pair
        return pair

    def take_each_card(self, *, prefer: Kind | None = None) -> tuple[Lease, ...]:
        """Take an address of each network card: it has one."""
        return (self.take(prefer=prefer),)

    def held(self, **match: str) -> int:
        """Count the holders whose fields are as given."""
        return sum(
            all(getattr(pod, k) == wanted for k, wanted in match.items())
            for pod in self.holders
        )
