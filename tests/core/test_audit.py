from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network

import pytest

from eniplug.core.audit import APART, FORGET_AFTER, NOT_SHOWN, Audit
from eniplug.core.pool import AddressPool
from eniplug.hooks.capacity import Block
from eniplug.hooks.errors import QuarantineError
from eniplug.hooks.values import Eni
from eniplug.testing.clock import HandClock

ENI = Eni(id="eni-1", link="ens5", mac="02:00:00:00:00:01", device=0)
ONE, TWO, NEW = (IPv4Address(f"10.0.0.{n}") for n in (10, 11, 12))
PREFIX = IPv4Network("10.0.0.32/28")
ALL: frozenset[Block] = frozenset({ONE, TWO, PREFIX})


@pytest.fixture
def pool() -> AddressPool:
    pool = AddressPool(30, HandClock())
    pool.add_eni(ENI, slots=9)
    pool.add(ENI.id, ALL)
    return pool


@pytest.fixture
def audit(pool: AddressPool) -> Audit:
    return Audit(pool)


def test_what_agrees_is_left_alone(pool: AddressPool, audit: Audit) -> None:
    assert audit.compare(ENI.id, ALL, 0) == set()

    assert pool.quarantined() == ()
    assert audit.again_in is None


def test_what_ec2_has_more_is_to_be_let_in(audit: Audit) -> None:
    assert audit.compare(ENI.id, {*ALL, NEW}, 0) == {NEW}


def test_one_answer_is_not_believed(pool: AddressPool, audit: Audit) -> None:
    audit.compare(ENI.id, {TWO, PREFIX}, 0)
    assert audit.again_in == APART
    audit.compare(ENI.id, {TWO, PREFIX}, APART - 1)
    assert pool.quarantined() == ()

    audit.compare(ENI.id, ALL, APART)

    assert audit.again_in is None


def test_two_answers_apart_put_a_block_into_quarantine(
    pool: AddressPool, audit: Audit
) -> None:
    audit.compare(ENI.id, {ONE, TWO}, 0)

    audit.compare(ENI.id, {ONE, TWO}, APART)

    (found,) = pool.quarantined()
    assert (found.block, found.reason) == (PREFIX, NOT_SHOWN)
    assert audit.again_in == FORGET_AFTER


def test_a_doubt_that_was_cleared_begins_anew(pool: AddressPool, audit: Audit) -> None:
    audit.compare(ENI.id, {TWO, PREFIX}, 0)
    audit.compare(ENI.id, ALL, 5)

    audit.compare(ENI.id, {TWO, PREFIX}, APART)

    assert pool.quarantined() == ()


def test_a_pod_keeps_an_address_that_ec2_no_longer_shows(
    pool: AddressPool, audit: Audit
) -> None:
    lease = pool.take(address=ONE)
    for now in (0, APART, APART + FORGET_AFTER, 1000):
        audit.compare(ENI.id, (), now)

    assert pool.lease_of(ONE) == lease
    assert pool.blocks(ENI.id) == {ONE}
    pool.release(ONE, cooldown=0)
    with pytest.raises(QuarantineError):
        pool.take()


def test_what_ec2_shows_again_is_to_be_let_in_again(
    pool: AddressPool, audit: Audit
) -> None:
    for now in (0, APART):
        audit.compare(ENI.id, {ONE, TWO}, now)

    assert audit.compare(ENI.id, ALL, APART + 5) == {PREFIX}

    pool.add(ENI.id, {PREFIX})
    assert audit.again_in is None


def test_what_nobody_uses_is_forgotten_in_the_end(
    pool: AddressPool, audit: Audit
) -> None:
    for now in (0, APART, FORGET_AFTER - 1):
        audit.compare(ENI.id, {ONE, TWO}, now)
    assert PREFIX in pool.blocks(ENI.id)

    audit.compare(ENI.id, {ONE, TWO}, FORGET_AFTER)

    assert pool.blocks(ENI.id) == {ONE, TWO}
    assert audit.again_in is None


def test_what_goes_while_it_is_in_doubt_is_asked_for_no_more(
    pool: AddressPool, audit: Audit
) -> None:
    audit.compare(ENI.id, {ONE, TWO}, 0)
    pool.withdraw(ENI.id, [PREFIX])

    audit.compare(ENI.id, {ONE, TWO}, APART)

    assert audit.again_in is None
