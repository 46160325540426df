"""Things that EC2 does some time after the call."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from contextlib import AbstractContextManager

_log = logging.getLogger(__name__)


class Timers:
    """Runs things later, each under one lock; a delay of 0 is now."""

    def __init__(self, lock: AbstractContextManager[object]) -> None:
        self._lock = lock
        self._waiting: set[threading.Timer] = set()

    def later(self, delay: float, act: Callable[[], None]) -> None:
        """Run it in ``delay`` seconds, or at once; the caller holds the lock."""
        if not delay:
            act()
            return

        def run() -> None:
            with self._lock:
                try:
                    if timer in self._waiting:
                        act()
                except Exception:  # noqa: BLE001 nobody waits for an answer
                    _log.exception("the lab could not follow EC2")

        timer = threading.Timer(delay, run)
        timer.daemon = True
        self._waiting = {each for each in self._waiting if each.is_alive()}
        self._waiting.add(timer)
        timer.start()

    def close(self) -> None:
        """Run nothing more; no thread is left when this returns."""
        with self._lock:
            waiting, self._waiting = self._waiting, set()
        for timer in waiting:
            timer.cancel()
        for timer in waiting:
            timer.join()
