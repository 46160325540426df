"""What the cloud worker does on a node that is cordoned, and when it no longer is."""

from __future__ import annotations

from attrs import define

from eniplug.hooks.errors import EniplugError, UnschedulableError
from kit.benches import Bench, bench, make

CHANGES = ("assign", "unassign", "create_eni", "attach", "detach", "delete_eni")


@define(eq=False)
class Cordon:
    """Says why the node is to stay as it is."""

    why: EniplugError | None = None

    def __call__(self) -> EniplugError | None:
        return self.why


CORDONED = UnschedulableError("node n is unschedulable")


def changes(one: Bench) -> list[str]:
    return [name for name in CHANGES if one.cloud.named(name)]


def test_nothing_is_asked_for_though_pods_wait_and_they_are_told_why() -> None:
    one = bench(held=Cordon(CORDONED))
    one.node.waiting = 3

    one.pass_time(600.0)

    assert changes(one) == []
    assert one.node.why is CORDONED


def test_nothing_goes_back() -> None:
    cordon = Cordon()
    one = bench(held=cordon, WARM_IP_TARGET="9", MINIMUM_IP_TARGET="9")
    one.node.waiting = 12
    one.settle()
    one.node.waiting = 0
    grown, total = changes(one), one.total
    assert total > 9
    one.cloud.calls.clear()
    cordon.why = CORDONED

    one.pass_time(600.0)
    assert changes(one) == []
    assert one.total == total

    cordon.why = None
    one.pass_time(600.0)
    assert one.total == 9
    assert "assign" in grown


def test_a_pod_that_waits_is_served_when_the_node_is_uncordoned() -> None:
    cordon = Cordon(CORDONED)
    one = bench(held=cordon)
    one.node.waiting = 1
    one.settle()
    assert one.node.why is CORDONED

    cordon.why = None
    one.settle()

    assert one.node.why is None
    assert one.total > 0


def test_an_eni_that_was_left_behind_is_still_removed() -> None:
    one = bench(held=Cordon(CORDONED))
    left = make(one.cloud, 2)
    attachment = one.cloud.all_enis[left.id].attachment_id
    assert attachment is not None
    one.cloud.detach(attachment)

    one.pass_time(120.0)

    assert left.id not in one.cloud.all_enis


def test_what_arrives_does_not_hide_why_the_next_pod_waits() -> None:
    one = bench(held=Cordon(CORDONED))
    one.settle()
    one.node.blocked(None)

    one.pass_time(10.0)

    assert one.node.why is CORDONED
