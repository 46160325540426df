from __future__ import annotations

import time

import pytest
from attrs import evolve

from eniplug.core.discover import NO_MANAGE_TAG, eni_of
from eniplug.core.ec2 import INSTANCE_TAG, Limits
from eniplug.hooks.capacity import CreateEni
from eniplug.hooks.errors import (
    CloudError,
    DeniedError,
    StaleMetadataError,
    SubnetFullError,
    ThrottledError,
)
from eniplug.testing.cloud import MemoryCloud
from kit.benches import C5_LARGE, Bench, bench, make

# -- growing -------------------------------------------------------------------------


def test_a_new_node_fills_its_primary_eni() -> None:
    one = bench()

    one.settle()

    assert one.total == 9
    assert one.cloud.named("assign") == [(one.facts.primary.id, 9)]
    assert one.node.intents == {}
    assert one.node.history == [f"assign 9 addresses to {one.facts.primary.id}"]


def test_the_first_pod_brings_a_second_eni() -> None:
    one = bench(CLUSTER_NAME="blue", ADDITIONAL_ENI_TAGS='{"team": "net"}')
    one.settle()
    one.node.pool.take()

    one.settle()

    second = one.has(1)
    assert second is not None
    assert one.total == 18
    assert second.description == f"aws-K8S-{one.cloud.instance_id}"
    assert second.groups == one.facts.primary.groups
    assert second.subnet == "subnet-1"
    assert second.id in one.cloud.on_termination
    assert second.tags == {
        INSTANCE_TAG: one.cloud.instance_id,
        "node.k8s.amazonaws.com/createdAt": "2026-01-02T03:04:05Z",
        "cluster.k8s.amazonaws.com/name": "blue",
        "eks:eni:owner": "amazon-vpc-cni",
        "team": "net",
    }
    adopted = one.node.pool.eni(second.id)
    assert adopted == eni_of(second, "ens3", 2)
    assert adopted is not None
    assert adopted.table == 2
    assert one.node.intents == {}


def test_the_smallest_free_device_index_is_used() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    foreign = cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=0), token="f", description="", tags={}
    )
    cloud.attach(foreign.id, cloud.instance_id, 1, 0)
    one = bench(cloud=cloud)
    one.node.adopt(eni_of(cloud.all_enis[foreign.id], "ens9", 9), ())
    one.node.waiting = 19

    one.settle()

    assert one.has(2) is not None
    assert one.total == 27


def test_pods_that_wait_are_served_in_one_call() -> None:
    one = bench(WARM_IP_TARGET="1")
    one.node.waiting = 5

    one.settle()

    assert one.cloud.named("assign") == [(one.facts.primary.id, 6)]


def test_an_instance_that_is_full_on_ec2_is_found_out_by_one_eni() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    one = bench(cloud=cloud)
    aside = {NO_MANAGE_TAG: "true"}
    for device in (1, 2):
        foreign = cloud.create_eni(
            "subnet-1", (), CreateEni(), token=f"{device}", description="", tags=aside
        )
        cloud.attach(foreign.id, cloud.instance_id, device, 0)
    one.node.waiting = 10
    one.settle()
    assert one.node.why is not None
    assert one.node.why.reason == "eni-limit"

    one.pass_time(120)

    assert len(one.cloud.named("create_eni")) == 3
    assert len(cloud.all_enis) == 3


# -- EC2, IMDS and the link agree ------------------------------------------------------


def test_an_address_waits_until_imds_shows_it() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.metadata.behind = True
    one.settle()
    one.pass_time(5)
    assert one.total == 0

    one.metadata.behind = False
    one.pass_time(2)

    assert one.total == 2
    assert one.cloud.named("assign") == [(one.facts.primary.id, 2)]


def test_it_is_looked_for_ever_less_often() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.metadata.behind = True
    one.settle()

    pauses: list[float] = []
    for _ in range(8):
        pauses.append(round(one.worker.step(), 3))
        one.clock.advance(pauses[-1])

    assert pauses == [0.05, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0]


