"""The pool with prefixes, beside single addresses, and with what is in quarantine."""

from __future__ import annotations

import time
from ipaddress import IPv4Address, IPv4Network, IPv6Network, ip_address, ip_interface

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from eniplug.core.pool import AddressPool, Quarantined
from eniplug.core.shelf import WIDE
from eniplug.hooks.errors import CoolingError, PoolEmptyError, QuarantineError
from eniplug.hooks.objects import Ip
from eniplug.hooks.values import Eni
from eniplug.testing.clock import HandClock

FIRST = IPv4Network("10.0.1.16/28")
SECOND = IPv4Network("10.0.1.32/28")
WIDE6 = IPv6Network("2001:db8:0:1:2::/80")
SINGLE = IPv4Address("10.0.1.100")


def eni(device: int) -> Eni:
    return Eni(
        id=f"eni-{device}",
        link=f"ens{5 + device}",
        mac=f"02:00:00:00:00:{device:02x}",
        device=device,
        addresses=(ip_interface(f"10.0.1.{4 + device}/24"),),
    )


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def pool(clock: HandClock) -> AddressPool:
    """The primary ENI and another, both empty."""
    pool = AddressPool(30, clock)
    for device in (0, 1):
        pool.add_eni(eni(device), slots=9, slots6=10)
    return pool


def test_all_addresses_of_a_prefix_are_handed_out(pool: AddressPool) -> None:
    pool.add("eni-0", [FIRST])

    leases = [pool.take() for _ in range(16)]

    assert {lease.address for lease in leases} == set(FIRST)
    assert {lease.prefix for lease in leases} == {FIRST}
    with pytest.raises(PoolEmptyError):
        pool.take()


def test_the_fullest_prefix_serves_first_so_that_others_drain(
    pool: AddressPool, clock: HandClock
) -> None:
    pool.add("eni-0", [FIRST, SECOND])
    leases = [pool.take() for _ in range(20)]
    for lease in leases[:10]:
        pool.release(lease.address)
    clock.advance(31)
    pool.expire()

    again = [pool.take() for _ in range(10)]

    assert {lease.prefix for lease in again} == {FIRST}


def test_a_prefix_in_use_is_not_withdrawn_and_an_unused_one_is(
    pool: AddressPool, clock: HandClock
) -> None:
    pool.add("eni-0", [FIRST, SECOND])
    lease = pool.take()

    assert pool.withdraw("eni-0", [FIRST, SECOND]) == (SECOND,)
    pool.release(lease.address)
    assert pool.withdraw("eni-0", [FIRST]) == ()
    clock.advance(31)
    pool.expire()
    assert pool.withdraw("eni-0", [FIRST]) == (FIRST,)
    assert pool.counts().total == 0


def test_either_kind_can_be_taken_first(pool: AddressPool) -> None:
    pool.add("eni-0", [FIRST, SINGLE])

    assert pool.take(prefer="prefix").prefix == FIRST
    assert pool.take(prefer="address").prefix is None
    assert pool.take(prefer="address").prefix == FIRST


def test_a_preferred_kind_is_found_on_an_emptier_eni(pool: AddressPool) -> None:
    pool.add("eni-0", [SINGLE, IPv4Address("10.0.1.101")])
    pool.take()
    pool.add("eni-1", [FIRST])

    assert pool.take(prefer="prefix").eni.id == "eni-1"


def test_a_pair_is_of_one_eni(pool: AddressPool) -> None:
    pool.add("eni-0", [FIRST])
    pool.add("eni-1", [SECOND, WIDE6])

    four, six = pool.take_pair(prefer="prefix")

    assert (four.prefix, six.prefix) == (SECOND, WIDE6)
    assert four.eni == six.eni


def test_there_is_no_half_a_pair(pool: AddressPool) -> None:
    pool.add("eni-0", [FIRST])
    pool.add("eni-1", [WIDE6])

    with pytest.raises(PoolEmptyError):
        pool.take_pair()

    assert pool.counts().assigned == 0


def test_a_wide_prefix_rests_its_addresses_long_and_remembers_few(
    pool: AddressPool,
) -> None:
    pool.add("eni-0", [WIDE6])
    seen: set[Ip] = set()

    for _ in range(WIDE):
        address = pool.take(6).address
        pool.release(address, cooldown=0)
        seen.add(address)

    assert len(seen) == WIDE
    assert pool.take(6).address in seen


def test_what_an_earlier_life_gave_out_is_not_given_again(pool: AddressPool) -> None:
    held = [FIRST[0], FIRST[3]]
    pool.add("eni-0", [FIRST])
    for address in held:
        assert pool.hold(address).prefix == FIRST

    taken = [pool.take().address for _ in range(14)]

    assert set(taken) == set(FIRST) - set(held)


def test_an_address_may_be_held_before_its_prefix_is_known(pool: AddressPool) -> None:
    pool.hold(FIRST[5], eni="eni-0")
    pool.add("eni-0", [FIRST])

    assert pool.views()[0].prefixes[0].assigned == 1
    assert pool.views()[0].slots == 8
    pool.release(FIRST[5], cooldown=0)
    assert pool.withdraw("eni-0", [FIRST]) == (FIRST,)


