"""Threads that carry out requests: few at a time, and more while those wait.

One interpreter runs one thread at a time.  When fifty are ready they take turns at
every system call, and all are slower than if they had come one after the other.  So few
run, and a thread that waits for anything but the processor (an address, a plugin, a
lock) says so, and another one runs meanwhile.

Who was free last works next: what it touched last is still in the processor's caches.
What nobody waits for is done when no work waits either.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Generator
from contextlib import contextmanager
from threading import Lock, Thread, local
from typing import Final

from attrs import define, field

Work = Callable[[], None]
"""Something to be done; raises nothing."""

LATER: Final = 64
"""So much may be put off for other work, and no more."""


@define(eq=False)
class _Hand:
    """One thread: it sleeps on ``turn``, and ends when it wakes without work."""

    work: Work | None
    turn: Lock = field(factory=Lock)


class Crew:
    """Does work in the order in which it comes.

    ``running`` threads run at a time; ``most`` is how many there may be with those that
    wait.
    """

    def __init__(self, running: int, most: int, name: str) -> None:
        self._may_run = running
        self._most = most
        self._name = name
        self._mutex = Lock()
        self._work: deque[Work] = deque()
        self._later: deque[Work] = deque()
        self._idle: list[_Hand] = []
        self._started = 0
        self._running = 0
        self._over = False
        self._busy = Lock()  # held while there is a thread that is not idle

    def give(self, work: Work) -> None:
        """Have it done by a thread of the crew."""
        with self._mutex:
            self._work.append(work)
            self._call_up()

    def put_off(self, work: Work) -> None:
        """Have it done when nothing else waits, in the order in which it comes."""
        with self._mutex:
            self._later.append(work)
            self._call_up()

    def rests(self, within: float) -> bool:
        """Wait until all that was given is done, and tell whether it is.

        Waits for so many seconds at most; nothing is given meanwhile.
        """
        done = self._busy.acquire(timeout=within)
        if done:
            self._busy.release()
        return done

    def dismiss(self) -> None:
        """Forget what has not begun; each thread ends with what it is at."""
        with self._mutex:
            self._over = True
            self._work.clear()
            self._later.clear()
            for hand in self._idle:
                hand.turn.release()

    def _call_up(self) -> None:
        """Begin what may begin; the mutex is held."""
        while self._running < self._may_run and (self._work or self._later):
            if not self._idle and self._started == self._most:
                return
            if len(self._idle) == self._started:
                self._busy.acquire()
            if self._idle:
                hand = self._idle.pop()
                hand.work = self._next()
                hand.turn.release()
            else:
                self._start(_Hand(self._next()))
            self._running += 1

    def _next(self) -> Work | None:
        """Take what is done next, if there is anything; the mutex is held."""
        if self._work and len(self._later) < LATER:
            return self._work.popleft()
        return self._later.popleft() if self._later else None

    def _start(self, hand: _Hand) -> None:
        hand.turn.acquire()
        name = f"{self._name}-{self._started}"
        self._started += 1
        Thread(target=self._run, args=(hand,), name=name, daemon=True).start()

    def _run(self, hand: _Hand) -> None:
        _this_thread.crew = self
        while hand.work is not None:
            hand.work()
            hand.work = None  # an idle thread holds nothing of a pod
            with self._mutex:
                if self._running <= self._may_run:
                    hand.work = self._next()
                if hand.work is not None:
                    continue
                self._running -= 1
                if self._over:
                    return
                self._idle.append(hand)
                if len(self._idle) == self._started:
                    self._busy.release()
            hand.turn.acquire()

    @contextmanager
    def step_aside(self) -> Generator[None]:
        """Let another run.  To come back takes no wait, so nobody waits for nobody."""
        with self._mutex:
            self._running -= 1
            self._call_up()
        try:
            yield
        finally:
            with self._mutex:
                self._running += 1


class _ThisThread(local):
    crew: Crew | None = None


_this_thread = _ThisThread()


@contextmanager
def aside() -> Generator[None]:
    """Wait inside this, for whatever is not the processor; any thread may."""
    if _this_thread.crew is None:
        yield
        return
    with _this_thread.crew.step_aside():
        yield
