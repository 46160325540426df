"""Few threads run at a time, and those that wait keep nobody from running."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from threading import Event, Lock

import pytest

from eniplug.core.crew import LATER, Crew, aside
from eniplug.core.locks import KeyLocks

SOON = 5.0
"""Seconds within which what can happen has happened."""

A_MOMENT = 0.05
"""Seconds in which what must not happen would."""


@pytest.fixture
def crew() -> Iterator[Crew]:
    one = Crew(2, 4, "test")
    yield one
    one.dismiss()


def test_as_many_run_as_may_and_the_others_come_in_order(crew: Crew) -> None:
    go, mutex, over = Event(), Lock(), Event()
    began: list[int] = []

    def work(number: int) -> None:
        with mutex:
            began.append(number)
        go.wait(SOON)
        if number == 9:
            over.set()

    for number in range(10):
        crew.give(lambda number=number: work(number))  # type: ignore[misc]
    over.wait(A_MOMENT)
    assert sorted(began) == [0, 1]
    go.set()
    assert over.wait(SOON)
    assert sorted(began[:2]) == [0, 1]
    assert sorted(began) == list(range(10))


def test_who_waits_lets_another_run_and_comes_back_at_once(crew: Crew) -> None:
    go, back, ran = Event(), [Event(), Event()], Event()
    hold = Event()

    def runs() -> None:
        hold.wait(SOON)

    def waits(number: int) -> None:
        with aside():
            go.wait(SOON)
        back[number].set()

    for number in range(2):
        crew.give(lambda number=number: waits(number))  # type: ignore[misc]
    crew.give(ran.set)
    assert ran.wait(SOON)
    for _ in range(2):  # two run again, and yet both come back
        crew.give(runs)
    go.set()
    assert all(one.wait(SOON) for one in back)
    hold.set()


def test_what_is_put_off_waits_for_all_work_but_not_for_ever() -> None:
    crew, hold, over = Crew(1, 2, "test"), Event(), Event()
    done: list[str] = []
    crew.give(lambda: done.append("first") if hold.wait(SOON) else None)
    for number in range(LATER + 1):
        crew.put_off(lambda number=number: done.append(f"put off {number}"))  # type: ignore[misc]
    crew.give(lambda: done.append("work"))
    crew.put_off(over.set)

    hold.set()

    assert over.wait(SOON)
    crew.dismiss()
    # With what ends it 66 were put off: the work comes when there are less than 64.
    assert done[:5] == ["first", "put off 0", "put off 1", "put off 2", "work"]
    assert done[5:] == [f"put off {number}" for number in range(3, LATER + 1)]


def test_no_more_threads_are_started_than_there_may_be(crew: Crew) -> None:
    go, more = Event(), Event()
    names: set[str] = set()
    mutex = Lock()

    def waits() -> None:
        with aside():
            with mutex:
                names.add(threading.current_thread().name)
            go.wait(SOON)

    for _ in range(4):
        crew.give(waits)
    crew.give(more.set)
    assert not more.wait(A_MOMENT)
    go.set()
    assert more.wait(SOON)
    assert names == {"test-0", "test-1", "test-2", "test-3"}


def test_who_was_free_last_works_next(crew: Crew) -> None:
    done: list[str] = []
    both = threading.Barrier(3)

    def meets() -> None:
        both.wait(SOON)

    for _ in range(2):
        crew.give(meets)
    both.wait(SOON)
    for _ in range(3):
        ended = Event()
        Event().wait(A_MOMENT)  # until those who were at work are free

        def work(ended: Event = ended) -> None:
            done.append(threading.current_thread().name)
            ended.set()

        crew.give(work)
        assert ended.wait(SOON)
    assert len(set(done)) == 1, done


def test_a_crew_rests_when_all_is_done_that_it_was_given(crew: Crew) -> None:
    go = Event()

    def waits() -> None:
        with aside():
            go.wait(SOON)

    assert crew.rests(0)
    for _ in range(2):
        go.clear()
        for work in (waits, lambda: None, waits):
            crew.give(work)
        assert not crew.rests(A_MOMENT)
        go.set()
        assert crew.rests(SOON)


def test_what_has_not_begun_is_forgotten(crew: Crew) -> None:
    began, go, never = threading.Barrier(3), Event(), Event()

    def work() -> None:
        began.wait(SOON)
        go.wait(SOON)

    for _ in range(2):
        crew.give(work)
    crew.give(never.set)
    began.wait(SOON)
    crew.dismiss()
    go.set()
    assert not never.wait(A_MOMENT)


def test_two_wait_for_one_attachment_and_a_third_pod_does_not(crew: Crew) -> None:
    locks, ran, waiting = KeyLocks(), Event(), threading.Semaphore(0)

    def wants() -> None:
        waiting.release()
        with locks.hold("a"):
            pass

    with locks.hold("a"):
        for _ in range(2):
            crew.give(wants)
        assert all(waiting.acquire(timeout=SOON) for _ in range(2))
        crew.give(ran.set)
        assert ran.wait(SOON)


def test_a_thread_of_no_crew_just_waits() -> None:
    with aside():
        pass
