from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eniplug.lab.rules import Ec2Error
from eniplug.lab.space import Order, parse, space4, space6

SMALL = IPv4Network("10.0.0.0/28")
MIDDLE = IPv4Network("10.0.0.0/24")
SIX = IPv6Network("2001:db8::/64")


def a(text: str) -> IPv4Address:
    return IPv4Address(text)


def test_ec2_keeps_five_addresses_of_a_subnet() -> None:
    space = space4(SMALL)

    drawn = space.draw(11)

    assert space.free == 0
    assert drawn == tuple(SMALL[n] for n in range(4, 15))


def test_a_full_subnet_gives_nothing() -> None:
    space = space4(SMALL)

    with pytest.raises(Ec2Error, match="InsufficientFreeAddressesInSubnet"):
        space.draw(12)

    assert space.free == 11


def test_what_enis_hold_is_not_drawn() -> None:
    space = space4(MIDDLE)
    space.hold([a("10.0.0.4")], [IPv4Network("10.0.0.16/28")])

    assert space.draw(12)[-1] == a("10.0.0.32")
    assert space.free == 256 - 5 - 1 - 16 - 12


def test_prefixes_are_drawn_from_blocks_that_are_free_as_a_whole() -> None:
    space = space4(MIDDLE)
    space.hold([a("10.0.0.20")], [])

    drawn = space.draw_prefixes(13)

    # Of 16 blocks, EC2's own addresses lie in the first and the last.
    assert drawn[0] == IPv4Network("10.0.0.32/28")
    with pytest.raises(Ec2Error, match="InsufficientCidrBlocks"):
        space.draw_prefixes(1)


def test_fragments_leave_single_addresses_but_no_prefix() -> None:
    space = space4(MIDDLE)
    space.hold([MIDDLE[n] for n in range(17, 240, 16)], [])

    assert space.free > 200
    with pytest.raises(Ec2Error, match="InsufficientCidrBlocks"):
        space.draw_prefixes(1)


@given(seed=st.integers(0, 50), singles=st.integers(0, 40), blocks=st.integers(0, 6))
def test_random_draws_never_overlap(seed: int, singles: int, blocks: int) -> None:
    space = space4(MIDDLE, Random(seed))

    prefixes = space.draw_prefixes(blocks)
    addresses = space.draw(singles)

    assert len(set(addresses)) == singles
    assert len(set(prefixes)) == blocks
    assert not any(address in prefix for address in addresses for prefix in prefixes)
    assert not {MIDDLE[n] for n in (0, 1, 2, 3, 255)} & set(addresses)
    assert space.free == 251 - singles - 16 * blocks


def test_one_seed_draws_the_same_again() -> None:
    first, second = (space4(MIDDLE, Random(7)) for _ in range(2))

    assert first.draw(5) == second.draw(5)


def test_ipv6_prefixes_are_eighties_and_keep_addresses_out() -> None:
    space = space6(SIX, Random(1))

    (prefix,) = space.draw_prefixes(1)

    assert prefix.prefixlen == 80
    with pytest.raises(Ec2Error, match=r"InvalidIPAddress\.InUse"):
        space.claim([str(prefix[9])])


def test_ipv6_addresses_are_of_the_subnet() -> None:
    (address,) = space6(SIX, Random(1)).draw(1)

    assert isinstance(address, IPv6Address)
    assert address in SIX


@pytest.mark.parametrize(
    ("address", "code"),
    [
        ("10.0.0.5", "InvalidIPAddress.InUse"),
        ("10.0.0.1", "InvalidIPAddress.InUse"),
        ("10.0.0.255", "InvalidIPAddress.InUse"),
        ("10.0.0.40", "InvalidIPAddress.InUse"),
        ("10.0.1.4", "InvalidParameterValue"),
        ("nonsense", "InvalidParameterValue"),
    ],
)
def test_an_address_that_cannot_be_had_is_refused(address: str, code: str) -> None:
    space = space4(MIDDLE)
    space.hold([a("10.0.0.5")], [IPv4Network("10.0.0.32/28")])

    with pytest.raises(Ec2Error) as refused:
        space.claim([address])

    assert refused.value.code == code


def test_an_address_is_claimed_once() -> None:
    with pytest.raises(Ec2Error, match=r"InvalidIPAddress\.InUse"):
        space4(MIDDLE).claim(["10.0.0.9", "10.0.0.9"])


@pytest.mark.parametrize(
    ("prefix", "code"),
    [
        ("10.0.0.16/28", "InvalidIPAddress.InUse"),
        ("10.0.0.0/28", "InvalidIPAddress.InUse"),
        ("10.0.0.48/29", "InvalidParameterValue"),
        ("10.0.1.0/28", "InvalidParameterValue"),
        ("10.0.0.33/28", "InvalidParameterValue"),
    ],
)
def test_a_prefix_that_cannot_be_had_is_refused(prefix: str, code: str) -> None:
    space = space4(MIDDLE)
    space.hold([a("10.0.0.17")], [])

    with pytest.raises(Ec2Error) as refused:
        space.claim_prefixes([prefix])

    assert refused.value.code == code


def test_an_order_is_of_one_kind() -> None:
    with pytest.raises(Ec2Error, match="InvalidParameterCombination"):
        Order(count=1, prefix_count=1).check()


def test_a_prefix_needs_one_place() -> None:
    assert Order(prefix_count=2).size == Order(prefixes=("a", "b")).size == 2


def test_an_order_takes_what_it_says() -> None:
    addresses, prefixes = Order(count=2).take(space4(MIDDLE))

    assert (addresses, prefixes) == ((a("10.0.0.4"), a("10.0.0.5")), ())


def test_text_with_a_slash_is_a_prefix() -> None:
    assert parse("10.0.0.16/28") == IPv4Network("10.0.0.16/28")
    assert parse("10.0.0.16") == a("10.0.0.16")
