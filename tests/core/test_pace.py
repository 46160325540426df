from __future__ import annotations

import pytest

from eniplug.core.pace import BURST, RATE, Pace
from eniplug.testing.clock import HandClock


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def pace(clock: HandClock) -> Pace:
    return Pace(clock, jitter=lambda: 0.0)


def test_a_burst_is_free_and_then_calls_are_spread(
    pace: Pace, clock: HandClock
) -> None:
    for _ in range(int(BURST)):
        assert pace.wait() == 0
        pace.spend()

    assert pace.wait() == pytest.approx(1 / RATE)
    clock.advance(pace.wait())
    assert pace.wait() == 0


def test_an_action_of_many_calls_runs_up_a_debt(pace: Pace, clock: HandClock) -> None:
    for _ in range(int(BURST) + 3):
        pace.spend()

    assert pace.wait() == pytest.approx(4 / RATE)


def test_tokens_do_not_pile_up(pace: Pace, clock: HandClock) -> None:
    clock.advance(3600)
    for _ in range(int(BURST)):
        pace.spend()

    assert pace.wait() > 0


def test_pauses_after_errors_double_up_to_a_minute(
    pace: Pace, clock: HandClock
) -> None:
    pauses: list[float] = []
    for _ in range(8):
        pace.failed()
        pauses.append(pace.wait())
        clock.advance(pace.wait())

    assert pauses == [1, 2, 4, 8, 16, 32, 60, 60]


def test_pauses_are_shortened_at_random_by_up_to_half(clock: HandClock) -> None:
    pace = Pace(clock, jitter=lambda: 0.999)
    pace.failed()

    assert 0.5 <= pace.wait() < 0.51


def test_success_ends_the_pause_and_forgets_the_errors(pace: Pace) -> None:
    pace.failed()
    pace.failed()

    pace.succeeded()

    assert pace.wait() == 0
    pace.failed()
    assert pace.wait() == 1


def test_old_errors_are_forgotten(pace: Pace, clock: HandClock) -> None:
    for _ in range(5):
        pace.failed()
    clock.advance(121)

    pace.failed()

    assert pace.wait() == 1


def test_a_pod_that_begins_to_wait_ends_a_pause_once_in_a_second(
    pace: Pace, clock: HandClock
) -> None:
    for _ in range(5):
        pace.failed()

    pace.hurry()

    assert pace.wait() == 1
    clock.advance(1)
    assert pace.wait() == 0
    pace.failed()
    pace.hurry()
    assert pace.wait() == 1


def test_nobody_hurries_an_ec2_that_throttles(pace: Pace) -> None:
    pace.failed()
    pace.failed(throttled=True)

    pace.hurry()

    assert pace.wait() == 2


def test_throttling_halves_the_rate_which_recovers_slowly(
    pace: Pace, clock: HandClock
) -> None:
    pace.failed(throttled=True)
    assert pace.rate == RATE / 2
    pace.failed(throttled=True)
    assert pace.rate == RATE / 4

    clock.advance(30)
    assert pace.rate == pytest.approx(RATE / 2)
    clock.advance(3600)
    assert pace.rate == RATE


def test_the_rate_never_comes_to_nothing(pace: Pace) -> None:
    for _ in range(50):
        pace.failed(throttled=True)

    assert pace.rate == RATE / 64
