"""What the cloud in memory has for tests alone; tests/contract holds it to EC2."""

from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest
from hypothesis import given
from hypothesis import strategies as st

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


@given(
    st.lists(
        st.one_of(
            st.tuples(st.just("draw"), st.integers(0, 20)),
            st.tuples(st.just("draw_prefixes"), st.integers(0, 3)),
            st.tuples(st.just("put_back"), st.integers(0, 100)),
        ),
        max_size=60,
    )
)
def test_a_subnet_gives_nothing_twice_and_counts_what_is_left(
    moves: list[tuple[str, int]],
) -> None:
    space = MemorySubnet(cidr=IPv4Network("10.0.0.64/26"))
    kept = {space.cidr[n] for n in (0, 1, 2, 3, 63)}
    out: list[IPv4Address | IPv4Network] = []
    for move, number in moves:
        taken = kept.union(*(addresses(one) for one in out))
        if move == "put_back":
            some, out = out[:number], out[number:]
            space.put_back(some)
        elif move == "draw":
            drawn = space.draw(number)
            assert (drawn is None) == (number > 64 - len(taken))
            assert taken.isdisjoint(drawn or ())
            out += drawn or ()
        else:
            whole = [b for b in space.cidr.subnets(new_prefix=28) if clear(b, taken)]
            prefixes = space.draw_prefixes(number)
            assert (prefixes is None) == (number > len(whole))
            assert set(prefixes or ()) <= set(whole)
            out += prefixes or ()
        held = [address for one in out for address in addresses(one)]
        assert len(held) == len(set(held))
        assert space.free == 64 - len(kept) - len(held)


def addresses(block: IPv4Address | IPv4Network) -> set[IPv4Address]:
    return {block} if isinstance(block, IPv4Address) else set(block)


def clear(block: IPv4Network, taken: set[IPv4Address]) -> bool:
    return taken.isdisjoint(block)
