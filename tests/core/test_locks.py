from __future__ import annotations

from threading import Event, Thread

from eniplug.core.locks import KeyLocks


def test_one_key_is_serial_and_another_does_not_wait() -> None:
    locks = KeyLocks()
    order: list[str] = []
    waiting = Event()

    def second() -> None:
        waiting.set()
        with locks.hold("a"):
            order.append("second")

    with locks.hold("a"):
        thread = Thread(target=second)
        thread.start()
        waiting.wait(5)
        with locks.hold("b"):
            order.append("other key")
        order.append("first")
    thread.join(5)

    assert order == ["other key", "first", "second"]


def test_a_lock_is_forgotten_when_nobody_holds_it() -> None:
    locks = KeyLocks()

    with locks.hold("a"):
        assert len(locks) == 1

    assert len(locks) == 0
