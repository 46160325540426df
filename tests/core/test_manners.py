"""How the worker asks EC2: how often, where, and what it does with others' ENIs."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network, IPv6Network

import pytest
from attrs import evolve

from eniplug.core.ec2 import CLUSTER_TAG, INSTANCE_TAG, EniFacts, Limits
from eniplug.core.leftovers import CREATED_TAG, STAMP
from eniplug.core.subnets import LACKS_FOR
from eniplug.hooks.capacity import CreateEni
from eniplug.hooks.errors import DeniedError
from eniplug.plugins.prefix_delegation import PrefixDelegation
from eniplug.testing.cloud import MemoryCloud
from eniplug.testing.subnet import MemorySubnet
from kit.benches import C5_LARGE, Bench, bench

HOUSEKEEPING = {"leaked", "tag"}
"""Once after the start, when there is nothing else to do."""

NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
OLD = (NOW - timedelta(minutes=10)).strftime(STAMP)
C5_4XLARGE = Limits(max_enis=8, ipv4_per_eni=30, ipv6_per_eni=30)


def made(cloud: MemoryCloud, description: str, tags: dict[str, str]) -> EniFacts:
    """Leave an ENI about that hangs on nothing."""
    return cloud.create_eni(
        next(iter(cloud.spaces)),
        (),
        CreateEni(),
        token=f"{len(cloud.all_enis)}",
        description=description,
        tags=tags,
    )


def on(limits: Limits = C5_LARGE, *subnets: MemorySubnet) -> MemoryCloud:
    spaces = subnets or (MemorySubnet(cidr=IPv4Network("10.0.0.0/24")),)
    return MemoryCloud(
        instance_type="c5.large",
        instance_limits=limits,
        subnets={f"subnet-{number}": one for number, one in enumerate(spaces)},
    )


def with_prefixes(cloud: MemoryCloud) -> Bench:
    one = bench(cloud=cloud)
    one.node.planner = PrefixDelegation()
    return one


# -- how often -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("limits", "most"),
    [
        # Six ENIs of nine: five are made, by three calls each and one list of subnets.
        (Limits(max_enis=8, ipv4_per_eni=10), 17),
        (C5_4XLARGE, 5),
    ],
)
def test_a_burst_on_a_cold_node_takes_the_fewest_calls(
    limits: Limits, most: int
) -> None:
    one = bench(cloud=on(limits), WARM_IP_TARGET="1")
    for waiting in range(1, 51):
        one.node.waiting = waiting
        one.clock.advance(0.001)
        one.worker.step()

    one.pass_time(3)

    calls = [call for call in one.cloud.calls if call[0] not in HOUSEKEEPING]
    assert one.total == 51
    assert len(calls) == most


def test_a_burst_on_a_cold_node_with_prefixes_is_one_call() -> None:
    one = with_prefixes(on(C5_4XLARGE))
    for waiting in range(1, 51):
        one.node.waiting = waiting
        one.clock.advance(0.001)
        one.worker.step()

    one.pass_time(3)

    assert [call for call in one.cloud.calls if call[0] not in HOUSEKEEPING] == [
        ("assign_prefixes", one.facts.primary.id, 5, 4)
    ]


def test_where_nothing_is_provisioned_ec2_is_asked_for_nothing() -> None:
    one = bench(cloud=on(), DISABLE_NETWORK_RESOURCE_PROVISIONING="true")
    one.node.waiting = 5

    one.pass_time(300)

    assert {call[0] for call in one.cloud.calls} <= {"enis"}


# -- prefixes --------------------------------------------------------------------------


def test_a_fragmented_subnet_gives_single_addresses_and_later_prefixes() -> None:
    space = MemorySubnet(cidr=IPv4Network("10.0.0.0/24"), fragmented=True)
    one = with_prefixes(on(C5_4XLARGE, space))
    one.node.waiting = 3
    one.settle()
    one.node.waiting = 0
    pods = [one.node.pool.take(prefer="prefix") for _ in range(3)]
    assert {lease.prefix for lease in pods} == {None}
    space.fragmented = False
    one.pass_time(LACKS_FOR)

    pods += [one.node.pool.take(prefer="prefix") for _ in range(14)]
    one.pass_time(5)

    assert one.node.pool.take(prefer="prefix").prefix is not None


def test_a_dual_stack_node_without_a_prefix_gets_enis_of_single_addresses() -> None:
    space = MemorySubnet(
        cidr=IPv4Network("10.0.0.0/24"),
        cidr6=IPv6Network("2001:db8::/64"),
        fragmented=True,
    )
    one = bench(cloud=on(evolve(C5_LARGE, ipv6_per_eni=10), space))
    one.node.planner = PrefixDelegation(family="dual-stack")
    one.node.waiting = 12

    one.pass_time(5)

    second = one.has(1)
    assert second is not None
    assert second.secondary
    assert len(second.prefixes6) == 1
    assert one.node.pool.counts(4).total >= 12


def test_a_type_that_takes_no_prefixes_has_single_addresses() -> None:
    one = with_prefixes(on(evolve(C5_LARGE, prefixes=False)))

    one.settle()

    assert one.cloud.named("assign_prefixes") == []
    assert one.total == 16


def test_an_eni_is_born_with_prefixes() -> None:
    one = with_prefixes(on(Limits(max_enis=3, ipv4_per_eni=3)))
    one.node.waiting = 40
    one.pass_time(3)

    second = one.has(1)

    assert second is not None
    assert len(second.prefixes) == 2
    assert one.total == 64


# -- where -----------------------------------------------------------------------------

YES = {"kubernetes.io/role/cni": "1"}


def test_a_new_eni_is_made_in_the_subnet_with_most_free_addresses() -> None:
    home = MemorySubnet(cidr=IPv4Network("10.0.0.0/27"))
    big = MemorySubnet(cidr=IPv4Network("10.0.2.0/24"), tags=dict(YES))
    bigger = MemorySubnet(cidr=IPv4Network("10.0.4.0/23"))
    one = bench(cloud=on(C5_LARGE, home, big, bigger))
    one.settle()
    one.node.pool.take()

    one.settle()

    second = one.has(1)
    assert second is not None
    assert second.subnet == "subnet-1"


def test_pods_go_to_another_subnet_when_the_first_is_full() -> None:
    home = MemorySubnet(cidr=IPv4Network("10.0.0.0/28"))
    other = MemorySubnet(cidr=IPv4Network("10.0.2.0/24"), tags=dict(YES))
    one = bench(cloud=on(C5_LARGE, home, other), WARM_IP_TARGET="12")

    one.pass_time(5)

    assert one.total == 12
    assert one.node.why is None


def test_without_leave_to_list_subnets_the_primary_enis_serves() -> None:
    one = bench(cloud=on())
    one.settle()
    one.cloud.fail("subnets", DeniedError("not allowed: ec2:DescribeSubnets"))
    one.node.pool.take()

    one.settle()

    assert one.total == 18


# -- others' ENIs ----------------------------------------------------------------------


def test_enis_of_dead_nodes_are_collected_and_others_are_let_be() -> None:
    cloud = on()
    mine = {INSTANCE_TAG: "i-dead", CLUSTER_TAG: "blue"}
    dead = made(cloud, "aws-K8S-i-dead", {**mine, CREATED_TAG: OLD})
    young = made(cloud, "aws-K8S-i-new", {**mine, CREATED_TAG: NOW.strftime(STAMP)})
    unstamped = made(cloud, "aws-K8S-i-old", mine)
    theirs = made(cloud, "theirs", {**mine, CREATED_TAG: OLD})
    red = made(cloud, "aws-K8S-i-dead", {**mine, CLUSTER_TAG: "red", CREATED_TAG: OLD})
    one = bench(cloud=cloud, CLUSTER_NAME="blue")

    one.pass_time(60)

    assert dead.id not in cloud.all_enis
    assert {young.id, unstamped.id, theirs.id, red.id} <= cloud.all_enis.keys()
    stamped = cloud.all_enis[unstamped.id].tags[CREATED_TAG]
    assert stamped == NOW.strftime(STAMP)


def test_enis_of_dead_nodes_stay_where_that_is_wanted() -> None:
    cloud = on()
    tags = {INSTANCE_TAG: "i-dead", CREATED_TAG: OLD}
    dead = made(cloud, "aws-K8S-i-dead", tags)

    bench(cloud=cloud, DISABLE_LEAKED_ENI_CLEANUP="true").pass_time(60)

    assert dead.id in cloud.all_enis


def test_an_eni_of_ours_is_tied_to_its_instance_if_it_was_not() -> None:
    cloud = on()
    name = f"aws-K8S-{cloud.instance_id}"
    eni = made(cloud, name, {INSTANCE_TAG: cloud.instance_id})
    cloud.attach(eni.id, cloud.instance_id, 1, 0)
    one = bench(cloud=cloud, WARM_ENI_TARGET="2")
    one.cloud.assign(one.facts.primary.id, 1)

    one.pass_time(200)

    assert eni.id in cloud.on_termination


def test_enis_that_lack_our_tags_get_them_once_and_by_one_call() -> None:
    cloud = on()
    theirs = made(cloud, "by hand", {"team": "a"})
    cloud.attach(theirs.id, cloud.instance_id, 1, 0)
    one = bench(
        cloud=cloud,
        WARM_ENI_TARGET="2",
        CLUSTER_NAME="blue",
        ADDITIONAL_ENI_TAGS='{"cost": "b"}',
    )

    one.pass_time(300)

    primary = one.facts.primary.id
    ((enis, _),) = cloud.named("tag")
    assert enis == (primary, theirs.id)
    want = {INSTANCE_TAG: cloud.instance_id, CLUSTER_TAG: "blue", "cost": "b"}
    assert want.items() <= cloud.all_enis[primary].tags.items()
    assert cloud.all_enis[theirs.id].tags["team"] == "a"


def test_a_node_that_may_not_tag_serves_all_the_same() -> None:
    one = bench(cloud=on())
    one.cloud.fail("tag", DeniedError("not allowed: ec2:CreateTags"))

    one.pass_time(60)

    assert one.total == 9
    assert one.worker.trouble is None
