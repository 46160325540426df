from __future__ import annotations

from eniplug_sticky_ip import StickyIp

from eniplug.testing.builders import a_pod, a_pool
from eniplug.testing.conformance import conformance

TestConformance = conformance(StickyIp)
DB = a_pod(0, name="db-0")
AGAIN = a_pod(1, name="db-0")
OTHER = a_pod(2, name="db-1")


def test_a_pod_that_comes_back_gets_its_address() -> None:
    pool, plugin = a_pool(), StickyIp()
    before = plugin.allocate_ip(DB, pool)
    pool.give_back(pool.taken[0], plugin.release_ip(DB))
    pool.clock.advance(3599)

    other = plugin.allocate_ip(OTHER, pool)
    after = plugin.allocate_ip(AGAIN, pool)

    assert before is not None
    assert other is not None
    assert after is not None
    assert after.nics[0].addresses == before.nics[0].addresses
    assert other.nics[0].addresses != before.nics[0].addresses


def test_after_its_time_the_address_is_anybodys() -> None:
    pool, plugin = a_pool(), StickyIp(seconds=60)
    plugin.allocate_ip(DB, pool)
    had = pool.taken[0]
    pool.give_back(had, plugin.release_ip(DB))
    pool.clock.advance(60)

    assert pool.take(address=had.address) == had


def test_pods_of_other_namespaces_are_left_to_the_next_plugin() -> None:
    plugin = StickyIp(namespace="db")

    assert plugin.allocate_ip(DB, a_pool()) is None
    assert plugin.release_ip(DB) is None


def test_a_pod_without_a_name_is_left_to_the_next_plugin() -> None:
    nameless = a_pod(name="", namespace="")

    assert StickyIp().allocate_ip(nameless, a_pool()) is None
    assert StickyIp().release_ip(nameless) is None
