"""What the cloud in memory has for tests alone; tests/contract holds it to EC2."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from eniplug.hooks.capacity import CreateEni
from eniplug.hooks.errors import CloudError, ThrottledError
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata
from eniplug.testing.subnet import MemorySubnet


@pytest.fixture
def cloud() -> MemoryCloud:
    return MemoryCloud()


def primary(cloud: MemoryCloud) -> str:
    return cloud.enis(cloud.instance_id)[0].id


def test_calls_are_listed(cloud: MemoryCloud) -> None:
    eni = primary(cloud)

    cloud.assign(eni, 2)

    assert cloud.named("assign") == [(eni, 2)]


def test_a_call_that_fails_changes_nothing(cloud: MemoryCloud) -> None:
    eni = primary(cloud)
    cloud.fail("assign", ThrottledError("too much"))

    with pytest.raises(ThrottledError):
        cloud.assign(eni, 2)

    assert cloud.all_enis[eni].secondary == ()
    assert len(cloud.assign(eni, 2)) == 2


def test_a_call_whose_answer_is_lost_takes_effect(cloud: MemoryCloud) -> None:
    eni = primary(cloud)
    cloud.lose("assign", CloudError("no answer"))

    with pytest.raises(CloudError):
        cloud.assign(eni, 2)

    assert len(cloud.all_enis[eni].secondary) == 2


def test_metadata_may_be_behind(cloud: MemoryCloud) -> None:
    eni = cloud.all_enis[primary(cloud)]
    metadata = MemoryMetadata(cloud=cloud)
    metadata.behind = True
    cloud.assign(eni.id, 1)
    assert metadata.local_ipv4s(eni.mac) == (eni.address,)

    metadata.behind = False

    assert len(metadata.local_ipv4s(eni.mac)) == 2


def test_metadata_may_be_away(cloud: MemoryCloud) -> None:
    metadata = MemoryMetadata(cloud=cloud, error=None)
    metadata.error = CloudError("no answer")

    with pytest.raises(CloudError):
        metadata.instance_id()


def test_a_subnet_gives_again_what_it_got_back() -> None:
    space = MemorySubnet(cidr=IPv4Network("10.0.0.0/26"))
    high, low = IPv4Network("10.0.0.32/28"), IPv4Network("10.0.0.16/28")
    assert space.draw_prefixes(2) == (high, low)
    assert space.draw_prefixes(1) is None

    space.put_back([high])

    assert space.draw_prefixes(1) == (high,)
    assert space.draw(11) == tuple(IPv4Address(f"10.0.0.{n}") for n in range(4, 15))


def test_a_fragmented_subnet_has_addresses_and_no_prefix() -> None:
    space = MemorySubnet(cidr=IPv4Network("10.0.0.0/26"), fragmented=True)

    assert space.draw_prefixes(1) is None
    assert space.draw(1) is not None


def test_metadata_may_hide_a_block(cloud: MemoryCloud) -> None:
    eni = cloud.all_enis[primary(cloud)]
    metadata = MemoryMetadata(cloud=cloud)
    one, two = cloud.assign(eni.id, 2)
    metadata.hidden.add(one)

    assert metadata.blocks(eni.mac) == {two}
    assert metadata.local_ipv4s(eni.mac) == (eni.address, two)


def test_metadata_may_be_behind_for_one_eni(cloud: MemoryCloud) -> None:
    eni = cloud.all_enis[primary(cloud)]
    metadata = MemoryMetadata(cloud=cloud)
    want = CreateEni(addresses=1)
    made = cloud.create_eni(
        eni.subnet, eni.groups, want, token="t", description="", tags={}
    )
    metadata.late = {eni.id, made.id}
    cloud.attach(made.id, cloud.instance_id, 1, 0)
    cloud.assign(eni.id, 1)
    assert metadata.macs() == (eni.mac,)
    assert metadata.blocks(eni.mac) == set()

    metadata.late = {made.id}

    assert metadata.macs() == (eni.mac,)
    assert len(metadata.blocks(eni.mac)) == 1
    metadata.late = set()
    assert set(metadata.macs()) == {eni.mac, made.mac}
