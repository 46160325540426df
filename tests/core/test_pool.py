from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv6Address, ip_interface, ip_network

import pytest
from attrs import evolve
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
)

from eniplug.core.pool import AddressPool, Counts
from eniplug.hooks.capacity import EniView
from eniplug.hooks.errors import PoolEmptyError
from eniplug.hooks.objects import Ip
from eniplug.hooks.values import Eni, Lease
from eniplug.testing.clock import HandClock


def eni(device: int, subnet: str = "10.0.0.0/24") -> Eni:
    network = ip_network(subnet)
    return Eni(
        id=f"eni-{device}",
        link=f"ens{5 + device}",
        mac=f"02:00:00:00:00:{device:02x}",
        device=device,
        mark=device + 1,
        addresses=(ip_interface(f"{network[4 + device]}/{network.prefixlen}"),),
    )


def ips(*last: int, net: int = 0) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(f"10.0.{net}.{number}") for number in last)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def pool(clock: HandClock) -> AddressPool:
    """Two ENIs in one subnet, with .10 to .12 and .20 to .22."""
    pool = AddressPool(30, clock)
    pool.add_eni(eni(0), slots=5)
    pool.add_eni(eni(1), slots=3)
    pool.add("eni-0", ips(12, 10, 11))
    pool.add("eni-1", ips(20, 21, 22))
    return pool


def test_the_lowest_address_of_the_primary_eni_is_first(pool: AddressPool) -> None:
    assert pool.take() == Lease(address=ips(10)[0], eni=eni(0))


def test_the_fullest_eni_is_next(pool: AddressPool) -> None:
    pool.take(eni="eni-1")

    taken = [pool.take().eni.id for _ in range(5)]

    assert taken == ["eni-1", "eni-1", "eni-0", "eni-0", "eni-0"]


def test_an_empty_pool_names_the_cause(pool: AddressPool) -> None:
    for _ in range(6):
        pool.take()
    pool.release(ips(10)[0])

    with pytest.raises(PoolEmptyError) as caught:
        pool.take()

    assert caught.value.message == (
        "no IPv4 address is free on this node:"
        " of 6 5 are assigned and 1 are cooling down"
    )


def test_one_familys_addresses_do_not_serve_the_other(pool: AddressPool) -> None:
    six = IPv6Address("2001:db8::7")
    pool.add("eni-0", [six])

    assert pool.take(6).address == six
    with pytest.raises(PoolEmptyError):
        pool.take(6)


def test_just_this_address_can_be_asked_for(pool: AddressPool) -> None:
    assert pool.take(address=ips(21)[0]).eni.id == "eni-1"
    with pytest.raises(PoolEmptyError, match=r"10\.0\.0\.21 is assigned"):
        pool.take(address=ips(21)[0])
    with pytest.raises(PoolEmptyError, match="no address of this node"):
        pool.take(address=ips(99)[0])
    with pytest.raises(PoolEmptyError, match="no address of eni-0"):
        pool.take(address=ips(22)[0], eni="eni-0")


def test_a_released_address_cools_down(pool: AddressPool, clock: HandClock) -> None:
    address = pool.take().address
    pool.release(address)

    with pytest.raises(PoolEmptyError, match="cooling down"):
        pool.take(address=address)
    assert pool.counts() == Counts(total=6, assigned=0, cooling=1, idle=5)
    assert pool.next_due() == clock() + 30
    clock.advance(29.9)
    assert pool.expire() == ()
    clock.advance(0.1)
    assert pool.expire() == (address,)
    assert pool.next_due() is None
    assert pool.take(address=address).address == address


def test_the_address_that_rested_longest_is_next(
    pool: AddressPool, clock: HandClock
) -> None:
    first = pool.take(eni="eni-1").address
    pool.release(first)
    clock.advance(30)
    pool.expire()

    taken = [pool.take(eni="eni-1").address for _ in range(3)]

    assert taken == [*ips(21, 22), first]


def test_an_address_that_no_pod_used_is_free_at_once(pool: AddressPool) -> None:
    address = pool.take().address

    pool.release(address, cooldown=0)

    assert pool.counts() == Counts(total=6, assigned=0, cooling=0, idle=6)


def test_what_is_not_assigned_cannot_be_released(pool: AddressPool) -> None:
    for address in (*ips(10), *ips(99)):
        with pytest.raises(ValueError, match="is not assigned"):
            pool.release(address)


def test_adding_twice_changes_nothing(pool: AddressPool) -> None:
    held, cooling = pool.take().address, pool.take().address
    pool.release(cooling)
    before = pool.counts()

    pool.add("eni-0", ips(10, 11, 12))

    assert pool.counts() == before
    assert pool.lease_of(held) is not None


