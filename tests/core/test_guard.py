from __future__ import annotations

import re
from collections.abc import Iterator
from threading import Event

import pytest

from eniplug.core.guard import IN_A_ROW, LEFT_BEHIND, PAUSE, Guard
from eniplug.core.hands import Doing, Run
from eniplug.hooks.errors import PluginShutError, PluginSlowError
from eniplug.testing.clock import HandClock

SOON = 0.2


class Bench:
    """A guard whose clock a test moves, and a plugin that hangs when told."""

    def __init__(self) -> None:
        self.clock = HandClock()
        self.release = Event()
        self.gave_up: list[bool] = []
        self.guard = Guard(
            lambda: self.gave_up.append(True), limit=SOON, clock=self.clock
        )

    def call(self, *, hang: bool = False, plugin: str = "acme") -> str:
        def work(run: Run) -> str:
            conduct = self.guard.conduct(plugin)
            conduct.admit()
            run.enter(Doing(plugin, "egress"))
            if hang:
                self.release.wait(20)
            run.go_on()
            conduct.ended("egress", 0.001)
            return "done"

        return self.guard.run(work)

    def hang(self, times: int = 1, plugin: str = "acme") -> None:
        for _ in range(times):
            with pytest.raises(PluginSlowError):
                self.call(hang=True, plugin=plugin)


@pytest.fixture
def bench() -> Iterator[Bench]:
    made = Bench()
    yield made
    made.release.set()


def test_a_hook_that_hangs_is_an_error_that_names_plugin_and_hook(bench: Bench) -> None:
    words = re.escape("plugin 'acme': egress did not end within 0.2 s")

    with pytest.raises(PluginSlowError, match=words) as caught:
        bench.call(hang=True)

    assert caught.value.plugin == "acme"
    assert caught.value.reason == "plugin-slow"


def test_a_plugin_that_hung_three_times_in_a_row_is_not_called(bench: Bench) -> None:
    bench.hang(IN_A_ROW)

    with pytest.raises(
        PluginShutError, match=r"'acme' hung 3 times.*for 60 s"
    ) as caught:
        bench.call()

    assert "eniplug status" in caught.value.details
    assert bench.guard.conduct("acme").calls == IN_A_ROW
    assert bench.call(plugin="other") == "done"


def test_a_hook_that_ends_between_two_that_hang_breaks_the_row(bench: Bench) -> None:
    bench.hang(IN_A_ROW - 1)
    bench.call()
    bench.hang(1)

    assert bench.call() == "done"


def test_after_a_minute_one_call_may_try(bench: Bench) -> None:
    bench.hang(IN_A_ROW)
    bench.clock.advance(PAUSE)

    bench.guard.conduct("acme").admit()

    with pytest.raises(PluginShutError):
        bench.call()


def test_a_trial_that_ends_opens_and_one_that_hangs_shuts_again(bench: Bench) -> None:
    bench.hang(IN_A_ROW)
    bench.clock.advance(PAUSE)
    bench.hang()
    with pytest.raises(PluginShutError, match="hung 4 times"):
        bench.call()

    bench.clock.advance(PAUSE)

    assert bench.call() == "done"
    assert bench.call() == "done"


def test_errors_alone_shut_nothing(bench: Bench) -> None:
    conduct = bench.guard.conduct("acme")
    for _ in range(10):
        conduct.admit()
        conduct.ended("egress", 0.0)
        conduct.failed("plugin 'acme': egress raised")

    assert bench.call() == "done"
    assert (conduct.errors, conduct.timeouts) == (10, 0)


def test_the_agent_gives_up_when_too_many_threads_hang(bench: Bench) -> None:
    for number in range(LEFT_BEHIND - 1):
        bench.hang(plugin=f"acme-{number}")
    assert bench.gave_up == []

    bench.hang(plugin="the last")

    assert bench.gave_up == [True]


def test_what_is_told_counts_calls_errors_hangs_and_times(bench: Bench) -> None:
    bench.call()
    bench.hang()
    bench.guard.conduct("acme").failed("said no")

    [told] = bench.guard.told()

    assert told == {
        "plugin": "acme",
        "calls": 2,
        "errors": 1,
        "timeouts": 1,
        "mean_ms": 100.5,
        "worst_ms": 200.0,
        "shut_for": 0.0,
        "last_error": "said no",
    }