def test_a_block_in_quarantine_keeps_its_pods_and_gets_no_more(
    pool: AddressPool,
) -> None:
    pool.add("eni-0", [FIRST])
    lease = pool.take()

    pool.quarantine("eni-0", FIRST, "EC2 does not show it")

    assert pool.lease_of(lease.address) == lease
    with pytest.raises(QuarantineError):
        pool.take()
    with pytest.raises(QuarantineError):
        pool.take(address=FIRST[9])
    pool.release(lease.address, cooldown=0)
    with pytest.raises(QuarantineError):
        pool.take()
    assert pool.quarantined() == (
        Quarantined(
            block=FIRST, eni="eni-0", reason="EC2 does not show it", assigned=0
        ),
    )
    assert pool.views()[0].prefixes == ()
    assert pool.views()[0].slots == 8


def test_what_is_shown_again_leaves_quarantine(pool: AddressPool) -> None:
    pool.add("eni-0", [FIRST, SINGLE])
    for block in (FIRST, SINGLE):
        pool.quarantine("eni-0", block, "why")

    pool.add("eni-0", [FIRST, SINGLE])

    assert pool.quarantined() == ()
    assert pool.counts().idle == 17


def test_an_empty_pool_says_that_addresses_cool_down(pool: AddressPool) -> None:
    pool.add("eni-0", [SINGLE])
    pool.release(pool.take().address)

    with pytest.raises(CoolingError):
        pool.take()


def seconds_per_pod(prefixes: int) -> float:
    pool = AddressPool(0, HandClock())
    pool.add_eni(eni(0), slots=prefixes)
    base = int(ip_address("10.64.0.0"))
    pool.add("eni-0", (IPv4Network((base + 16 * n, 28)) for n in range(prefixes)))
    for _ in range(8 * prefixes):
        pool.take()
    best = float("inf")
    for _ in range(7):
        start = time.perf_counter()
        for _ in range(90):
            pool.release(pool.take().address)
        best = min(best, time.perf_counter() - start)
    return best / 90


def test_many_prefixes_are_as_quick_as_few() -> None:
    assert seconds_per_pod(625) < 4 * seconds_per_pod(7)


class PrefixMachine(RuleBasedStateMachine):
    """The pool against a model that is too simple to be wrong."""

    def __init__(self) -> None:
        super().__init__()
        self.clock = HandClock()
        self.pool = AddressPool(30, self.clock)
        self.pool.add_eni(eni(0), slots=9)
        self.pool.add_eni(eni(1), slots=9)
        self.owner: dict[IPv4Network, str] = {}
        self.assigned: list[Ip] = []
        self.cooling: dict[Ip, float] = {}
        self.held: set[IPv4Network] = set()

    @rule(number=st.integers(0, 5), device=st.integers(0, 1))
    def add(self, number: int, device: int) -> None:
        block = IPv4Network(f"10.0.2.{16 * number}/28")
        if self.owner.setdefault(block, f"eni-{device}") == f"eni-{device}":
            self.pool.add(f"eni-{device}", [block])
            self.held.discard(block)

    @rule()
    def take(self) -> None:
        try:
            lease = self.pool.take(prefer="prefix")
        except PoolEmptyError:
            return
        assert lease.address not in self.assigned
        assert lease.address not in self.cooling
        assert lease.prefix not in self.held
        self.assigned.append(lease.address)

    @precondition(lambda self: self.assigned)
    @rule(data=st.data())
    def release(self, data: st.DataObject) -> None:
        address = data.draw(st.sampled_from(self.assigned))
        self.assigned.remove(address)
        self.pool.release(address)
        self.cooling[address] = self.clock() + 30

    @rule(seconds=st.integers(1, 40))
    def wait(self, seconds: int) -> None:
        self.clock.advance(seconds)
        done = {a for a, due in self.cooling.items() if due <= self.clock()}
        assert set(self.pool.expire()) == done
        for address in done:
            del self.cooling[address]

    @precondition(lambda self: self.owner)
    @rule(data=st.data())
    def quarantine(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.owner)))
        self.pool.quarantine(self.owner[block], block, "why")
        self.held.add(block)

    @precondition(lambda self: self.owner)
    @rule(data=st.data())
    def withdraw(self, data: st.DataObject) -> None:
        block = data.draw(st.sampled_from(sorted(self.owner)))
        busy = any(a in block for a in (*self.assigned, *self.cooling))
        gone = self.pool.withdraw(self.owner[block], [block])
        assert gone == (() if busy else (block,))
        if gone:
            del self.owner[block]
            self.held.discard(block)

    @invariant()
    def counts_agree(self) -> None:
        counts = self.pool.counts()
        assert counts.total == 16 * len(self.owner)
        assert counts.assigned == len(self.assigned)
        assert counts.cooling == len(self.cooling)
        busy = (*self.assigned, *self.cooling)
        held = sum(16 - sum(a in block for a in busy) for block in self.held)
        assert counts.held == held
        assert sum(v.free for v in self.pool.views()) == counts.idle
        assert sum(v.slots for v in self.pool.views()) == 18 - len(self.owner)


PrefixMachine.TestCase.settings = settings(max_examples=40, stateful_step_count=40)
TestPrefixMachine = PrefixMachine.TestCase
