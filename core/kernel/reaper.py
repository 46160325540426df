"""The thread that deletes dead links a little after the last funeral.

A runtime removes the pod's namespace right after DEL, and the kernel takes the link
away with it: waiting a second saves nearly all the work.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Condition, Thread
from typing import Final

import structlog

from eniplug.hooks.errors import EniplugError

QUIET: Final = 1.0
"""Seconds without a funeral after which the dead are deleted."""

LIMIT: Final = 2.0
"""Seconds after the first funeral at which they are deleted in any case."""

log = structlog.get_logger()


class Reaper:
    """Calls ``reap`` once at its start, and some time after each `wake`.

    The first call finds what a killed agent left.
    """

    def __init__(
        self, reap: Callable[[], bool], *, quiet: float = QUIET, limit: float = LIMIT
    ) -> None:
        self._reap = reap
        self._quiet = quiet
        self._limit = limit
        self._change = Condition()
        self._first: float | None = 0.0
        self._last = 0.0
        self._over = False
        self._thread = Thread(target=self._run, name="reaper", daemon=True)

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """Say that a link was buried."""
        with self._change:
            self._last = time.monotonic()
            if self._first is None:
                self._first = self._last
                self._change.notify()  # later ones only put it off

    def stop(self) -> None:
        """End; what is still dead is left to the next agent."""
        with self._change:
            self._over = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join()

    def _run(self) -> None:
        while self._wait():
            try:
                self._reap()
            except (EniplugError, OSError) as error:
                log.error("dead links are left", error=str(error))

    def _wait(self) -> bool:
        """Wait until it is time to reap; False at the end."""
        with self._change:
            while not self._over:
                if self._first is None:
                    self._change.wait()
                    continue
                due = min(self._last + self._quiet, self._first + self._limit)
                left = due - time.monotonic()
                if left <= 0:
                    self._first = None
                    return True
                self._change.wait(left)
        return False
