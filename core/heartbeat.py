"""The heartbeat: an agent whose interpreter is held ends, and is started again.

C code that does not let the interpreter go stops every thread, and no thread of ours
could say so: one pathological regular expression held it for 13.7 s.  The watch is
faulthandler's thread, which is not Python's.  Running pods do not notice.
"""

from __future__ import annotations

import faulthandler
import time
from threading import Event, Thread
from typing import Final

from eniplug.core.beats import BEAT, until_beat

PATIENCE: Final = 2.5 * BEAT
"""Seconds without a beat after which the process ends with status 1."""


class Heartbeat:
    """Beats in a thread of its own: the others may rightly wait for a lock.

    What every thread was in stands on standard error when it fails; the plugin at fault
    is in the last lines of one of them.
    """

    def __init__(self, patience: float = PATIENCE) -> None:
        self._patience = patience
        self._end = Event()
        self._thread = Thread(target=self._run, name="heartbeat", daemon=True)

    def start(self) -> None:
        """Begin to watch."""
        self._thread.start()

    def stop(self) -> None:
        """Watch no more."""
        self._end.set()
        self._thread.join()

    def _run(self) -> None:
        while True:
            faulthandler.dump_traceback_later(self._patience, exit=True)
            if self._end.wait(min(until_beat(time.monotonic()), self._patience / 2)):
                faulthandler.cancel_dump_traceback_later()
                return
