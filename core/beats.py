"""The beat on which the agent's threads wake when there is nothing to do.

They wake together: at rest a processor sleeps, and its caches are others', so the first
thread to wake takes ten times as long as one that wakes beside it.
"""

from __future__ import annotations

from typing import Final

BEAT: Final = 5.0
"""Seconds."""


def until_beat(now: float) -> float:
    """Return the seconds until the next beat; ``now`` is a monotonic time."""
    return BEAT - now % BEAT
