from __future__ import annotations

from ipaddress import IPv4Network

from attrs import evolve

from eniplug.core.lookout import AFTER_TROUBLE, GROUPS_AGAIN, LOOK_EVERY
from eniplug.hooks.errors import CloudError, DeniedError, KernelError
from kit.benches import Bench, bench

WIDER = (IPv4Network("10.0.0.0/16"), IPv4Network("100.64.0.0/16"))


def two_enis() -> Bench:
    """A node whose primary ENI is full, and that has a second."""
    one = bench()
    one.settle()
    one.node.pool.take()
    one.settle()
    assert one.has(1) is not None
    return one


def give_primary(one: Bench, *groups: str) -> None:
    """Change the primary ENI's groups, as an operator does."""
    primary = one.facts.primary.id
    one.cloud.all_enis[primary] = evolve(one.cloud.all_enis[primary], groups=groups)


def groups_of(one: Bench, device: int) -> set[str]:
    eni = one.has(device)
    assert eni is not None
    return set(eni.groups)


# -- the VPC's CIDRs -------------------------------------------------------------------


def test_a_vpc_that_stays_as_it_is_settles_nothing() -> None:
    one = bench()

    one.pass_time(3 * LOOK_EVERY)

    assert one.node.vpc == ()


def test_a_range_that_the_vpc_gets_or_loses_is_heard_of() -> None:
    one = bench()
    one.settle()

    one.metadata.vpc = WIDER
    one.pass_time(LOOK_EVERY + 1)
    with_it = one.node.vpc
    one.metadata.vpc = WIDER[:1]
    one.pass_time(LOOK_EVERY + 1)

    assert with_it == WIDER
    assert one.node.vpc == WIDER[:1]


def test_another_order_of_the_same_ranges_is_no_change() -> None:
    one = bench()
    one.metadata.vpc = WIDER
    one.pass_time(LOOK_EVERY + 1)
    one.node.vpc = ()

    one.metadata.vpc = WIDER[::-1]
    one.pass_time(LOOK_EVERY + 1)

    assert one.node.vpc == ()


def test_a_vpc_without_any_range_is_not_believed() -> None:
    one = bench()
    one.metadata.vpc = WIDER
    one.pass_time(LOOK_EVERY + 1)

    one.metadata.vpc = ()
    one.pass_time(LOOK_EVERY + 1)

    assert one.node.vpc == WIDER


def test_while_imds_is_away_all_stays_as_it_is() -> None:
    one = bench()
    one.settle()
    one.metadata.vpc = WIDER
    one.metadata.error = CloudError("no answer from IMDS")

    one.pass_time(LOOK_EVERY + 1)
    meanwhile = one.node.vpc
    one.metadata.error = None
    one.pass_time(AFTER_TROUBLE)

    assert meanwhile == ()
    assert one.node.vpc == WIDER


def test_a_node_that_cannot_be_settled_is_settled_later() -> None:
    one = bench()
    one.settle()
    one.metadata.vpc = WIDER
    one.node.unsettled = [KernelError("nft is busy")]

    one.pass_time(LOOK_EVERY + 1)
    meanwhile = one.node.vpc
    one.pass_time(AFTER_TROUBLE)

    assert meanwhile == ()
    assert one.node.vpc == WIDER


# -- security groups -------------------------------------------------------------------


def test_enis_of_pods_follow_the_primary_enis_groups() -> None:
    one = two_enis()
    give_primary(one, "sg-2", "sg-3")

    one.pass_time(LOOK_EVERY + 1)

    second = one.has(1)
    assert second is not None
    assert one.cloud.named("set_groups") == [(second.id, ("sg-2", "sg-3"))]
    assert groups_of(one, 1) == {"sg-2", "sg-3"}
    assert {eni.groups for eni in one.node.remembered[1:]} == {("sg-2", "sg-3")}


def test_a_new_eni_is_born_with_the_groups_of_now() -> None:
    one = bench()
    one.settle()
    give_primary(one, "sg-2")
    one.pass_time(LOOK_EVERY + 1)

    one.node.pool.take()
    one.settle()

    assert groups_of(one, 1) == {"sg-2"}
    assert one.cloud.named("set_groups") == []


def test_an_eni_that_was_left_behind_by_a_change_follows_at_the_start() -> None:
    one = two_enis()
    give_primary(one, "sg-2")

    again = bench(cloud=one.cloud)
    again.settle()

    assert groups_of(again, 1) == {"sg-2"}


def test_what_ec2_refuses_is_tried_again_after_a_minute_and_stops_nothing() -> None:
    one = two_enis()
    give_primary(one, "sg-2")
    one.cloud.fail("set_groups", DeniedError("ec2:ModifyNetworkInterfaceAttribute"))

    one.pass_time(LOOK_EVERY + 1)
    one.node.waiting = 12
    one.settle()
    meanwhile = groups_of(one, 1)
    one.pass_time(GROUPS_AGAIN)

    assert one.has(2) is not None
    assert meanwhile == {"sg-1"}
    assert groups_of(one, 1) == {"sg-2"}


def test_no_eni_is_given_groups_where_nothing_is_to_be_asked_of_ec2() -> None:
    one = two_enis()
    give_primary(one, "sg-2")

    again = bench(cloud=one.cloud, DISABLE_NETWORK_RESOURCE_PROVISIONING="true")
    again.pass_time(2 * LOOK_EVERY)

    assert groups_of(again, 1) == {"sg-1"}
