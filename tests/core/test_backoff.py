from __future__ import annotations

from itertools import pairwise

from eniplug.core.backoff import AT_ONCE, FIRST, LONGEST, PEACE, Backoff
from eniplug.testing.clock import HandClock

RULE = ("rule", "the rule")


def test_what_is_lost_now_and_then_is_put_back_at_once() -> None:
    clock = HandClock()
    backoff = Backoff(clock)

    for _ in range(10 * AT_ONCE):
        assert backoff.wait("rule") == 0.0
        backoff.note([RULE])
        clock.advance(PEACE)


def test_what_is_lost_again_and_again_has_ever_longer_pauses() -> None:
    clock = HandClock()
    backoff = Backoff(clock)
    pauses = []

    for _ in range(AT_ONCE + 10):
        pauses += backoff.note([RULE])
        clock.advance(backoff.wait("rule"))

    assert pauses[: AT_ONCE - 1] == [0.0] * (AT_ONCE - 1)
    longer = pauses[AT_ONCE - 1 :]
    assert longer[0] == FIRST
    assert all(b == min(2 * a, LONGEST) for a, b in pairwise(longer))
    assert longer[-1] == LONGEST


def test_one_fight_holds_up_nothing_else() -> None:
    clock = HandClock()
    backoff = Backoff(clock)

    for _ in range(AT_ONCE):
        backoff.note([RULE])

    assert backoff.wait("rule") == FIRST
    assert backoff.wait("route") == 0.0
    assert backoff.fought() == ("the rule",)
    clock.advance(FIRST)
    assert backoff.fought() == ()
