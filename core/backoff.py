"""How long an object is left as somebody else wants it, before it is put back again."""

from __future__ import annotations

import time
from collections.abc import Callable, Hashable, Iterable
from typing import Final

from attrs import define

AT_ONCE: Final = 5
"""Times in a row that an object is put back without a pause."""

FIRST: Final = 1.0
"""Seconds of the first pause; each is twice as long as the last."""

LONGEST: Final = 60.0
"""Seconds of the longest pause."""

PEACE: Final = 10.0
"""Seconds beyond the pause after which it begins anew."""


@define
class _Fight:
    what: str
    times: int
    last: float


class Backoff:
    """Remembers what was put back, and when it may be again.

    Two tools that each put back what the other has changed would otherwise go on as
    fast as the machine can.  ``clock`` is in seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._fights: dict[Hashable, _Fight] = {}

    def note(self, changed: Iterable[tuple[Hashable, str]]) -> list[float]:
        """Say what is put back now; returns the pause of each before the next time.

        Each is a key and the object in words.  What has had peace for a while is
        forgotten.
        """
        now = self._clock()
        self._fights = {
            key: one
            for key, one in self._fights.items()
            if now - one.last < _pause(one.times) + PEACE
        }
        pauses: list[float] = []
        for key, what in changed:
            fight = self._fights.setdefault(key, _Fight(what, 0, now))
            fight.times += 1
            fight.last = now
            pauses.append(_pause(fight.times))
        return pauses

    def wait(self, key: Hashable) -> float:
        """Seconds until an object may be put back; 0.0 if it may be now."""
        fight = self._fights.get(key)
        if fight is None:
            return 0.0
        return max(0.0, fight.last + _pause(fight.times) - self._clock())

    def fought(self) -> tuple[str, ...]:
        """What has to wait just now, in words."""
        fights = tuple(self._fights.items())
        return tuple(fight.what for key, fight in fights if self.wait(key) > 0)


def _pause(times: int) -> float:
    if times < AT_ONCE:
        return 0.0
    return float(min(LONGEST, FIRST * 2.0 ** min(times - AT_ONCE, 10)))