def test_an_eni_waits_for_its_link() -> None:
    one = bench()
    one.settle()
    one.node.links = False
    one.node.pool.take()
    one.pass_time(5)
    assert one.total == 9
    assert len(one.cloud.named("create_eni")) == 1

    one.node.links = True
    one.pass_time(2)

    assert one.total == 18


def test_a_waiting_pod_is_not_behind_an_eni_that_comes_late() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.settle()
    one.node.links = False
    leases = [one.node.pool.take() for _ in range(2)]
    one.node.waiting = 7
    one.settle()
    late = one.has(1)
    assert late is not None
    assert one.node.pool.eni(late.id) is None
    # A place comes free on the primary ENI while the other is on its way.
    one.node.pool.release(leases[0].address, cooldown=0)
    one.node.pool.withdraw(one.facts.primary.id, [leases[0].address])
    one.cloud.unassign(one.facts.primary.id, [leases[0].address])
    before = one.total
    one.node.waiting = 8

    one.settle()

    assert one.node.pool.eni(late.id) is None
    assert one.total == before + 1


def test_an_imds_that_stays_behind_is_told() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.metadata.behind = True
    one.pass_time(9)
    assert one.node.why is None

    one.pass_time(5)

    assert isinstance(one.node.why, StaleMetadataError)
    one.metadata.behind = False
    one.pass_time(2)
    assert one.node.why is None
    assert one.total == 2


def test_an_imds_that_does_not_answer_lets_nothing_in() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.metadata.error = CloudError("no answer from IMDS")
    one.settle()
    assert one.total == 0
    assert one.node.why is one.metadata.error

    one.metadata.error = None
    one.pass_time(2)

    assert one.total == 2


def test_an_eni_whose_link_never_comes_is_given_up() -> None:
    one = bench()
    one.settle()
    one.node.links = False
    one.node.pool.take()
    one.settle()
    late = one.has(1)
    assert late is not None
    one.pass_time(100)
    assert late.id in one.cloud.all_enis

    one.pass_time(40)

    assert late.id not in one.cloud.all_enis
    assert one.cloud.named("detach")[0] == (late.attachment_id,)


def test_addresses_that_never_come_are_asked_for_anew() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.metadata.behind = True
    one.settle()
    primary = one.cloud.all_enis[one.facts.primary.id]
    one.cloud.all_enis[primary.id] = evolve(primary, secondary=())

    one.pass_time(125)

    assert len(one.cloud.named("enis")) == 1
    assert len(one.cloud.named("assign")) == 2


def test_more_addresses_may_be_on_their_way_to_one_eni() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.metadata.behind = True
    one.settle()
    one.node.waiting = 3
    one.pass_time(3)
    assert [count for _, count in one.cloud.named("assign")] == [2, 3]
    assert one.total == 0

    one.metadata.behind = False
    one.pass_time(3)

    assert one.total == 5


# -- giving back -----------------------------------------------------------------------


def test_an_eni_that_nobody_needs_is_detached_and_deleted() -> None:
    one = bench()
    one.settle()
    lease = one.node.pool.take()
    one.settle()
    second = one.has(1)
    assert second is not None
    one.node.pool.release(lease.address)

    one.pass_time(50)
    assert one.total == 18
    one.node.pool.expire()
    one.pass_time(20)

    assert one.total == 9
    assert second.id not in one.cloud.all_enis
    assert one.cloud.named("detach") == [(second.attachment_id,)]
    assert one.node.intents == {}


def test_a_slow_detachment_is_waited_for_by_a_timer() -> None:
    one = bench()
    one.settle()
    lease = one.node.pool.take()
    one.settle()
    one.node.pool.release(lease.address, cooldown=0)
    one.cloud.detaching = True
    one.pass_time(70)
    assert len(one.cloud.named("delete_eni")) > 1
    assert len(one.cloud.all_enis) == 2

    one.cloud.settle()
    one.pass_time(3)

    assert len(one.cloud.all_enis) == 1
    assert len(one.cloud.named("detach")) == 1


