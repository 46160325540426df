"""How often EC2 may be asked: a token bucket, and pauses after errors.

Seconds are those of a clock that never goes back.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

RATE: Final = 4.0
"""Calls per second in the long run; EC2's own limits are per account and region."""

BURST: Final = 16.0
"""Calls that may be made at once: three ENIs with all that belongs to them."""

SLOWEST: Final = RATE / 64
RECOVERY: Final = 120.0
"""Seconds without throttling after which any slowness is over."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
HURRY: Final = 1.0
"""Seconds between tries for pods that begin to wait during a pause."""


class Pace:
    """Says when the next call may be made.

    ``jitter`` gives a number in [0, 1).  A pause after errors doubles from 1 s to 60 s
    and is shortened at random by up to half, so that nodes do not march in step.
    """

    def __init__(
        self,
        clock: Callable[[], float],
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._clock = clock
        self._jitter = jitter
        self._rate = RATE
        self._tokens = BURST
        self._filled = clock()
        self._errors = 0
        self._failed = self._until = float("-inf")
        self._throttled = False

    @property
    def rate(self) -> float:
        """Calls per second that are allowed now."""
        self._fill()
        return self._rate

    def wait(self) -> float:
        """Return the seconds until a call may be made; 0 now."""
        self._fill()
        lacking = max(1.0 - self._tokens, 0.0) / self._rate
        return max(lacking, self._until - self._clock(), 0.0)

    @property
    def pause(self) -> float:
        """Seconds that are left of the pause after an error; any thread may look."""
        return max(self._until - self._clock(), 0.0)

    def spend(self) -> None:
        """Note that a call is made; an action of several calls may run up a debt."""
        self._fill()
        self._tokens -= 1.0

    def failed(self, *, throttled: bool = False) -> None:
        """Note an error: pause; halve the rate if EC2 said that it is too much."""
        now = self._clock()
        if now - self._failed > RECOVERY:
            self._errors = 0
        if throttled:
            self._rate = max(self._rate / 2, SLOWEST)
        self._throttled = throttled
        pause = min(FIRST_PAUSE * 2**self._errors, LONGEST_PAUSE)
        self._errors = min(self._errors + 1, 10)
        self._failed = now
        self._until = now + pause * (1 - self._jitter() / 2)

    def succeeded(self) -> None:
        """Note that a call went well: no pause."""
        self._errors = 0
        self._until = float("-inf")

    def hurry(self) -> None:
        """End a pause early, for a pod that just began to wait.

        Not when EC2 asked for fewer calls, and only once in a second.
        """
        if not self._throttled:
            self._until = min(self._until, self._failed + HURRY)

    def _fill(self) -> None:
        now = self._clock()
        passed, self._filled = now - self._filled, now
        self._rate = min(self._rate + passed * RATE / RECOVERY, RATE)
        self._tokens = min(self._tokens + passed * self._rate, BURST)
