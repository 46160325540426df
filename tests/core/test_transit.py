from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from attrs import evolve

from eniplug.core.ec2 import EniFacts
from eniplug.core.transit import Arrival, with_transit
from eniplug.hooks.capacity import Block, CapacityView, EniView, Targets

BASE = IPv4Address("10.0.0.0")
PRIMARY = EniFacts(
    id="eni-0",
    mac="02:00:00:00:00:01",
    subnet="subnet-1",
    subnet_cidr=IPv4Network("10.0.0.0/24"),
    address=BASE + 4,
    device=0,
)
VIEW = CapacityView(
    enis=(
        EniView(
            id="eni-0",
            primary=True,
            assigned=1,
            cooling=0,
            idle=(BASE + 10,),
            slots=7,
            age=90,
        ),
    ),
    targets=Targets(),
    eni_slots=9,
    new_enis=2,
)


def arrival(eni: EniFacts, *last: int, new: bool = False) -> Arrival:
    blocks: set[Block] = {BASE + n for n in last}
    return Arrival(eni=eni, blocks=blocks, new=new, since=0, due=0)


def test_nothing_under_way_changes_nothing() -> None:
    assert with_transit(VIEW, (), 0) == VIEW


def test_addresses_on_their_way_are_counted_once() -> None:
    seen = with_transit(VIEW, [arrival(PRIMARY, 10, 12, 11)], 0)

    assert seen.enis[0].idle == (BASE + 10, BASE + 11, BASE + 12)
    assert seen.enis[0].slots == 5
    assert seen.new_enis == 2


def test_an_eni_on_its_way_takes_its_place() -> None:
    second = evolve(PRIMARY, id="eni-1", device=1)

    seen = with_transit(VIEW, [arrival(second, 20, 21, new=True)], 0)

    assert seen.enis[1] == EniView(
        id="eni-1",
        primary=False,
        assigned=0,
        cooling=0,
        idle=(BASE + 20, BASE + 21),
        slots=7,
        age=0,
    )
    assert seen.new_enis == 1


@pytest.mark.parametrize(("departures", "new_enis"), [(1, 1), (2, 0), (5, 0)])
def test_an_eni_that_leaves_still_has_its_place(departures: int, new_enis: int) -> None:
    assert with_transit(VIEW, (), departures).new_enis == new_enis
