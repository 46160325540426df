"""Which threads run: to see that something leaves none."""

from __future__ import annotations

import threading


def running() -> list[str]:
    """Name all threads but those that wait for plugins' work in other tests' chains."""
    names = (thread.name for thread in threading.enumerate())
    return [name for name in names if not name.startswith("plugins-")]
