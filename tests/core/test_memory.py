from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network
from pathlib import Path

import pytest
from attrs import evolve

from eniplug.core.discover import Facts, look
from eniplug.core.kube_api import NodeFacts
from eniplug.core.memory import (
    KUBE,
    VPC,
    recall,
    recall_kube,
    remember,
    written_kube,
    written_vpc,
)
from eniplug.core.store import Store
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata

WIDER = (IPv4Network("10.0.0.0/16"), IPv4Network("100.64.0.0/16"))


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    store.close()


@pytest.fixture
def facts() -> Facts:
    cloud = MemoryCloud()
    return look(MemoryMetadata(cloud=cloud), cloud, manage_untagged=True)


def test_a_new_node_remembers_nothing(store: Store) -> None:
    assert recall(store) is None


def test_a_node_is_recalled_as_it_was(store: Store, facts: Facts) -> None:
    remember(store, facts)

    assert recall(store) == facts


def test_cidrs_that_came_later_are_recalled_until_imds_says_others(
    store: Store, facts: Facts
) -> None:
    remember(store, facts)
    store.keep_fact(VPC, written_vpc(WIDER))

    recalled = recall(store)
    remember(store, facts)

    assert recalled == evolve(facts, vpc_cidrs=WIDER)
    assert recall(store) == facts


def test_what_was_recalled_is_not_written_again(store: Store, facts: Facts) -> None:
    remember(store, facts)
    store.keep_fact(VPC, written_vpc(WIDER))

    remember(store, evolve(facts, fresh=False))

    recalled = recall(store)
    assert recalled is not None
    assert recalled.vpc_cidrs == WIDER


@pytest.mark.parametrize("most", [29, None])
def test_what_kubernetes_said_is_recalled(store: Store, most: int | None) -> None:
    said = NodeFacts(schedulable=False, max_pods=most)
    assert recall_kube(store) is None

    store.keep_fact(KUBE, written_kube(said))

    assert recall_kube(store) == said