def test_the_place_of_an_eni_that_leaves_is_not_used() -> None:
    one = bench(Limits(max_enis=2, ipv4_per_eni=10))
    one.settle()
    lease = one.node.pool.take()
    one.settle()
    one.node.pool.release(lease.address, cooldown=0)
    one.cloud.detaching = True
    one.pass_time(70)
    one.node.waiting = 12

    one.pass_time(10)
    assert len(one.cloud.named("create_eni")) == 1
    one.cloud.settle()
    one.pass_time(10)

    assert len(one.cloud.named("create_eni")) == 2
    assert one.total == 18


def test_a_surplus_goes_back_but_not_more_than_twice_a_minute() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.settle()
    leases = [one.node.pool.take() for _ in range(2)]
    one.settle()
    assert one.total == 4
    one.node.pool.release(leases[0].address, cooldown=0)
    one.settle()
    assert one.total == 3
    one.node.pool.release(leases[1].address, cooldown=0)

    one.pass_time(25)
    assert one.total == 3
    one.pass_time(10)

    assert one.total == 2
    assert len(one.cloud.named("unassign")) == 2
    assert len(one.cloud.all_enis[one.facts.primary.id].secondary) == 2


def test_what_nobody_needs_any_more_goes_back_once_its_eni_is_here() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.node.links = False
    one.node.waiting = 12
    one.settle()
    late = one.has(1)
    assert late is not None

    one.node.waiting = 0
    one.pass_time(20)
    assert {call[0] for call in one.cloud.named("unassign")} == {one.facts.primary.id}

    one.node.links = True
    one.pass_time(90)
    assert one.total == 2
    assert one.has(1) is None


def test_a_refused_unassign_puts_the_addresses_back() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.settle()
    lease = one.node.pool.take()
    one.settle()
    one.node.pool.release(lease.address, cooldown=0)
    one.cloud.fail("unassign", DeniedError("not allowed"))

    one.settle()
    assert one.total == 2
    one.pass_time(5)

    assert one.total == 3


# -- errors ----------------------------------------------------------------------------


def test_throttling_slows_down_and_then_it_goes_on() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.cloud.fail("assign", ThrottledError("too much"), ThrottledError("too much"))
    one.settle()
    assert one.node.why is not None
    assert one.node.why.reason == "throttled"
    one.node.waiting = 1
    one.settle()
    assert len(one.cloud.named("assign")) == 1

    one.pass_time(4)

    assert len(one.cloud.named("assign")) == 3
    assert one.node.why is None
    assert one.total == 3


def test_a_pod_that_begins_to_wait_ends_a_pause_after_an_error() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.cloud.fail("assign", *[DeniedError("not allowed")] * 4)
    one.pass_time(8)
    assert len(one.cloud.named("assign")) == 4
    assert one.total == 0

    one.node.waiting = 1
    one.pass_time(1)

    assert one.total == 3


def test_a_subnet_that_is_almost_full_gives_what_it_has() -> None:
    one = bench(cidr="10.0.0.0/28")  # 11 addresses, and one is the ENI's
    one.cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=5), token="other", description="", tags={}
    )

    one.settle()

    assert one.total == 4
    assert one.node.why is not None
    assert one.node.why.reason == "subnet-full"


def test_a_subnet_that_has_room_again_is_used_again() -> None:
    one = bench(cidr="10.0.0.0/28")
    other = one.cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=9), token="other", description="", tags={}
    )
    one.pass_time(5)
    assert one.total == 0
    assert isinstance(one.node.why, SubnetFullError)

    one.cloud.delete_eni(other.id)
    one.pass_time(60)

    assert one.total == 9
    assert one.node.why is None


@pytest.mark.parametrize("call", ["attach", "delete_on_termination"])
def test_an_eni_that_cannot_be_attached_is_deleted_again(call: str) -> None:
    one = bench()
    one.settle()
    one.cloud.fail(call, DeniedError("not allowed"))
    one.node.pool.take()
    one.settle()
    assert isinstance(one.node.why, DeniedError)

    one.pass_time(3)

    made = one.cloud.named("create_eni")
    assert len(made) == 2
    assert one.total == 18
    assert len(one.cloud.all_enis) == 2
    assert one.node.intents == {}


