from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eniplug.core.pool import AddressPool
from eniplug.hooks import (
    Eni,
    Kind,
    Lease,
    Pod,
    Targets,
)
from eniplug.plugins.prefix_delegation import PrefixDelegation
from eniplug.plugins.secondary_ip import SecondaryIp
from eniplug.testing.clock import HandClock
from kit.fleet import Fleet

POD = Pod(container_id="c1", ifname="eth0", network="vpc", namespace="a", name="b")
NO_PREFIX: frozenset[Kind] = frozenset({"prefix"})
NOTHING: frozenset[Kind] = frozenset({"prefix", "address"})


class OpenPool(AddressPool):
    """A pool without the line of those who wait."""

    def take_each_card(self, *, prefer: Kind | None = None) -> tuple[Lease, ...]:
        return self.take_each((0, 1), prefer=prefer)

    def held(self, **match: str) -> int:
        return len(match)


@pytest.fixture
def pool() -> OpenPool:
    pool = OpenPool(30, HandClock())
    eni = Eni(id="eni-0", link="ens5", mac="02:00:00:00:00:01", device=0)
    pool.add_eni(eni, slots=9, slots6=10)
    wide = IPv6Network("2001:db8:0:0:1::/80")
    pool.add("eni-0", [IPv4Network("10.0.0.16/28"), wide])
    return pool


@pytest.mark.parametrize(
    ("family", "addresses"),
    [
        ("ipv4", ["10.0.0.16/32"]),
        ("ipv6", ["2001:db8:0:0:1::/128"]),
        ("dual-stack", ["10.0.0.16/32", "2001:db8:0:0:1::/128"]),
    ],
)
def test_a_pod_has_what_the_family_says(
    pool: OpenPool, family: str, addresses: list[str]
) -> None:
    plugin = PrefixDelegation(family=family)  # type: ignore[arg-type]

    (nic,) = plugin.allocate_ip(POD, pool).nics

    assert [str(address) for address in nic.addresses] == addresses
    assert len(nic.gateways) == len(addresses)


# -- the tables of AWS's documents -----------------------------------------------------

# docs/prefix-and-ip-target.md of amazon-vpc-cni-k8s: WARM_PREFIX_TARGET,
# WARM_IP_TARGET, MINIMUM_IP_TARGET; pods; prefixes attached, prefixes unused.
T3_SMALL = [
    (1, 0, 0, 0, 1, 1),
    (1, 0, 0, 5, 2, 1),
    (1, 0, 0, 17, 3, 1),
    (1, 1, 1, 0, 1, 1),
    (1, 1, 1, 5, 1, 0),
    (1, 1, 1, 17, 2, 0),
    (1, 2, 5, 0, 1, 1),
    (1, 2, 5, 5, 1, 0),
    (1, 2, 5, 17, 2, 0),
    (1, 7, 20, 0, 2, 2),
    (1, 7, 20, 5, 2, 1),
    (1, 7, 20, 17, 2, 0),
]
P3DN = [
    (1, 0, 0, 0, 1, 1),
    (1, 0, 0, 3, 2, 1),
    (1, 0, 0, 95, 7, 1),
    (1, 5, 10, 0, 1, 1),
    (1, 5, 10, 7, 1, 0),
    (1, 5, 10, 15, 2, 1),
    (1, 5, 10, 45, 4, 1),
]


@pytest.mark.parametrize("row", T3_SMALL, ids=str)
def test_a_t3_small_holds_what_aws_says(row: tuple[int, ...]) -> None:
    check_row(row, slots=3, max_enis=3)


@pytest.mark.parametrize("row", P3DN, ids=str)
def test_a_p3dn_holds_what_aws_says(row: tuple[int, ...]) -> None:
    check_row(row, slots=49, max_enis=15)


def check_row(row: tuple[int, ...], *, slots: int, max_enis: int) -> None:
    warm_prefix, warm_ip, minimum, pods, prefixes, unused = row
    targets = Targets(warm_prefix=warm_prefix, warm_ip=warm_ip, minimum_ip=minimum)
    fleet = Fleet(
        planner=PrefixDelegation(), slots=slots, max_enis=max_enis, targets=targets
    )

    fleet.settle()
    fleet.run(pods)

    assert (fleet.prefixes, fleet.unused_prefixes) == (prefixes, unused)
    assert fleet.enis == 1


