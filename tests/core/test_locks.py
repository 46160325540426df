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


def test_whoever_awaits_a_lock_does_again_what_may_free_it() -> None:
    locks = KeyLocks()
    called: list[None] = []
    again = Event()

    def meanwhile() -> None:
        called.append(None)
        if len(called) > 1:
            again.set()

    def second() -> None:
        with locks.hold("a", meanwhile):
            pass

    with locks.hold("a"):
        thread = Thread(target=second)
        thread.start()
        assert again.wait(5)
    thread.join(5)

    assert len(locks) == 0


def test_an_attempt_waits_for_nobody_and_keeps_others_waiting() -> None:
    locks = KeyLocks()
    order: list[str] = []

    def second() -> None:
        with locks.hold("a"):
            order.append("second")

    with locks.hold("a"), locks.attempt("a") as got:
        assert not got
    with locks.attempt("a") as got:
        assert got
        thread = Thread(target=second)
        thread.start()
        order.append("first")
    thread.join(5)

    assert order == ["first", "second"]
    assert len(locks) == 0