def test_an_address_cannot_be_of_two_enis(pool: AddressPool) -> None:
    with pytest.raises(ValueError, match=r"10\.0\.0\.20 is of eni-1"):
        pool.add("eni-0", ips(13, 20))

    assert pool.counts().total == 6


def test_only_idle_addresses_are_withdrawn(pool: AddressPool) -> None:
    assigned, cooling = pool.take().address, pool.take().address
    pool.release(cooling)

    left = pool.withdraw("eni-0", (assigned, cooling, *ips(12, 12, 20, 99)))

    assert left == ips(12)
    assert pool.counts() == Counts(total=5, assigned=1, cooling=1, idle=3)


def test_an_eni_goes_with_its_idle_addresses(pool: AddressPool) -> None:
    pool.remove_eni("eni-1")

    assert pool.enis() == (eni(0),)
    assert pool.counts().total == 3
    pool.add("eni-0", ips(20))


def test_an_eni_stays_while_it_serves_or_cools(pool: AddressPool) -> None:
    address = pool.take(eni="eni-1").address
    with pytest.raises(ValueError, match="1 assigned and 0 cooling"):
        pool.remove_eni("eni-1")
    pool.release(address)
    with pytest.raises(ValueError, match="0 assigned and 1 cooling"):
        pool.remove_eni("eni-1")

    assert pool.counts() == Counts(total=6, assigned=0, cooling=1, idle=5)


def test_an_unknown_eni_is_told(pool: AddressPool) -> None:
    with pytest.raises(LookupError, match="eni-9"):
        pool.add("eni-9", ())
    with pytest.raises(LookupError, match="eni-9"):
        pool.remove_eni("eni-9")


def test_a_known_eni_takes_a_new_description(pool: AddressPool) -> None:
    renamed = evolve(eni(0), link="enX0")

    pool.add_eni(renamed, slots=7)

    assert pool.eni("eni-0") == renamed
    assert pool.take().eni == renamed
    assert pool.views()[0].slots == 4


def test_a_restored_address_is_assigned_whatever_it_was(pool: AddressPool) -> None:
    pool.cool(ips(11)[0], 5)

    for address in (*ips(10), *ips(11)):
        assert pool.hold(address) == Lease(address=address, eni=eni(0))

    assert pool.next_due() is None
    assert pool.counts() == Counts(total=6, assigned=2, cooling=0, idle=4)
    with pytest.raises(ValueError, match="assigned already"):
        pool.hold(ips(10)[0])


def test_a_restored_address_may_be_unknown_if_its_eni_is_not(pool: AddressPool) -> None:
    lease = pool.hold(ips(30)[0], eni="eni-1")

    assert lease.eni.id == "eni-1"
    assert pool.lease_of(ips(30)[0]) == lease
    assert pool.counts().total == 7


def test_a_restored_address_is_told_to_the_only_eni_that_can_have_it(
    pool: AddressPool,
) -> None:
    pool.add_eni(eni(2, "10.0.2.0/24"))

    assert pool.hold(ips(7, net=2)[0]).eni.id == "eni-2"
    with pytest.raises(LookupError):
        pool.hold(ips(30)[0])  # two ENIs are in that subnet
    with pytest.raises(LookupError):
        pool.hold(ips(7, net=3)[0])


def test_a_restored_address_cools_for_what_is_left(
    pool: AddressPool, clock: HandClock
) -> None:
    pool.cool(ips(11)[0], 5)
    pool.cool(ips(12)[0], 0)
    pool.cool(ips(11)[0], 7)

    assert pool.counts() == Counts(total=6, assigned=0, cooling=1, idle=5)
    clock.advance(6)
    assert pool.expire() == ()
    clock.advance(1)
    assert pool.expire() == ips(11)
    with pytest.raises(LookupError):
        pool.cool(ips(99)[0], 1)
    pool.take(address=ips(10)[0])
    with pytest.raises(ValueError, match="is assigned"):
        pool.cool(ips(10)[0], 1)


def test_views_show_what_a_plan_needs(pool: AddressPool, clock: HandClock) -> None:
    pool.take()
    pool.release(pool.take().address)
    clock.advance(12)

    assert pool.views() == (
        EniView(
            id="eni-0",
            primary=True,
            assigned=1,
            cooling=1,
            idle=ips(12),
            slots=2,
            age=12,
            kept=True,
        ),
        EniView(
            id="eni-1",
            primary=False,
            assigned=0,
            cooling=0,
            idle=ips(20, 21, 22),
            slots=0,
            age=12,
        ),
    )


def test_the_primary_eni_is_told_first() -> None:
    pool = AddressPool(30, HandClock())
    for device in (2, 0, 1):
        pool.add_eni(eni(device))

    assert [e.id for e in pool.enis()] == ["eni-0", "eni-2", "eni-1"]


