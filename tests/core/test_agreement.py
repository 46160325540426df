"""The worker when EC2, IMDS and the pool do not say the same.

Some tests are named after what happened to users of other CNIs.
"""

from __future__ import annotations

import pytest
from attrs import evolve

from eniplug.core.audit import APART, NOT_SHOWN
from eniplug.core.cloud import LOOK_EVERY
from eniplug.hooks.capacity import Block
from eniplug.hooks.errors import CloudError, QuarantineError
from eniplug.testing.cloud import MemoryCloud
from kit.benches import C5_LARGE, Bench, bench


def take_away(one: Bench, *blocks: Block) -> None:
    """Have EC2 no longer show blocks of the primary ENI, whoever has them now."""
    eni = one.cloud.all_enis[one.facts.primary.id]
    kept = tuple(a for a in eni.secondary if a not in blocks)
    one.cloud.all_enis[eni.id] = evolve(eni, secondary=kept)


def warm(pods: int = 0) -> Bench:
    one = bench(WARM_IP_TARGET="2")
    one.settle()
    for _ in range(pods):
        one.node.pool.take()
        one.settle()
    one.pass_time(5)
    return one


def test_imds_shows_after_a_restart_what_was_given_back_long_ago() -> None:
    """aws/amazon-vpc-cni-k8s 3887: such an address was another node's by then."""
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    primary = cloud.enis(cloud.instance_id)[0].id
    gone, kept = cloud.assign(primary, 2)
    one = bench(cloud=cloud, WARM_IP_TARGET="1")
    one.metadata.behind = True
    cloud.unassign(primary, [gone])
    again = bench(cloud=cloud, WARM_IP_TARGET="1")
    again.metadata.behind = True

    again.pass_time(300)

    assert again.node.pool.blocks(primary) == {kept}


def test_imds_does_not_show_addresses_that_pods_have() -> None:
    """aws/amazon-vpc-cni-k8s 3019: they were released under the pods."""
    one = warm(pods=4)
    has = one.node.pool.blocks(one.facts.primary.id)
    one.metadata.hidden |= has

    one.pass_time(10 * LOOK_EVERY)

    assert one.node.pool.blocks(one.facts.primary.id) == has
    assert one.node.pool.quarantined() == ()
    assert one.cloud.named("unassign") == []
    assert one.cloud.named("enis")


def test_an_eni_with_pods_is_not_shown_at_all() -> None:
    """aws/amazon-vpc-cni-k8s 1967: an ENI in use was taken for gone and deleted."""
    one = bench()
    one.settle()
    for _ in range(10):
        one.node.pool.take()
        one.settle()
    second = one.has(1)
    assert second is not None
    used = next(v for v in one.node.pool.views() if v.id == second.id).assigned
    assert used
    shown = one.cloud.all_enis.pop(second.id)

    one.pass_time(3 * LOOK_EVERY)
    assert one.node.pool.eni(second.id) is not None
    assert one.cloud.named("detach") == []
    one.cloud.all_enis[second.id] = shown
    one.pass_time(3 * LOOK_EVERY)

    assert one.node.pool.quarantined() == ()
    assert one.cloud.named("delete_eni") == []


def test_an_address_does_not_stay_half_released() -> None:
    """cilium 39981: a release whose answer was lost left addresses in between."""
    one = warm()
    leases = [one.node.pool.take() for _ in range(2)]
    one.settle()
    for lease in leases:
        one.node.pool.release(lease.address, cooldown=0)
    one.cloud.lose("unassign", CloudError("no answer from EC2"))

    one.pass_time(120)

    primary = one.facts.primary.id
    assert one.node.pool.blocks(primary) == set(one.cloud.all_enis[primary].blocks)
    assert one.total == 2
    assert one.node.intents == {}


def test_what_ec2_shows_no_more_is_quarantined_after_two_looks() -> None:
    one = warm()
    primary = one.facts.primary.id
    lost = next(iter(one.node.pool.blocks(primary)))
    take_away(one, lost)
    one.pass_time(LOOK_EVERY)
    assert one.node.pool.quarantined() == ()

    one.pass_time(APART + 1)

    (found,) = one.node.pool.quarantined()
    assert (found.block, found.reason) == (lost, NOT_SHOWN)
    # Another one is fetched in its place.
    assert one.node.pool.counts().idle == 2


def test_a_pod_keeps_what_ec2_shows_no_more_and_nobody_has_it_next() -> None:
    one = bench(WARM_IP_TARGET="1", MAX_ENI="1")
    one.settle()
    lease = one.node.pool.take()
    one.settle()
    take_away(one, lease.address)
    one.pass_time(LOOK_EVERY + APART + 1)
    assert one.node.pool.lease_of(lease.address) == lease

    one.node.pool.release(lease.address, cooldown=0)

    with pytest.raises(QuarantineError):
        one.node.pool.take(address=lease.address)
    one.pass_time(200)
    assert lease.address not in one.node.pool.blocks(one.facts.primary.id)


def test_what_ec2_shows_again_is_used_again() -> None:
    one = warm()
    eni = one.cloud.all_enis[one.facts.primary.id]
    lost = eni.secondary[0]
    take_away(one, lost)
    one.pass_time(LOOK_EVERY + APART + 1)
    assert one.node.pool.quarantined()

    now = one.cloud.all_enis[eni.id]
    one.cloud.all_enis[eni.id] = evolve(now, secondary=(lost, *now.secondary))
    one.pass_time(65)

    assert one.node.pool.quarantined() == ()


def test_an_idle_node_asks_ec2_next_to_nothing() -> None:
    one = warm()
    one.cloud.calls.clear()

    one.pass_time(3600)

    assert len(one.cloud.calls) <= 4


def test_pods_are_served_while_ec2_is_away() -> None:
    one = bench()
    one.settle()
    for call in ("assign", "create_eni", "enis", "leaked", "subnets"):
        one.cloud.fail(call, *[CloudError("no answer from EC2")] * 1000)

    leases = []
    for _ in range(9):
        leases.append(one.node.pool.take())
        one.pass_time(30)

    assert len(leases) == 9
    assert one.node.why is not None
    assert one.node.pool.quarantined() == ()
