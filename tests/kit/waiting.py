"""Waits for what comes about by itself, and not for ever."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def until(met: Callable[[], T], within: float = 30.0) -> T:
    """Wait for a condition; returns what it gave."""
    end = time.monotonic() + within
    while not (found := met()):
        assert time.monotonic() < end, met
        time.sleep(0.01)
    return found
