"""A clock that a test moves by hand."""

from __future__ import annotations

from attrs import define


@define(eq=False)
class HandClock:
    """Seconds that pass only when told to; call it for the time.

    >>> clock = HandClock()
    >>> clock.advance(2.5)
    >>> clock()
    1002.5
    """

    now: float = 1000.0

    def __call__(self) -> float:
        """Return the time, in seconds."""
        return self.now

    def advance(self, seconds: float) -> None:
        """Let time pass."""
        if seconds < 0:
            msg = f"a clock never goes back, and not by {seconds} s"
            raise ValueError(msg)
        self.now += seconds
