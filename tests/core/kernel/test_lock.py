from __future__ import annotations

import signal
import threading
import time

import pytest

from eniplug.core.kernel import FairLock


def wait_until(true: object) -> None:
    end = time.monotonic() + 5
    while not true():  # type: ignore[operator]
        assert time.monotonic() < end
        time.sleep(0.001)


def test_it_is_given_in_the_order_of_asking() -> None:
    lock = FairLock()
    order: list[int] = []

    def take(number: int) -> None:
        with lock:
            order.append(number)

    threads = [threading.Thread(target=take, args=(n,)) for n in range(20)]
    with lock:
        for waiting, thread in enumerate(threads):
            thread.start()
            wait_until(lambda waiting=waiting: lock.waiting == waiting + 1)
    for thread in threads:
        thread.join(5)

    assert order == list(range(20))


def test_the_holder_cannot_overtake_those_who_wait() -> None:
    lock = FairLock()
    order: list[str] = []

    def take() -> None:
        with lock:
            order.append("other")

    other = threading.Thread(target=take)
    with lock:
        other.start()
        wait_until(lambda: lock.waiting == 1)
    with lock:
        order.append("holder")
    other.join(5)

    assert order == ["other", "holder"]


def test_one_at_a_time() -> None:
    lock = FairLock()
    inside = 0
    most = 0

    def work() -> None:
        nonlocal inside, most
        for _ in range(200):
            with lock:
                inside += 1
                most = max(most, inside)
                inside -= 1

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(10)

    assert most == 1


class AlarmError(Exception):
    pass


def interrupt(*_: object) -> None:
    raise AlarmError


def test_one_who_is_interrupted_leaves_the_queue() -> None:
    lock = FairLock()
    before = signal.signal(signal.SIGALRM, interrupt)

    try:
        with lock:
            signal.setitimer(signal.ITIMER_REAL, 0.05)
            with pytest.raises(AlarmError):
                lock.__enter__()
    finally:
        signal.signal(signal.SIGALRM, before)

    assert lock.waiting == 0
    with lock:
        assert lock.waiting == 0


def test_it_is_free_after_an_error() -> None:
    lock = FairLock()

    with pytest.raises(ZeroDivisionError), lock:
        _ = 1 / 0

    with lock:
        assert lock.waiting == 0