@pytest.mark.parametrize("call", ["create_eni", "attach", "delete_on_termination"])
def test_an_answer_that_is_lost_leaves_no_eni_behind(call: str) -> None:
    one = bench()
    one.settle()
    one.cloud.lose(call, CloudError("no answer from EC2"))
    one.node.pool.take()

    one.settle()
    assert len(one.node.intents) == 1
    one.pass_time(10)

    assert one.node.intents == {}
    assert one.total == 18
    assert len(one.cloud.all_enis) == 2


def test_addresses_whose_answer_is_lost_are_found_and_not_asked_for_twice() -> None:
    one = bench(WARM_IP_TARGET="3")
    one.cloud.lose("assign", CloudError("no answer from EC2"))

    one.settle()
    assert len(one.node.intents) == 1
    one.pass_time(3)

    assert one.total == 3
    assert len(one.cloud.named("assign")) == 1
    assert one.node.intents == {}


def test_addresses_that_somebody_else_assigned_are_found() -> None:
    one = bench(WARM_IP_TARGET="9")
    one.cloud.assign(one.facts.primary.id, 5)
    one.cloud.calls.clear()

    one.pass_time(3)

    assert one.total == 9
    assert [count for _, count in one.cloud.named("assign")] == [9, 4]


def test_calls_that_keep_failing_are_made_ever_less_often() -> None:
    one = bench()
    one.cloud.fail("assign", *[CloudError("InternalError")] * 100)

    one.pass_time(120)

    assert len(one.cloud.named("assign")) <= 8


def test_an_attachment_that_is_always_denied_leaves_no_enis_about() -> None:
    one = bench()
    one.settle()
    one.cloud.fail("attach", *[DeniedError("not allowed")] * 100)
    one.node.pool.take()

    for _ in range(10):
        one.pass_time(10)
        assert len(one.cloud.all_enis) == 1

    assert len(one.cloud.named("create_eni")) > 3


def test_trouble_and_its_pause_can_be_seen_until_a_call_goes_well() -> None:
    one = bench()
    one.cloud.fail("assign", DeniedError("not allowed"))
    assert (one.worker.trouble, one.worker.pause) == (None, 0.0)

    one.worker.step()

    assert isinstance(one.worker.trouble, DeniedError)
    assert one.worker.trouble_at == one.clock()
    assert one.worker.pause == 1.0
    one.pass_time(5)
    assert one.worker.pause == 0.0
    assert one.total == 9


def test_the_subnets_are_those_of_the_enis_and_those_that_are_listed() -> None:
    one = bench()
    assert [s.id for s in one.worker.subnets()] == ["subnet-1"]
    assert one.worker.subnets()[0].free is None
    one.settle()
    one.node.pool.take()

    one.settle()

    (listed,) = one.worker.subnets()
    assert listed.free is not None


def test_an_eni_leaves_even_while_growing_fails() -> None:
    one = bench()
    one.settle()
    lease = one.node.pool.take()
    one.settle()
    one.node.pool.release(lease.address, cooldown=0)
    one.cloud.detaching = True
    one.pass_time(70)
    assert len(one.cloud.all_enis) == 2
    one.cloud.fail("create_eni", *[SubnetFullError("full")] * 1000)
    one.node.waiting = 12
    one.settle()

    one.cloud.settle()
    one.pass_time(10)

    assert len(one.cloud.all_enis) == 1


def test_an_eni_that_ec2_keeps_does_not_hold_up_the_pods() -> None:
    one = bench()
    one.settle()
    lease = one.node.pool.take()
    one.settle()
    one.node.pool.release(lease.address, cooldown=0)
    one.cloud.fail("detach", *[DeniedError("not allowed")] * 1000)
    one.pass_time(70)
    assert one.cloud.named("detach")
    one.node.waiting = 12
    before = len(one.cloud.named("detach"))

    one.settle()

    assert one.total == 18
    one.pass_time(600)
    assert len(one.cloud.named("detach")) - before <= 20


# -- start -----------------------------------------------------------------------------