# docs/eni-and-ip-target.md: WARM_ENI_TARGET, WARM_IP_TARGET, MINIMUM_IP_TARGET; pods;
# ENIs, addresses attached, addresses unused.
SINGLES = [
    (3, 3, (1, 0, 0, 0, 1, 3, 3)),
    (3, 3, (1, 0, 0, 5, 3, 9, 4)),
    (3, 3, (1, 0, 0, 9, 3, 9, 0)),
    (3, 3, (1, 1, 1, 0, 1, 1, 1)),
    (3, 3, (1, 1, 1, 5, 2, 6, 1)),
    (3, 3, (1, 1, 1, 9, 3, 9, 0)),
    (3, 3, (1, 2, 5, 0, 2, 5, 5)),
    (3, 3, (1, 2, 5, 5, 3, 7, 2)),
    (3, 3, (1, 2, 5, 9, 3, 9, 0)),
    (49, 15, (1, 0, 0, 0, 1, 49, 49)),
    (49, 15, (1, 0, 0, 3, 2, 98, 95)),
    (49, 15, (1, 0, 0, 95, 3, 147, 52)),
    (49, 15, (1, 5, 10, 0, 1, 10, 10)),
    (49, 15, (1, 5, 10, 7, 1, 12, 5)),
    (49, 15, (1, 5, 10, 15, 1, 20, 5)),
    (49, 15, (1, 5, 10, 45, 2, 50, 5)),
    # The worked examples of the formulas: c5.large fills its ENIs one by one.
    (9, 3, (1, 0, 0, 0, 1, 9, 9)),
    (9, 3, (1, 0, 0, 1, 2, 18, 17)),
    (9, 3, (1, 0, 0, 10, 3, 27, 17)),
]


@pytest.mark.parametrize(("slots", "max_enis", "row"), SINGLES, ids=str)
def test_secondary_addresses_are_as_aws_says(
    slots: int, max_enis: int, row: tuple[int, ...]
) -> None:
    warm_eni, warm_ip, minimum, pods, enis, total, unused = row
    targets = Targets(warm_eni=warm_eni, warm_ip=warm_ip, minimum_ip=minimum)
    fleet = Fleet(
        planner=SecondaryIp(),
        slots=slots,
        max_enis=max_enis,
        targets=targets,
        prefer="address",
    )

    fleet.settle()
    fleet.run(pods)

    counts = fleet.pool.counts(4)
    assert (fleet.enis, counts.total, counts.idle) == (enis, total, unused)


# -- calls -----------------------------------------------------------------------------


def test_a_burst_is_served_by_one_call() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=29, max_enis=8)
    fleet.waiting = 50

    fleet.settle()

    assert fleet.calls == 1
    assert fleet.prefixes == 5


def test_pods_go_to_new_enis_when_those_here_are_full() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=3, max_enis=3)

    fleet.run(100)

    assert fleet.enis == 3
    assert fleet.prefixes == 8


def test_no_more_than_the_pods_that_may_run_are_prepared_for() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=29, max_enis=8, max_pods=110)

    fleet.run(110)

    assert fleet.prefixes == 7


# -- when the subnet has no prefix -----------------------------------------------------


def test_single_addresses_serve_when_there_is_no_prefix_and_go_again() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=9, max_enis=3)
    fleet.run(5)
    fleet.lacks = NO_PREFIX
    fleet.run(40)
    assert fleet.prefixes == 2
    assert fleet.pool.counts().assigned == 40
    assert fleet.free <= 16

    fleet.lacks = frozenset()
    fleet.run(60)
    fleet.run(20)

    singles = [eni for eni in fleet.pool.views() if eni.idle]
    assert singles == []
    assert fleet.free >= 16


def test_a_full_subnet_is_asked_for_nothing() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=9, max_enis=3, lacks=NOTHING)
    fleet.waiting = 3

    fleet.settle()

    assert fleet.calls == 0


def test_without_any_prefix_new_enis_are_born_with_addresses() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=3, max_enis=3, lacks=NO_PREFIX)

    fleet.run(9)

    assert fleet.enis == 3
    assert fleet.prefixes == 0


# -- from one mode to the other --------------------------------------------------------


def test_single_addresses_of_an_earlier_mode_drain() -> None:
    fleet = Fleet(planner=SecondaryIp(), slots=9, max_enis=3, prefer="address")
    fleet.run(4)
    fleet.planner, fleet.prefer = PrefixDelegation(), "prefix"

    fleet.run(12)
    fleet.clock.advance(61)
    fleet.settle()
    assert all(not eni.idle for eni in fleet.pool.views())
    fleet.drop(singles=True)
    fleet.settle()

    assert fleet.pool.counts().total == 16 * fleet.prefixes


