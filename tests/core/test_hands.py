from __future__ import annotations

import gc
from collections.abc import Callable, Iterator
from threading import Event, Thread, current_thread
from threading import enumerate as enumerate_threads

import pytest

from eniplug.core.hands import HANDS, Doing, Hands, LeftBehindError, Overdue, Run

SOON = 0.2
LATE = 20.0


@pytest.fixture
def release() -> Iterator[Event]:
    """What hangs waits for; set at the end, so that no thread stays."""
    event = Event()
    yield event
    event.set()


def hanging(
    release: Event, then: Callable[[], object] = object
) -> Callable[[Run], object]:
    def work(run: Run) -> object:
        run.enter(Doing("slow", "egress"))
        release.wait(LATE)
        run.go_on()
        return then()

    return work


def test_work_is_done_in_another_thread_and_its_value_comes_back() -> None:
    hands = Hands(LATE, lambda _: None)

    found = hands.lend(lambda _: current_thread().name)

    assert found != current_thread().name


def test_what_work_raises_is_raised_to_who_waits() -> None:
    hands = Hands(LATE, lambda _: None)

    def fails(_: Run) -> None:
        msg = "out of the plugin"
        raise SystemExit(msg)

    with pytest.raises(SystemExit, match="out of the plugin"):
        hands.lend(fails)


def test_a_thread_serves_again() -> None:
    hands = Hands(LATE, lambda _: None)

    names = {hands.lend(lambda _: current_thread().name) for _ in range(50)}

    assert len(names) < 5


def test_what_hangs_is_left_behind_and_named(release: Event) -> None:
    counted: list[int] = []
    hands = Hands(SOON, counted.append)

    with pytest.raises(Overdue) as caught:
        hands.lend(hanging(release))
    with pytest.raises(Overdue):
        hands.lend(hanging(release))

    assert (caught.value.doing.plugin, caught.value.doing.hook) == ("slow", "egress")
    assert counted == [1, 2]
    assert hands.lend(lambda _: "served") == "served"


def test_a_thread_that_comes_back_does_nothing_more(release: Event) -> None:
    hands = Hands(SOON, lambda _: None)
    went_on: list[bool] = []
    with pytest.raises(Overdue):
        hands.lend(hanging(release, lambda: went_on.append(True)))

    release.set()

    wait_for(lambda: hands.behind == 0)
    assert went_on == []


def test_each_hook_has_the_whole_time() -> None:
    hands = Hands(1.0, lambda _: None)

    def work(run: Run) -> str:
        for number in range(8):
            run.enter(Doing("patient", f"hook {number}"))
            Event().wait(0.2)
        return "whole"

    assert hands.lend(work) == "whole"


def test_one_more_than_there_are_threads_waits_for_one(release: Event) -> None:
    hands = Hands(LATE, lambda _: None)
    busy = Event()
    count: list[int] = []

    def work(_: Run) -> None:
        count.append(1)
        if len(count) == HANDS:
            busy.set()
        release.wait(LATE)

    threads = [Thread(target=hands.lend, args=(work,)) for _ in range(HANDS + 1)]
    for one in threads:
        one.start()
    assert busy.wait(LATE)
    assert len(count) == HANDS

    release.set()

    for one in threads:
        one.join(LATE)
    assert len(count) == HANDS + 1


def test_the_threads_of_a_bench_that_nobody_has_end() -> None:
    before = set(enumerate_threads())
    hands = Hands(LATE, lambda _: None)
    hands.lend(lambda _: None)
    wait_for(lambda: len(set(enumerate_threads()) - before) == 1)

    del hands
    gc.collect()

    wait_for(lambda: set(enumerate_threads()) <= before)


def test_the_end_of_a_thread_left_behind_is_no_error_that_a_plugin_catches() -> None:
    assert not issubclass(LeftBehindError, Exception)


def wait_for(there: Callable[[], bool]) -> None:
    for _ in range(1000):
        if there():
            return
        Event().wait(0.01)
    pytest.fail("it did not come")
