from __future__ import annotations

import pytest

from eniplug.lab.rules import FULL, Ec2Error, Limits, Tokens, full

M5_LARGE = Limits(
    instance_type="m5.large", enis=3, cards=(3,), addresses=10, addresses6=10
)
TWO_CARDS = Limits(
    instance_type="two.cards", enis=6, cards=(2, 4), addresses=50, addresses6=50
)


@pytest.mark.parametrize("code", FULL)
def test_a_full_subnet_has_three_codes(code: str) -> None:
    assert (full(code).code, full(code).status) == (code, 400)


def test_limits_are_read_from_network_info() -> None:
    info = {
        "MaximumNetworkInterfaces": 6,
        "Ipv4AddressesPerInterface": 50,
        "Ipv6AddressesPerInterface": 50,
        "NetworkCards": [
            {"NetworkCardIndex": 1, "MaximumNetworkInterfaces": 4},
            {"NetworkCardIndex": 0, "MaximumNetworkInterfaces": 2},
        ],
    }

    assert Limits.of("two.cards", info) == TWO_CARDS


def test_a_free_place_is_taken() -> None:
    M5_LARGE.check_place("i-1", [(0, 0), (0, 1)], 0, 2)


def test_an_interface_too_many_is_refused_with_its_count() -> None:
    with pytest.raises(Ec2Error) as refused:
        M5_LARGE.check_place("i-1", [(0, 0), (0, 1), (0, 2)], 0, 3)

    assert refused.value.code == "AttachmentLimitExceeded"
    assert refused.value.message == "Interface count 4 exceeds the limit for m5.large"


def test_a_taken_device_index_is_refused() -> None:
    with pytest.raises(Ec2Error, match="device index '1'") as refused:
        M5_LARGE.check_place("i-1", [(0, 0), (0, 1)], 0, 1)

    assert refused.value.code == "InvalidParameterValue"


def test_a_device_index_is_of_its_card() -> None:
    TWO_CARDS.check_place("i-1", [(0, 0), (0, 1)], 1, 1)


def test_a_full_card_is_refused_though_another_has_room() -> None:
    with pytest.raises(Ec2Error, match="AttachmentLimitExceeded"):
        TWO_CARDS.check_place("i-1", [(0, 0), (0, 1)], 0, 2)


@pytest.mark.parametrize("card", [-1, 1])
def test_a_card_that_the_type_has_not_is_refused(card: int) -> None:
    with pytest.raises(Ec2Error, match="card"):
        M5_LARGE.check_place("i-1", [(0, 0)], card, 1)


@pytest.mark.parametrize(("count", "count6"), [(11, 0), (1, 11)])
def test_too_many_addresses_at_attach_have_a_code_of_their_own(
    count: int, count6: int
) -> None:
    M5_LARGE.check_born("eni-1", 10, 10)

    with pytest.raises(Ec2Error, match="count 11 on interface-1") as refused:
        M5_LARGE.check_born("eni-1", count, count6)

    assert refused.value.code == "InvalidInterface.IpAddressLimitExceeded"


@pytest.mark.parametrize(
    ("count", "count6", "code"),
    [
        (11, 0, "PrivateIpAddressLimitExceeded"),
        (1, 11, "Ipv6AddressLimitExceeded"),
    ],
)
def test_too_many_addresses_at_assign_are_refused(
    count: int, count6: int, code: str
) -> None:
    M5_LARGE.check_more(10, 10)

    with pytest.raises(Ec2Error) as refused:
        M5_LARGE.check_more(count, count6)

    assert refused.value.code == code


def test_a_token_finds_what_it_made() -> None:
    tokens = Tokens()
    tokens.keep("t", "a=1", "eni-1")

    assert tokens.find("t", "a=1") == "eni-1"


def test_a_token_with_other_parameters_is_refused() -> None:
    tokens = Tokens()
    tokens.keep("t", "a=1", "eni-1")

    with pytest.raises(Ec2Error, match="IdempotentParameterMismatch"):
        tokens.find("t", "a=2")


@pytest.mark.parametrize("token", [None, "", "u"])
def test_an_unknown_or_missing_token_finds_nothing(token: str | None) -> None:
    tokens = Tokens()
    tokens.keep(None, "a=1", "eni-1")

    assert tokens.find(token, "a=1") is None
