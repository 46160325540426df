"""A lock that is given in the order in which it was asked for."""

from __future__ import annotations

from collections import deque
from threading import Lock


class FairLock:
    """First come, first served; a context manager; not re-entrant.

    A plain lock may be won again by the thread that just released it: under load one
    pod's ADD could then wait for all others.
    """

    def __init__(self) -> None:
        self._mutex = Lock()
        self._held = False
        self._queue: deque[Lock] = deque()

    def __enter__(self) -> None:
        with self._mutex:
            if not self._held:
                self._held = True
                return
            turn = Lock()
            turn.acquire()
            self._queue.append(turn)
        try:
            turn.acquire()
        except BaseException:
            self._give_up(turn)
            raise

    def __exit__(self, *_: object) -> None:
        with self._mutex:
            self._pass_on()

    @property
    def waiting(self) -> int:
        """How many threads wait for it."""
        return len(self._queue)

    def _pass_on(self) -> None:
        if self._queue:
            self._queue.popleft().release()
        else:
            self._held = False

    def _give_up(self, turn: Lock) -> None:
        """Leave the queue, or pass on a lock that was given in the meantime."""
        with self._mutex:
            if turn in self._queue:
                self._queue.remove(turn)
            else:
                self._pass_on()