def test_enis_that_an_earlier_life_left_are_deleted() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    name = f"aws-K8S-{cloud.instance_id}"
    tags = {INSTANCE_TAG: cloud.instance_id}
    leaked = cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=1), token="1", description=name, tags=tags
    )
    foreign = cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=1), token="2", description="x", tags=tags
    )
    untagged = cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=1), token="3", description=name, tags={}
    )
    one = bench(cloud=cloud)

    one.settle()

    assert leaked.id not in cloud.all_enis
    assert {foreign.id, untagged.id} <= cloud.all_enis.keys()


def test_an_eni_that_was_being_attached_is_taken_in() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    made = cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=9), token="1", description="", tags={}
    )
    cloud.attach(made.id, cloud.instance_id, 1, 0)
    one = bench(cloud=cloud)
    one.node.links = False
    one.settle()
    assert one.node.pool.eni(made.id) is None
    assert one.cloud.named("create_eni") == []

    one.node.links = True
    one.pass_time(3)

    assert one.node.pool.eni(made.id) is not None
    assert one.cloud.named("create_eni") == []


def test_an_eni_that_was_being_detached_is_deleted() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    made = make(cloud, 1)
    cloud.detaching = True
    cloud.detach(cloud.all_enis[made.id].attachment_id or "")
    one = bench(cloud=cloud)
    one.settle()
    assert made.id in cloud.all_enis

    cloud.settle()
    one.pass_time(3)

    assert made.id not in cloud.all_enis


def test_an_eni_that_somebody_else_attached_is_never_deleted_for_its_link() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    foreign = cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=1), token="f", description="", tags={}
    )
    cloud.attach(foreign.id, cloud.instance_id, 1, 0)
    one = bench(cloud=cloud)
    one.node.links = False

    one.pass_time(300)

    assert cloud.all_enis[foreign.id].attachment_id is not None
    assert one.node.pool.eni(foreign.id) is None


def test_an_eni_that_was_set_aside_is_never_touched() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    aside = make(cloud, 1, **{NO_MANAGE_TAG: "true"})
    one = bench(cloud=cloud)
    one.cloud.lose("assign", CloudError("no answer from EC2"))

    one.pass_time(300)

    assert one.cloud.named("enis")
    assert cloud.all_enis[aside.id] == aside
    assert one.node.pool.eni(aside.id) is None


def test_an_efa_is_used_and_stays() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    made = make(cloud, 1)
    cloud.all_enis[made.id] = evolve(made, kind="efa")
    cloud.assign(cloud.enis(cloud.instance_id)[0].id, 9)
    one = bench(cloud=cloud)

    one.pass_time(300)

    assert one.total == 18
    assert made.id in cloud.all_enis


def test_an_eni_of_an_earlier_life_that_nobody_needs_goes() -> None:
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=C5_LARGE)
    made = make(cloud, 1)
    cloud.assign(cloud.enis(cloud.instance_id)[0].id, 9)
    one = bench(cloud=cloud)

    one.pass_time(300)

    assert one.total == 9
    assert made.id not in cloud.all_enis


# -- the thread ------------------------------------------------------------------------


def wait_for(one: Bench, total: int) -> None:
    end = time.monotonic() + 10
    while one.total != total:
        assert time.monotonic() < end, f"{one.total} addresses, not {total}"
        one.clock.advance(0.01)
        time.sleep(0.002)


def test_the_thread_acts_when_it_is_woken_and_ends_when_told() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.worker.start()
    wait_for(one, 2)
    one.node.waiting = 4

    one.worker.wake()

    wait_for(one, 6)
    one.worker.stop()
    one.worker.join(5)
    assert not one.worker.is_alive()


def test_the_thread_outlives_a_bug() -> None:
    one = bench(WARM_IP_TARGET="2")
    one.node.bugs.append(ZeroDivisionError("a bug in a plugin"))
    one.worker.start()
    end = time.monotonic() + 10

    # The pause that follows ends with the clock, whenever it begins.
    while one.total != 2:
        assert time.monotonic() < end
        one.clock.advance(1)
        one.worker.wake()
        time.sleep(0.002)

    assert one.node.bugs == []
    one.worker.stop()
    one.worker.join(5)
    assert not one.worker.is_alive()
