from __future__ import annotations

import threading

import pytest

from eniplug.lab.timers import Timers
from kit.threads import running


def test_without_a_delay_it_is_done_at_once() -> None:
    done: list[str] = []

    Timers(threading.RLock()).later(0, lambda: done.append("now"))

    assert done == ["now"]


def test_with_a_delay_it_is_done_later_under_the_lock() -> None:
    lock, done = threading.RLock(), threading.Event()
    timers = Timers(lock)

    with lock:
        timers.later(0.01, done.set)
        early = done.wait(0.1)

    assert not early
    assert done.wait(5)
    timers.close()


def test_what_fails_later_ends_in_the_log(caplog: pytest.LogCaptureFixture) -> None:
    timers = Timers(threading.RLock())
    reached = threading.Event()

    def fail() -> None:
        reached.set()
        msg = "the fabric is torn"
        raise RuntimeError(msg)

    timers.later(0.01, fail)
    assert reached.wait(5)
    timers.close()

    assert "the fabric is torn" in caplog.text


def test_close_leaves_no_thread() -> None:
    timers = Timers(threading.RLock())
    timers.later(3600, lambda: None)

    timers.close()

    assert running() == [threading.main_thread().name]
