"""One lock per attachment: serial for one, parallel for different ones."""

from __future__ import annotations

from collections.abc import Callable, Generator, Hashable
from contextlib import contextmanager
from threading import Lock
from typing import Final

from attrs import define, field

from eniplug.core.crew import aside

AGAIN: Final = 0.25
"""Seconds after which whoever awaits a lock does once more what may free it."""


@define
class _Counted:
    lock: Lock = field(factory=Lock)
    users: int = 0


class KeyLocks:
    """Locks that exist while somebody holds or awaits them."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._locks: dict[Hashable, _Counted] = {}

    def __len__(self) -> int:
        """How many keys somebody holds or awaits."""
        return len(self._locks)

    @contextmanager
    def hold(
        self, key: Hashable, meanwhile: Callable[[], None] = lambda: None
    ) -> Generator[None]:
        """Hold the lock of one key.

        ``meanwhile`` is called first, and now and then while somebody else holds it.
        """
        with self._mutex:
            counted = self._locks.get(key)
            if counted is None:
                counted = self._locks[key] = _Counted()
            counted.users += 1
        try:
            meanwhile()
            if not counted.lock.acquire(blocking=False):
                with aside():
                    while not counted.lock.acquire(timeout=AGAIN):
                        meanwhile()
            try:
                yield
            finally:
                counted.lock.release()
        finally:
            self._leave(key, counted)

    @contextmanager
    def attempt(self, key: Hashable) -> Generator[bool]:
        """Hold the lock of one key if nobody holds or awaits it; tells whether."""
        with self._mutex:
            if key in self._locks:
                counted = None
            else:
                counted = self._locks[key] = _Counted(users=1)
                counted.lock.acquire()
        if counted is None:
            yield False
            return
        try:
            yield True
        finally:
            counted.lock.release()
            self._leave(key, counted)

    def _leave(self, key: Hashable, counted: _Counted) -> None:
        with self._mutex:
            counted.users -= 1
            if not counted.users:
                del self._locks[key]
