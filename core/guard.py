"""What stands between the agent and its plugins' code: limits, counters, a breaker.

A hook that raises or returns nonsense costs its pod the ADD.  One that hangs costs a
thread as well, so a plugin that hung three times in a row is not called for a minute;
then one call may try.  Errors alone shut nothing: a plugin that fails for one pod still
serves the others.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from threading import Lock
from typing import Any, Final, TypeVar

import structlog
from attrs import define, field

from eniplug.core.hands import Hands, Overdue, Run
from eniplug.hooks.errors import PluginShutError, PluginSlowError

log = structlog.get_logger()

T = TypeVar("T")

LIMIT: Final = 1.0
"""Seconds that one hook of one plugin may take."""

SLOW: Final = 0.1
"""Seconds from which on a hook that ended is worth a line in the log."""

IN_A_ROW: Final = 3
"""So many hooks of a plugin that hung, with none between that ended, shut it."""

PAUSE: Final = 60.0
"""Seconds for which a plugin that is shut is not called."""

LEFT_BEHIND: Final = 8
"""At so many threads that hang the agent gives up, to be started again."""


@define(eq=False)
class Conduct:
    """How one plugin has behaved since the agent's start, in all entries that name it.

    Times are in seconds; a hook that hung counts with its limit.
    """

    plugin: str
    _clock: Callable[[], float]
    calls: int = 0
    errors: int = 0
    timeouts: int = 0
    seconds: float = 0.0
    worst: float = 0.0
    last_error: str = ""
    _hung: int = field(default=0, init=False)
    _shut_until: float = field(default=0.0, init=False)
    _mutex: Lock = field(factory=Lock, init=False)

    @property
    def shut_for(self) -> float:
        """Seconds for which it is still not called; 0 when it is."""
        if self._hung < IN_A_ROW:
            return 0.0
        return max(0.0, self._shut_until - self._clock())

    def admit(self) -> None:
        """Begin a call.  Raises PluginShutError while the plugin is shut."""
        with self._mutex:
            if self._hung >= IN_A_ROW:
                now = self._clock()
                if now < self._shut_until:
                    left = round(self._shut_until - now)
                    msg = f"plugin {self.plugin!r} hung {self._hung} times in a row"
                    msg = f"{msg}, and is not called for {left} s"
                    raise PluginShutError(msg, plugin=self.plugin)
                # This call tries; the others wait for what becomes of it.
                self._shut_until = now + PAUSE
            self.calls += 1

    def ended(self, hook: str, seconds: float) -> None:
        """Note a hook that returned or raised in time."""
        with self._mutex:
            self._hung = 0
            self.seconds += seconds
            self.worst = max(self.worst, seconds)
        if seconds >= SLOW:
            log.warning(
                "plugin slow", plugin=self.plugin, hook=hook, seconds=round(seconds, 3)
            )

    def failed(self, error: str) -> None:
        """Note that what a call gave cannot be used, and why."""
        with self._mutex:
            self.errors += 1
            self.last_error = error

    def hung(self, seconds: float, error: str) -> None:
        """Note a hook that did not end in time."""
        with self._mutex:
            self._hung += 1
            self._shut_until = self._clock() + PAUSE
            self.timeouts += 1
            self.last_error = error
            self.seconds += seconds
            self.worst = max(self.worst, seconds)

    def told(self) -> dict[str, Any]:
        """Say it in what JSON can hold; times in milliseconds."""
        mean = self.seconds / self.calls if self.calls else 0.0
        return {
            "plugin": self.plugin,
            "calls": self.calls,
            "errors": self.errors,
            "timeouts": self.timeouts,
            "mean_ms": round(mean * 1e3, 3),
            "worst_ms": round(self.worst * 1e3, 3),
            "shut_for": round(self.shut_for, 1),
            "last_error": self.last_error,
        }


class Guard:
    """Runs hooks, each within its limit.  Safe to use from many threads.

    ``give_up`` is called once too many threads hang; pods keep running without the
    agent, and a new one has none that hang.
    """

    def __init__(
        self,
        give_up: Callable[[], None] = lambda: None,
        *,
        limit: float = LIMIT,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._give_up = give_up
        self._limit = limit
        self._clock = clock
        self._conducts: dict[str, Conduct] = {}
        self._hands = Hands(limit, self._left)

    def conduct(self, plugin: str) -> Conduct:
        """How a plugin behaves: one for each name, whatever chains it is in."""
        return self._conducts.setdefault(plugin, Conduct(plugin, self._clock))

    def run(self, work: Callable[[Run], T]) -> T:
        """Have the work done beside this thread, and return what it gives.

        Raises what it raises, and PluginSlowError when one of its hooks hangs.
        """
        try:
            return self._hands.lend(work)
        except Overdue as overdue:
            plugin, hook = overdue.doing.plugin, overdue.doing.hook
            msg = f"plugin {plugin!r}: {hook} did not end within {self._limit:g} s"
            log.error("plugin hangs", plugin=plugin, hook=hook)
            self.conduct(plugin).hung(self._limit, msg)
            raise PluginSlowError(msg, plugin=plugin) from None

    def told(self) -> list[dict[str, Any]]:
        """Every plugin that was called, as `Conduct.told`."""
        every = list(self._conducts.values())
        return [one.told() for one in sorted(every, key=lambda one: one.plugin)]

    def _left(self, behind: int) -> None:
        if behind >= LEFT_BEHIND:
            log.critical("too many threads hang in plugins", threads=behind)
            self._give_up()
