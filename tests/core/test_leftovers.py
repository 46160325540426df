from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address, IPv4Network

import pytest
from attrs import evolve

from eniplug.core.ec2 import INSTANCE_TAG, EniFacts
from eniplug.core.leftovers import CREATED_TAG, STAMP, is_forsaken, is_of, is_stamped

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = (NOW - timedelta(minutes=6)).strftime(STAMP)
LEFT = EniFacts(
    id="eni-1",
    mac="02:00:00:00:00:01",
    subnet="subnet-1",
    subnet_cidr=IPv4Network("10.0.0.0/24"),
    address=IPv4Address("10.0.0.9"),
    description="aws-K8S-i-dead",
    tags={INSTANCE_TAG: "i-dead", CREATED_TAG: OLD},
)


def test_what_a_dead_node_left_may_be_deleted_by_any() -> None:
    assert is_forsaken(LEFT, NOW)
    assert is_of(LEFT, "i-dead")
    assert not is_of(LEFT, "i-other")


@pytest.mark.parametrize(
    "eni",
    [
        evolve(LEFT, description="somebody's"),
        evolve(LEFT, tags={CREATED_TAG: OLD}),
        evolve(LEFT, tags={INSTANCE_TAG: "i-dead", CREATED_TAG: "yesterday"}),
        evolve(LEFT, tags={INSTANCE_TAG: "i-dead", CREATED_TAG: "2026-01-01"}),
        evolve(LEFT, tags={INSTANCE_TAG: "i-dead"}),
        evolve(LEFT, tags={INSTANCE_TAG: "i", CREATED_TAG: NOW.strftime(STAMP)}),
    ],
    ids=["foreign", "untagged", "unreadable", "no-zone", "unstamped", "young"],
)
def test_all_else_is_let_be(eni: EniFacts) -> None:
    assert not is_forsaken(eni, NOW)


def test_a_stamp_is_told() -> None:
    assert is_stamped(LEFT)
    assert not is_stamped(evolve(LEFT, tags={}))
