from __future__ import annotations

from collections.abc import Iterator

import pytest

from eniplug.lab import netns, probes, tools
from eniplug.lab.names import Names
from eniplug.lab.netns import Inside
from eniplug.lab.sweep import clear
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-probes")
ONE, TWO = "10.9.0.1", "10.9.0.2"
ONE6, TWO6 = "2001:db8:9::1", "2001:db8:9::2"
UNHELD, UNHELD6 = "203.0.113.99", "2001:db8:ffff::99"
ENDS = pytest.mark.parametrize(("one", "two"), [(ONE, TWO), (ONE6, TWO6)])


@pytest.fixture
def link() -> Iterator[tuple[Inside, Inside]]:
    """Two namespaces with a wire of MTU 2000 between them."""
    clear(NAMES)
    spaces = [NAMES.node(1), NAMES.node(2)]
    for space in spaces:
        netns.create(space)
    one, two = (Inside(space) for space in spaces)
    wire = "link add eth0 mtu 2000 type veth peer name eth0 mtu 2000 netns"
    one.call(tools.ip, [f"{wire} {spaces[1]}"])
    for inside, four, six in ((one, ONE, ONE6), (two, TWO, TWO6)):
        lines = [f"addr add {four}/24 dev eth0", f"addr add {six}/64 dev eth0 nodad"]
        inside.call(tools.ip, [*lines, "link set eth0 up"])
    try:
        assert one.call(probes.ping, TWO6)  # a first neighbour solicitation may be lost
        yield one, two
    finally:
        one.close()
        two.close()
        clear(NAMES)


@ENDS
def test_ping_answers_up_to_the_wires_mtu(
    link: tuple[Inside, Inside], one: str, two: str
) -> None:
    del one
    near, _ = link

    found = [near.call(probes.ping, two, size) for size in (84, 2000, 2001)]

    assert found == [True, True, False]


def test_ping_without_an_answer_fails(link: tuple[Inside, Inside]) -> None:
    one, _ = link

    assert not one.call(probes.ping, "10.9.0.9", tries=1, within=0.1)


@ENDS
def test_a_mirror_tells_the_callers_address(
    link: tuple[Inside, Inside], one: str, two: str
) -> None:
    near, far = link
    mirror = far.call(probes.Mirror)
    try:
        assert near.call(probes.ask, two, mirror.port) == one
    finally:
        mirror.close()
    assert near.call(probes.ask, two, mirror.port).startswith("(")


def test_a_fetch_from_nobody_is_an_error_in_brackets(
    link: tuple[Inside, Inside],
) -> None:
    one, _ = link

    assert one.call(probes.fetch, TWO).startswith("(")


@pytest.mark.parametrize(("source", "target"), [(UNHELD, TWO), (UNHELD6, TWO6)])
def test_a_forged_source_arrives_first_where_nothing_drops_it(
    link: tuple[Inside, Inside], source: str, target: str
) -> None:
    one, two = link
    two.call(netns.write, {"ipv4/conf/all/rp_filter": 0, "ipv4/conf/eth0/rp_filter": 0})
    catcher = two.call(probes.Catcher)
    try:
        one.call(probes.forge_and_send, source, target, catcher.port)

        assert catcher.first() == b"forged"
    finally:
        catcher.close()


def test_a_forged_source_is_missed_where_something_drops_it(
    link: tuple[Inside, Inside],
) -> None:
    one, two = link
    two.call(netns.write, {"ipv4/conf/all/rp_filter": 1})
    catcher = two.call(probes.Catcher)
    try:
        one.call(probes.forge_and_send, UNHELD, TWO, catcher.port)

        assert catcher.first() == b"honest"
    finally:
        catcher.close()
