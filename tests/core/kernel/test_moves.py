from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import closing

import pytest

from eniplug.core.kernel.moves import Moves
from kit.netns import inside, namespace, run

pytestmark = pytest.mark.root


@pytest.fixture
def moves() -> Iterator[Moves]:
    """Those of a node with a pod's link."""
    with namespace() as pod, namespace() as node, inside(node):
        run("ip", "link", "add", "eni1", "type", "veth", "peer", "eth0", "netns", pod)
        with closing(Moves()) as found:
            yield found


def test_where_nothing_moves_there_is_none(moves: Moves) -> None:
    run("ip", "address", "add", "10.0.0.1/32", "dev", "lo")
    run("ip", "link", "show")

    assert not moves.any()


@pytest.mark.parametrize(
    "change",
    [
        ("add", "ifb7", "type", "ifb"),
        ("del", "eni1"),
        ("set", "eni1", "up"),
        ("set", "eni1", "name", "other"),
        ("set", "lo", "alias", "another's"),
        ("set", "eni1", "netns", "POD"),
    ],
    ids=" ".join,
)
def test_a_change_is_told(moves: Moves, change: tuple[str, ...]) -> None:
    with namespace() as elsewhere:
        run("ip", "link", *(elsewhere if word == "POD" else word for word in change))

        assert moves.any()


def test_a_link_that_went_with_the_pods_namespace_is_told() -> None:
    with namespace() as node, inside(node), namespace() as pod:
        run("ip", "link", "add", "eni1", "type", "veth", "peer", "eth0", "netns", pod)
        with closing(Moves()) as moves:
            run("ip", "netns", "del", pod)
            end = time.monotonic() + 10
            while not moves.any():
                assert time.monotonic() < end
                time.sleep(0.01)


def test_many_changes_are_told_as_one_and_the_next_one_again(moves: Moves) -> None:
    for number in range(100):
        run("ip", "link", "set", "eni1", "mtu", str(1400 + number))

    assert moves.any()
    assert not moves.any()
    run("ip", "link", "del", "eni1")
    assert moves.any()
