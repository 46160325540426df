"""Threads that carry out requests, started when they are first needed.

Who was free last works next: what it touched last is still in the processor's caches.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from threading import Lock, Thread

from attrs import define, field

Work = Callable[[], None]
"""Something to be done; raises nothing."""


@define(eq=False)
class _Hand:
    """One thread: it sleeps on ``turn``, and ends when it wakes without work."""

    work: Work | None
    turn: Lock = field(factory=Lock)


class Crew:
    """At most so many threads; work that finds none free waits for one, in order."""

    def __init__(self, most: int, name: str) -> None:
        self._most = most
        self._name = name
        self._mutex = Lock()
        self._idle: list[_Hand] = []
        self._waiting: deque[Work] = deque()
        self._started = 0
        self._over = False

    def give(self, work: Work) -> None:
        """Have it done by a thread of the crew."""
        with self._mutex:
            if self._idle:
                hand = self._idle.pop()
                hand.work = work
                hand.turn.release()
            elif self._started < self._most:
                self._start(work)
            else:
                self._waiting.append(work)

    def dismiss(self) -> None:
        """Forget what waits; threads end with what they are at, and nobody waits."""
        with self._mutex:
            self._over = True
            self._waiting.clear()
            for hand in self._idle:
                hand.work = None
                hand.turn.release()

    def _start(self, work: Work) -> None:
        hand = _Hand(work)
        hand.turn.acquire()
        name = f"{self._name}-{self._started}"
        self._started += 1
        Thread(target=self._run, args=(hand,), name=name, daemon=True).start()

    def _run(self, hand: _Hand) -> None:
        while hand.work is not None:
            hand.work()
            hand.work = None  # an idle thread holds nothing of a pod
            with self._mutex:
                if self._waiting:
                    hand.work = self._waiting.popleft()
                    continue
                if self._over:
                    return
                self._idle.append(hand)
            hand.turn.acquire()
