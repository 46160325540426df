"""One lock per attachment: serial for one, parallel for different ones."""

from __future__ import annotations

from collections.abc import Generator, Hashable
from contextlib import contextmanager
from threading import Lock

from attrs import define, field

from eniplug.core.crew import aside


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
    def hold(self, key: Hashable) -> Generator[None]:
        """Hold the lock of one key."""
        with self._mutex:
            counted = self._locks.get(key)
            if counted is None:
                counted = self._locks[key] = _Counted()
            counted.users += 1
        if not counted.lock.acquire(blocking=False):
            with aside():
                counted.lock.acquire()
        try:
            yield
        finally:
            counted.lock.release()
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