def test_a_node_full_of_single_addresses_makes_way_for_prefixes() -> None:
    fleet = Fleet(
        planner=SecondaryIp(),
        slots=5,
        max_enis=2,
        prefer="address",
        targets=Targets(warm_ip=4),
    )
    fleet.run(6)
    assert fleet.pool.counts().total == 10
    fleet.planner, fleet.prefer = PrefixDelegation(), "prefix"
    fleet.targets = Targets(warm_ip=6)

    fleet.settle()
    assert fleet.prefixes == 1
    fleet.run(40)

    assert fleet.prefixes == 3
    assert fleet.free >= 6


def test_no_address_is_given_up_for_a_prefix_that_the_subnet_lacks() -> None:
    fleet = Fleet(planner=SecondaryIp(), slots=3, max_enis=1, prefer="address")
    fleet.run(1)
    fleet.planner, fleet.lacks = PrefixDelegation(), NO_PREFIX

    fleet.settle()

    assert fleet.pool.counts().total == 3


def test_prefixes_of_an_earlier_mode_drain_as_far_as_the_target_allows() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=9, max_enis=3)
    fleet.run(4)
    fleet.planner, fleet.prefer = SecondaryIp(), "address"
    fleet.run(20)
    fleet.run(6)

    fleet.drop(singles=False)
    fleet.clock.advance(61)
    fleet.settle()

    assert fleet.prefixes == 1
    assert fleet.free == 16


# -- IPv6 ------------------------------------------------------------------------------


def test_an_ipv6_node_has_one_wide_prefix_for_good() -> None:
    fleet = Fleet(planner=PrefixDelegation(family="ipv6"), slots=9, max_enis=3)

    fleet.settle()

    assert fleet.calls == 1
    assert len(fleet.pool.views()[0].prefixes_of(6)) == 1


def test_each_eni_of_a_dual_stack_node_has_a_wide_prefix() -> None:
    fleet = Fleet(planner=PrefixDelegation(family="dual-stack"), slots=3, max_enis=3)

    fleet.run(80)

    assert fleet.enis == 2
    assert [len(eni.prefixes_of(6)) for eni in fleet.pool.views()] == [1, 1]


# -- giving back -----------------------------------------------------------------------


def test_all_goes_back_down_to_the_warm_target() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=3, max_enis=8)
    fleet.run(110)
    fleet.clock.advance(61)

    fleet.run(0)

    assert (fleet.enis, fleet.prefixes) == (1, 1)


def test_an_eni_that_is_young_or_kept_stays() -> None:
    fleet = Fleet(planner=PrefixDelegation(), slots=3, max_enis=8)
    fleet.run(80)

    fleet.run(0)

    assert fleet.prefixes == 1
    assert fleet.enis == 2


FLEETS = st.builds(
    Fleet,
    planner=st.sampled_from(
        [PrefixDelegation(), PrefixDelegation(family="dual-stack")]
    ),
    slots=st.integers(1, 14),
    max_enis=st.integers(1, 4),
    max_pods=st.integers(1, 250),
    targets=st.builds(
        Targets,
        warm_prefix=st.integers(0, 3),
        warm_ip=st.integers(0, 20),
        minimum_ip=st.integers(0, 40),
    ),
)
LACKS: list[frozenset[Kind]] = [frozenset(), NO_PREFIX]
STEPS = st.lists(st.tuples(st.integers(0, 60), st.sampled_from(LACKS)), max_size=6)


@settings(max_examples=60, deadline=None)
@given(FLEETS, STEPS)
def test_any_node_settles_within_its_limits_by_few_calls(
    fleet: Fleet, steps: list[tuple[int, frozenset[Kind]]]
) -> None:
    """`Fleet` fails what breaks a limit, gives back what is in use, or flaps."""
    places = fleet.slots * fleet.max_enis
    fleet.settle()
    for pods, lacks in steps:
        fleet.lacks = lacks
        fleet.clock.advance(61)
        before = fleet.calls
        singly = bool(lacks) or any(eni.idle for eni in fleet.pool.views())

        fleet.run(min(pods, places, fleet.max_pods))

        in_prefixes = 3 * (pods // 16 + 4) + 4 * fleet.max_enis
        assert fleet.calls - before <= (6 * places if singly else in_prefixes) + 40
