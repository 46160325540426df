from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from eniplug.core.ec2 import SubnetFacts
from eniplug.core.subnets import LACKS_FOR, LISTED_FOR, Subnets, is_allowed
from eniplug.hooks.capacity import CapacityView, EniView, Kind, Targets
from eniplug.testing.clock import HandClock

HOME = "subnet-home"
YES = {"kubernetes.io/role/cni": "1"}
NO = {"kubernetes.io/role/cni": "0"}
BLUE = {**YES, "cni.networking.k8s.aws/cluster/blue": "1"}


def subnet(
    name: str, free: int = 100, tags: dict[str, str] | None = None
) -> SubnetFacts:
    return SubnetFacts(
        id=name, cidr=IPv4Network("10.0.0.0/24"), free=free, tags=tags or {}
    )


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


def subnets(clock: HandClock, *, discover: bool = True, cluster: str = "") -> Subnets:
    return Subnets(HOME, cluster, discover, clock)


@pytest.mark.parametrize(
    ("tags", "home", "cluster", "allowed"),
    [
        ({}, True, "", True),
        ({}, False, "", False),
        (NO, True, "", False),
        (YES, False, "", True),
        (BLUE, False, "blue", True),
        (BLUE, False, "red", False),
        (BLUE, False, "", True),
    ],
)
def test_tags_say_where_enis_may_be_made(
    tags: dict[str, str], home: bool, cluster: str, allowed: bool
) -> None:
    one = subnet(HOME if home else "subnet-other", tags=tags)

    assert is_allowed(one, HOME, cluster) is allowed


def test_the_subnet_with_most_free_addresses_is_chosen(clock: HandClock) -> None:
    some = subnets(clock)
    some.listed([subnet(HOME, 5), subnet("big", 50, YES), subnet("more", 99)])

    assert some.choose("address") == "big"


def test_without_a_list_it_is_the_primary_enis(clock: HandClock) -> None:
    assert subnets(clock).choose("prefix") == HOME
    off = subnets(clock, discover=False)
    assert not off.list_is_due
    assert off.choose("address") == HOME


def test_a_list_is_good_for_a_minute(clock: HandClock) -> None:
    some = subnets(clock)
    assert some.list_is_due
    some.listed([])
    assert not some.list_is_due

    clock.advance(LISTED_FOR)

    assert some.list_is_due


def test_a_subnet_that_refuses_is_asked_for_fewer_and_then_let_be(
    clock: HandClock,
) -> None:
    some = subnets(clock)
    asked: list[int] = []
    while "address" not in some.lacks(HOME):
        asked.append(some.most(HOME, "address", 9))
        some.refused(HOME, "address", asked[-1])

    assert asked == [9, 4, 2, 1]
    assert some.choose("address") is None
    assert some.choose("prefix") == HOME


def test_a_subnet_is_asked_again_after_a_while(clock: HandClock) -> None:
    some = subnets(clock)
    some.refused(HOME, "prefix", 1)
    clock.advance(LACKS_FOR)

    assert some.choose("prefix") == HOME
    assert some.most(HOME, "prefix", 9) == 1
    numbers: list[int] = []
    for _ in range(5):
        some.gave(HOME, "prefix")
        numbers.append(some.most(HOME, "prefix", 9))
    assert numbers == [2, 4, 8, 9, 9]


def test_a_full_subnet_leaves_the_others(clock: HandClock) -> None:
    some = subnets(clock)
    some.listed([subnet(HOME, 5), subnet("big", 50, YES)])
    some.refused("big", "address", 1)

    assert some.choose("address") == HOME


def test_a_view_says_what_is_lacking(clock: HandClock) -> None:
    some = subnets(clock)
    some.listed([subnet(HOME, 5), subnet("big", 50, YES)])
    some.refused("big", "prefix", 1)
    enis = tuple(
        EniView(
            id=name, primary=False, assigned=0, cooling=0, idle=(), slots=1, age=0.0
        )
        for name in ("eni-1", "eni-2")
    )
    view = CapacityView(enis=enis, targets=Targets(), eni_slots=9, new_enis=1)

    told = some.told(view, {"eni-1": HOME, "eni-2": "big"})

    lacks: list[frozenset[Kind]] = [eni.lacks for eni in told.enis]
    assert lacks == [frozenset(), frozenset({"prefix"})]
    assert told.lacks == frozenset()
    some.refused(HOME, "prefix", 1)
    assert some.told(view, {}).lacks == {"prefix"}


def test_the_states_name_every_subnet_in_use(clock: HandClock) -> None:
    some = subnets(clock)
    some.listed([subnet("big", 50, YES)])
    some.refused("old", "address", 1)

    states = {one.id: one for one in some.states(["old"])}

    assert states["big"].free == 50
    assert states["old"].free is None
    assert states["old"].lacks == ("address",)
