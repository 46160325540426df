from __future__ import annotations

from ipaddress import IPv4Network

import pytest

from eniplug.core.discover import look
from eniplug.core.ec2 import Limits
from eniplug.core.imds_only import ImdsOnly
from eniplug.hooks.capacity import CreateEni
from eniplug.hooks.errors import DeniedError
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata
from kit.benches import Bench, bench


@pytest.fixture
def cloud() -> MemoryCloud:
    """EC2, in which somebody gave a node two ENIs and six addresses."""
    limits = Limits(max_enis=3, ipv4_per_eni=10)
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=limits)
    (primary,) = cloud.enis(cloud.instance_id)
    cloud.assign(primary.id, 4)
    second = cloud.create_eni(
        primary.subnet,
        (),
        CreateEni(addresses=2),
        token="t",
        description="",
        tags={},
    )
    cloud.attach(second.id, cloud.instance_id, 1, 0)
    return cloud


def alone(cloud: MemoryCloud) -> Bench:
    return bench(cloud=cloud, ENABLE_IMDS_ONLY_MODE="true")


def test_the_node_is_found_without_ec2(cloud: MemoryCloud) -> None:
    metadata = MemoryMetadata(cloud=cloud)

    facts = look(metadata, ImdsOnly(metadata), manage_untagged=True)

    assert [len(eni.blocks) for eni in facts.managed] == [4, 2]
    assert facts.limits == Limits(max_enis=2, ipv4_per_eni=5, ipv6_per_eni=5)
    assert facts.vpc_cidrs == (IPv4Network("10.0.0.0/16"),)


def test_nothing_can_be_changed(cloud: MemoryCloud) -> None:
    only = ImdsOnly(MemoryMetadata(cloud=cloud))

    with pytest.raises(DeniedError, match="ENABLE_IMDS_ONLY_MODE"):
        only.assign("eni-1", 1)


def test_the_mode_switches_off_all_that_asks_ec2(cloud: MemoryCloud) -> None:
    cloud.calls.clear()
    one = alone(cloud)
    one.node.waiting = 30

    one.pass_time(4000)

    assert {call[0] for call in cloud.calls} <= {"enis", "limits"}


def test_what_is_added_from_outside_serves_pods(cloud: MemoryCloud) -> None:
    one = alone(cloud)
    one.pass_time(5)
    assert one.total == 6
    cloud.assign(one.facts.primary.id, 3)

    one.pass_time(120)

    assert one.total == 9
