"""Refused ADDs on their way to become events of their pods: gathered, and not too many.

The runtime repeats a refused ADD each few seconds, for every pod that wants to run.
Kubernetes keeps each event for an hour, so a pod has one for each reason, and then
another each five minutes that says how often it was refused since.  A node posts 25 at
once and one each 5 s in the long run.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Final

from attrs import evolve, frozen

from eniplug.core.refusals import Refusal
from eniplug.hooks.errors import CancelledError

AGAIN_AFTER: Final = 300.0
"""Seconds between two events of one pod with the same reason."""

BURST: Final = 25.0
EVERY: Final = 5.0
"""Seconds between events in the long run, once a burst is spent."""

MOST: Final = 256
"""Events that are kept until they may be posted; the oldest goes first."""

Key = tuple[str, str, str, str]
"""A pod's namespace, name and uid, and the reason."""


@frozen(kw_only=True)
class PodEvent:
    """What happened to a pod ``count`` times, between ``first`` and ``last``.

    Both are in seconds since the epoch.  ``uid`` is empty where the runtime told none.
    """

    namespace: str
    pod: str
    uid: str
    reason: str
    message: str
    first: float
    last: float
    count: int = 1

    @property
    def key(self) -> Key:
        """What it is gathered by."""
        return self.namespace, self.pod, self.uid, self.reason


class PodEvents:
    """Safe for many threads; none waits for more than memory.

    ``clock`` is in seconds and never goes back.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._mutex = Lock()
        self._gathered: dict[Key, PodEvent] = {}
        self._posted: dict[Key, float] = {}
        self._tokens = BURST
        self._filled = clock()

    def note(self, refusal: Refusal) -> None:
        """Gather a refusal, if its pod has a name and did not give up by itself."""
        if not refusal.name or refusal.reason == CancelledError.reason:
            return
        event = PodEvent(
            namespace=refusal.namespace,
            pod=refusal.name,
            uid=refusal.uid,
            reason=refusal.reason,
            message=f"{refusal.message}; {refusal.remedy}",
            first=refusal.when,
            last=refusal.when,
        )
        with self._mutex:
            self._gather(event)

    def next(self) -> PodEvent | None:
        """Take one that may be posted now."""
        with self._mutex:
            if self._token() > 0:
                return None
            key = min(self._gathered, key=self._due, default=None)
            if key is None or self._due(key) > self._clock():
                return None
            self._tokens -= 1.0
            self._posted[key] = self._clock()
            return self._gathered.pop(key)

    def put_back(self, event: PodEvent) -> None:
        """Say that one could not be posted: it is due still."""
        with self._mutex:
            self._posted.pop(event.key, None)
            self._tokens += 1.0
            self._gather(event)

    def wait(self) -> float:
        """Seconds until one may be posted; for ever if there is none."""
        with self._mutex:
            token, now = self._token(), self._clock()
            dues = [self._due(key) - now for key in self._gathered]
            return max(0.0, token, min(dues)) if dues else float("inf")

    def _gather(self, event: PodEvent) -> None:
        known = self._gathered.get(event.key)
        if known is not None:
            late = max(known, event, key=lambda one: one.last)
            event = evolve(
                late,
                first=min(known.first, event.first),
                count=known.count + event.count,
            )
        elif len(self._gathered) >= MOST:
            del self._gathered[next(iter(self._gathered))]
        self._gathered[event.key] = event

    def _due(self, key: Key) -> float:
        return self._posted.get(key, float("-inf")) + AGAIN_AFTER

    def _token(self) -> float:
        """Seconds until the next event may be posted, whosever it is."""
        now = self._clock()
        passed, self._filled = now - self._filled, now
        self._tokens = min(self._tokens + passed / EVERY, BURST)
        self._posted = {
            key: when for key, when in self._posted.items() if now - when < AGAIN_AFTER
        }
        return max(0.0, (1.0 - self._tokens) * EVERY)
