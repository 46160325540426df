"""One lock per attachment: serial for one, parallel for different ones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from contextlib import AbstractContextManager, contextmanager
from threading import Lock
from typing import Final

from attrs import define, field

from eniplug.core.crew import aside

AGAIN: Final = 0.25
"""Seconds after which whoever awaits a lock does once more what may free it."""


@define(eq=False)
class _KeyLock:
    """One key's lock; it is in ``every`` while somebody holds or awaits it."""

    key: Hashable
    every: dict[Hashable, _KeyLock]
    mutex: Lock
    lock: Lock = field(factory=Lock)
    users: int = 0

    def __enter__(self) -> None:
        """Whoever was given it holds it."""

    def __exit__(self, *_: object) -> None:
        self.lock.release()
        self.leave()

    def leave(self) -> None:
        """Be one less who holds or awaits it."""
        with self.mutex:
            self.users -= 1
            if not self.users:
                del self.every[self.key]


class KeyLocks:
    """Locks that exist while somebody holds or awaits them."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._locks: dict[Hashable, _KeyLock] = {}

    def __len__(self) -> int:
        """How many keys somebody holds or awaits."""
        return len(self._locks)

    def hold(
        self, key: Hashable, meanwhile: Callable[[], None] = lambda: None
    ) -> AbstractContextManager[None]:
        """Take the lock of one key, and hold it until the context ends.

        ``meanwhile`` is called first, and now and then while somebody else holds it.
        """
        with self._mutex:
            mine = self._locks.get(key)
            if mine is None:
                mine = self._locks[key] = _KeyLock(key, self._locks, self._mutex)
            mine.users += 1
        try:
            meanwhile()
            if not mine.lock.acquire(blocking=False):
                with aside():
                    while not mine.lock.acquire(timeout=AGAIN):
                        meanwhile()
        except BaseException:
            mine.leave()
            raise
        return mine

    @contextmanager
    def attempt(self, key: Hashable) -> Generator[bool]:
        """Hold the lock of one key if nobody holds or awaits it; tells whether."""
        with self._mutex:
            mine = None
            if key not in self._locks:
                mine = self._locks[key] = _KeyLock(key, self._locks, self._mutex)
                mine.users += 1
                mine.lock.acquire()
        if mine is None:
            yield False
            return
        with mine:
            yield True
