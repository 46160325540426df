from __future__ import annotations

import pytest
from attrs import evolve

from eniplug.core.holdings import Holding, Holdings, holding_of
from eniplug.core.parts import Part
from eniplug.hooks import Lease, LinkState, StaleFlows
from eniplug.hooks.errors import ConflictError
from eniplug.testing.builders import ADDRESSES, PRIMARY, a_pod
from kit.parts import a_part

PART = evolve(a_part(a_pod(1), Lease(address=ADDRESSES[0], eni=PRIMARY)), id=1)
LINK = PART.pod.host_ifname
SIBLING = evolve(
    PART, id=2, objects=(LinkState(link=LINK, setting="rp_filter", value=2),)
)


def holdings(*parts: Part) -> Holdings:
    held = Holdings()
    for part in parts:
        held.add(part.id, holding_of(part))
    return held


def test_whose_a_thing_is_is_told_by_its_slot_and_by_its_link() -> None:
    held = holdings(PART)

    assert held.owners([PART.objects[2].key], []) == {PART.key}
    assert held.owners([], [LINK, "ens5"]) == {PART.key}


def test_what_a_part_has_nobody_else_gets_until_it_is_gone() -> None:
    held = holdings(PART)
    other = evolve(PART, id=3, pod=a_pod(3), objects=PART.objects[2:])

    with pytest.raises(ConflictError, match=PART.pod.container_id):
        held.check(holding_of(other))

    held.remove(PART.id, [])
    held.check(holding_of(other))
    assert held.owners([one.key for one in PART.objects], [LINK]) == set()


def test_a_link_is_the_attachments_until_its_last_part_is_gone() -> None:
    held = holdings(PART, SIBLING)

    held.remove(SIBLING.id, [PART.id])
    assert held.owners([], [LINK]) == {PART.key}

    held.remove(PART.id, [])
    assert held.owners([], [LINK]) == set()


def test_stale_flows_are_nobodys() -> None:
    flows = StaleFlows(family=4, protocol="udp", port=53)

    assert holding_of(evolve(PART, objects=(flows,))) == Holding(PART.key)