def seconds_per_pod(size: int) -> float:
    clock = HandClock()
    pool = AddressPool(30, clock)
    pool.add_eni(eni(0), slots=size)
    pool.add("eni-0", (IPv4Address("10.1.0.0") + n for n in range(size)))
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(90):
            pool.release(pool.take().address)
        clock.advance(30)
        pool.expire()
        best = min(best, time.perf_counter() - start)
    return best / 90


def test_a_large_pool_is_as_quick_as_a_small_one() -> None:
    assert seconds_per_pod(10_000) < 4 * seconds_per_pod(100)


class PoolMachine(RuleBasedStateMachine):
    """The pool against a model that is too simple to be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.pool = AddressPool(30, self.clock)
        self.assigned: dict[Ip, str] = {}
        self.idle: dict[Ip, str] = {}
        self.cooling: dict[Ip, tuple[str, float]] = {}
        self.number = 0

    @initialize(sizes=st.lists(st.integers(0, 4), min_size=1, max_size=4))
    def enis(self, sizes: list[int]) -> None:
        for device, size in enumerate(sizes):
            self.pool.add_eni(eni(device), slots=9)
            self.grow(f"eni-{device}", size)

    def grow(self, name: str, size: int) -> None:
        new = [IPv4Address("10.9.0.0") + self.number + n for n in range(size)]
        self.number += size
        self.pool.add(name, new)
        self.idle.update(dict.fromkeys(new, name))

    @rule(which=st.integers(0, 9), size=st.integers(1, 4))
    def more(self, which: int, size: int) -> None:
        enis = self.pool.enis()
        if enis:
            self.grow(enis[which % len(enis)].id, size)

    @rule()
    def take(self) -> None:
        if not self.idle:
            with pytest.raises(PoolEmptyError):
                self.pool.take()
            return
        holders = list(self.assigned.values())
        fullest = max(holders.count(name) for name in self.idle.values())

        lease = self.pool.take()

        assert lease.address not in self.assigned
        assert self.idle.pop(lease.address) == lease.eni.id
        assert holders.count(lease.eni.id) == fullest
        self.assigned[lease.address] = lease.eni.id

    @precondition(lambda self: self.assigned)
    @rule(which=st.integers(0, 99))
    def release(self, which: int) -> None:
        address = sorted(self.assigned, key=int)[which % len(self.assigned)]
        self.pool.release(address)
        self.cooling[address] = (self.assigned.pop(address), self.clock() + 30)

    @rule(which=st.integers(0, 99))
    def hold(self, which: int) -> None:
        known = sorted({**self.idle, **self.cooling}, key=int)
        if not known:
            return
        address = known[which % len(known)]
        lease = self.pool.hold(address)
        self.idle.pop(address, None)
        self.cooling.pop(address, None)
        self.assigned[address] = lease.eni.id

    @rule(which=st.integers(0, 9))
    def withdraw(self, which: int) -> None:
        enis = self.pool.enis()
        if not enis:
            return
        name = enis[which % len(enis)].id
        asked = [*self.idle, *self.assigned, *self.cooling]
        left = self.pool.withdraw(name, asked)
        assert set(left) == {a for a, home in self.idle.items() if home == name}
        self.idle = {a: home for a, home in self.idle.items() if a not in left}

    @rule(which=st.integers(0, 9))
    def drop_eni(self, which: int) -> None:
        enis = self.pool.enis()
        if not enis:
            return
        name = enis[which % len(enis)].id
        cooling = [home for home, _ in self.cooling.values()]
        if name in self.assigned.values() or name in cooling:
            with pytest.raises(ValueError, match=name):
                self.pool.remove_eni(name)
            return
        self.pool.remove_eni(name)
        self.idle = {a: home for a, home in self.idle.items() if home != name}

    @rule(seconds=st.floats(0, 40))
    def wait(self, seconds: float) -> None:
        self.clock.advance(seconds)
        ready = {a for a, (_, due) in self.cooling.items() if due <= self.clock()}
        assert set(self.pool.expire()) == ready
        for address in ready:
            self.idle[address] = self.cooling.pop(address)[0]

    @invariant()
    def nothing_is_lost(self) -> None:
        assert self.pool.counts() == Counts(
            total=len(self.assigned) + len(self.cooling) + len(self.idle),
            assigned=len(self.assigned),
            cooling=len(self.cooling),
            idle=len(self.idle),
        )
        due = [due for _, due in self.cooling.values()]
        assert self.pool.next_due() == min(due, default=None)
        for view in self.pool.views():
            assert set(view.idle) == {a for a, h in self.idle.items() if h == view.id}
        for address, name in self.assigned.items():
            lease = self.pool.lease_of(address)
            assert lease is not None
            assert lease.eni.id == name


TestPoolMachine = PoolMachine.TestCase
TestPoolMachine.settings = settings(
    max_examples=60, stateful_step_count=30, deadline=None
)
