"""Threads that are lent out for plugins' code, and left behind when it hangs.

A thread cannot be stopped from outside.  So a hook runs in a thread that holds nothing:
whoever wants its answer waits beside it with all the locks, and goes on without it when
the hook's time is over.  No thread is started for a call: one is taken from the bench
and put back, which costs two switches of thread.
"""

from __future__ import annotations

from collections.abc import Callable
from queue import Empty, SimpleQueue
from threading import Lock, Thread
from typing import Any, Final, TypeVar
from weakref import finalize

from attrs import define, field, frozen

from eniplug.core.crew import aside

T = TypeVar("T")

HANDS: Final = 32
"""Threads that run plugins' code at a time; whoever comes next waits for one."""

SLICES: Final = 4
"""A hook's time is counted in so many waits.

When the whole process stood still meanwhile, a single one of them was long: a machine
that was paused or is overloaded is not held against a plugin.
"""


class LeftBehindError(BaseException):
    """Ends a thread that nobody waits for any more, at the plugin's return."""


@frozen(eq=False)
class Doing:
    """What a thread is in just now; in one run each at most once."""

    plugin: str
    hook: str


NOTHING: Final = Doing("", "")


@define(eq=False)
class Run:
    """One piece of work.  It says itself which hook it is in, before each."""

    doing: Doing = NOTHING
    left: bool = False

    _mutex: Lock = field(factory=Lock, init=False)
    _done: Lock = field(factory=Lock, init=False)
    _ended: bool = field(default=False, init=False)
    _value: Any = field(default=None, init=False)
    _error: BaseException | None = field(default=None, init=False)

    def __attrs_post_init__(self) -> None:
        self._done.acquire()

    def enter(self, doing: Doing) -> None:
        """Begin a hook: its time counts from now."""
        self.doing = doing
        self.go_on()

    def leave(self) -> None:
        """End a hook: what comes until the next is our own time."""
        self.go_on()
        self.doing = NOTHING

    def go_on(self) -> None:
        """Raise LeftBehindError when nobody waits for this any more."""
        if self.left:
            raise LeftBehindError

    def carry_out(self, work: Callable[[Run], Any]) -> bool:
        """Do it, in a thread of the bench; returns whether somebody has waited."""
        try:
            self._value = work(self)
        except BaseException as error:  # noqa: BLE001
            self._error = error
        with self._mutex:
            self._ended = True
        self._done.release()
        return not self.left

    def wait(self, limit: float) -> bool:
        """Wait until it is done; False, and it is left, when a hook takes longer."""
        doing, waits = self.doing, 0
        while not self._done.acquire(timeout=limit / SLICES):
            if self.doing is not doing or doing is NOTHING:
                doing, waits = self.doing, 0
                continue
            waits += 1
            if waits >= SLICES and self._abandon():
                return False
        return True

    def _abandon(self) -> bool:
        with self._mutex:
            self.left = not self._ended
        return self.left

    @property
    def over(self) -> bool:
        """Whether it is done, waited for or not."""
        return self._ended

    def result(self) -> Any:
        """What it gave; raises what it raised."""
        if self._error is not None:
            raise self._error
        return self._value


class Overdue(Exception):  # noqa: N818
    """A hook did not end in time."""

    def __init__(self, doing: Doing) -> None:
        super().__init__(doing)
        self.doing = doing


class _Hand:
    """One thread of the bench; it knows the queue that it goes back to, no more."""

    def __init__(self, number: int, idle: SimpleQueue[_Hand]) -> None:
        self._idle = idle
        self._inbox: SimpleQueue[tuple[Run, Callable[[Run], Any]] | None]
        self._inbox = SimpleQueue()
        Thread(target=self._work, name=f"plugins-{number}", daemon=True).start()

    def give(self, run: Run, work: Callable[[Run], Any]) -> None:
        self._inbox.put((run, work))

    def dismiss(self) -> None:
        self._inbox.put(None)

    def _work(self) -> None:
        while (given := self._inbox.get()) is not None:
            run, work = given
            waited_for = run.carry_out(work)
            del given, run, work  # the bench holds nothing of a pod that is served
            if not waited_for:
                return
            self._idle.put(self)


def _dismiss(idle: SimpleQueue[_Hand]) -> None:
    """End the threads of a bench that nobody has any more."""
    while True:
        try:
            idle.get_nowait().dismiss()
        except Empty:
            return


class Hands:
    """The bench.  Safe to use from many threads.

    ``left`` is called when a thread is left behind, with how many there are that have
    not come back since.
    """

    def __init__(self, limit: float, left: Callable[[int], None]) -> None:
        self._limit = limit
        self._left = left
        self._idle: SimpleQueue[_Hand] = SimpleQueue()
        finalize(self, _dismiss, self._idle).atexit = False
        self._mutex = Lock()
        self._made = 0
        self._gone: list[Run] = []

    def lend(self, work: Callable[[Run], T]) -> T:
        """Have a thread do the work, and return what it gives.

        Raises what it raises, and Overdue.
        """
        run = Run()
        with aside():
            self._take().give(run, work)
            in_time = run.wait(self._limit)
        if in_time:
            found: T = run.result()
            return found
        with self._mutex:
            self._made -= 1
            self._gone = [one for one in (*self._gone, run) if not one.over]
            behind = len(self._gone)
        self._left(behind)
        raise Overdue(run.doing)

    @property
    def behind(self) -> int:
        """How many threads were left behind and have not come back."""
        with self._mutex:
            return sum(not one.over for one in self._gone)

    def _take(self) -> _Hand:
        while True:
            try:
                return self._idle.get_nowait()
            except Empty:
                pass
            with self._mutex:
                if self._made < HANDS:
                    self._made += 1
                    return _Hand(self._made, self._idle)
            try:
                # One that is left behind makes room for another.
                return self._idle.get(timeout=self._limit)
            except Empty:
                continue
