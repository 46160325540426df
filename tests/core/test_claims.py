"""What one pod has claimed no other gets, until it is gone."""

from __future__ import annotations

import pytest
from attrs import evolve

from eniplug.core.claims import Claims
from eniplug.core.parts import Part
from eniplug.hooks import Claim, Lease
from eniplug.hooks.errors import TakenError
from eniplug.testing.builders import ADDRESSES, PRIMARY, a_pod
from kit.parts import a_part

PORT = Claim(what="host port 8080/tcp")
HERE = Claim(what="host port 8080/tcp", where="10.0.0.4")
THERE = Claim(what="host port 8080/tcp", where="127.0.0.1")
UDP = Claim(what="host port 8080/udp")


def part(number: int, *claims: Claim) -> Part:
    lease = Lease(address=ADDRESSES[number], eni=PRIMARY)
    whole = a_part(a_pod(number), lease)
    return evolve(whole, objects=(*claims, *whole.objects))


@pytest.mark.parametrize(
    ("had", "wanted"), [(PORT, PORT), (PORT, HERE), (HERE, PORT), (HERE, HERE)]
)
def test_a_whole_meets_each_of_its_parts(had: Claim, wanted: Claim) -> None:
    claims = Claims()
    claims.add(part(0, had))

    with pytest.raises(TakenError) as caught:
        claims.check(part(1, wanted))

    owner = "pod default/web-0 (container c0)"
    more = "" if had == wanted else f", which has {had}"
    assert caught.value.message == f"{wanted} is taken by {owner}{more}"
    assert caught.value.code == 7


@pytest.mark.parametrize(("had", "wanted"), [(PORT, UDP), (HERE, THERE), (HERE, UDP)])
def test_others_do_not_meet(had: Claim, wanted: Claim) -> None:
    claims = Claims()
    claims.add(part(0, had))

    claims.check(part(1, wanted))


def test_what_is_freed_can_be_claimed_again() -> None:
    claims = Claims()
    claims.add(part(0, HERE, THERE))
    claims.remove(part(0, HERE, THERE))

    claims.check(part(1, PORT))


def test_a_pod_may_claim_the_whole_and_a_part() -> None:
    claims = Claims()

    claims.check(part(0, PORT, HERE))
    claims.add(part(0, PORT, HERE))

    with pytest.raises(TakenError):
        claims.check(part(1, THERE))


def test_a_pod_without_a_name_is_told_by_its_container() -> None:
    claims = Claims()
    nameless = part(0, PORT)
    claims.add(evolve(nameless, pod=evolve(nameless.pod, name="", namespace="")))

    with pytest.raises(TakenError, match=r"8080/tcp is taken by container c0$"):
        claims.check(part(1, PORT))
