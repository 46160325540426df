"""The plugins of one conflist entry, in order, and how their hooks are called.

For each hook and plugin there is one caller, made once, so that the owner of every
object is known.  A plugin that raises, hangs or returns nonsense is contained here:
what leaves this module is a value or an EniplugError that names the plugin.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from functools import partial
from operator import attrgetter
from typing import Any, Final, Protocol, TypeVar, get_args

import pluggy
import structlog
from attrs import frozen

from eniplug.core.fences import Fence, PodFence, node_fence
from eniplug.core.guard import Conduct, Guard
from eniplug.core.hands import Doing, LeftBehindError, Run
from eniplug.hooks import (
    Action,
    Allocation,
    CapacityView,
    Lease,
    Node,
    Object,
    Pod,
    Pool,
)
from eniplug.hooks.errors import (
    ConflictError,
    EniplugError,
    NotThePodsError,
    PluginError,
)
from eniplug.hooks.objects import KINDS, Key

log = structlog.get_logger()

T = TypeVar("T")

_KINDS: Final = frozenset(KINDS)
_RANK: Final = attrgetter("rank")

POD_HOOKS: Final = ("setup_netns", "program_routes", "egress")

ACTIONS: Final = get_args(Action)


class Lending(Pool, Protocol):
    """A desk at the pool that knows what was taken at it."""

    @property
    def taken(self) -> Sequence[Lease]:
        """The leases."""
        ...


@frozen
class Caller:
    """One plugin's part in one hook, which ``doing`` names as messages have it."""

    doing: Doing
    call: Callable[..., Any]
    conduct: Conduct
    ours: bool

    @property
    def plugin(self) -> str:
        """The plugin's name."""
        return self.doing.plugin

    def value(
        self,
        run: Run | None,
        read: Callable[[Any], T],
        arguments: Mapping[str, object],
    ) -> T:
        """Call it, and read what it gave: a generator runs in here.

        ``run`` is told, if somebody waits beside this thread.  Raises EniplugError
        only; anything else becomes PluginError.
        """
        self.conduct.admit()
        if run is not None:
            run.enter(self.doing)
        began = time.perf_counter()
        try:
            found = read(self.call(**arguments))
        except EniplugError:
            self._ended(run, began)
            raise
        except LeftBehindError:
            raise
        except BaseException as error:
            self._ended(run, began)
            raise self.wrong(f"raised {error!r}") from error
        self._ended(run, began)
        return found

    def _ended(self, run: Run | None, began: float) -> None:
        if run is not None:
            run.leave()
        self.conduct.ended(self.doing.hook, time.perf_counter() - began)

    def wrong(
        self, what: str, kind: type[PluginError] = PluginError, details: str = ""
    ) -> PluginError:
        """Make the error for what it did, and count it."""
        msg = f"plugin {self.plugin!r}: {self.doing.hook} {what}"
        self.conduct.failed(msg)
        return kind(msg, details, plugin=self.plugin)

    def objects(
        self, run: Run | None, arguments: Mapping[str, object]
    ) -> tuple[Object, ...]:
        """Call it and take what it declares."""
        found = self.value(run, _every, arguments)
        for one in found:
            if type(one) not in _KINDS:
                raise self.wrong(f"returned {one!r}, no object")
        return found


def _every(found: Any) -> tuple[Any, ...]:
    return () if found is None else tuple(found)


def _whole(found: Any) -> Any:
    return found


def _actions(found: Any) -> tuple[Any, ...] | None:
    return None if found is None else tuple(found)


class Declaration:
    """Objects with their owners, one for each key, in the order of work.

    Raises ConflictError when two plugins declare different values under one key.
    """

    def __init__(self) -> None:
        self._found: dict[Key, tuple[Object, Caller]] = {}

    def add(self, caller: Caller, objects: Iterable[Object]) -> None:
        """Take one plugin's objects; an equal one of another plugin is the same."""
        for one in objects:
            had, owner = self._found.setdefault(one.key, (one, caller))
            if had is not one and had != one:
                both = f"{owner.plugin!r} and {caller.plugin!r}"
                msg = f"plugins {both} contradict each other: "
                raise ConflictError(f"{msg}{had} and {one}")

    def check(self, fence: Fence) -> None:
        """Hold that each object is its owner's.  Raises NotThePodsError."""
        for one, caller in self._found.values():
            beyond = fence(one)
            if beyond:
                what = f"declared {one}: {beyond}"
                raise caller.wrong(what, NotThePodsError)

    @property
    def objects(self) -> tuple[Object, ...]:
        """All objects: by rank, then in the order of chain and declaration."""
        return tuple(sorted([o for o, _ in self._found.values()], key=_RANK))


class Chain:
    """The plugins of one conflist entry, ready to be called.

    A pod goes without those that may be ``skipped`` when they fail.  Hooks of plugins
    that are ``ours`` run in the thread of whoever asks: they are tested with the agent,
    and do not hang.
    """

    def __init__(
        self,
        manager: pluggy.PluginManager,
        names: Sequence[str],
        guard: Guard | None = None,
        *,
        skipped: Collection[str] = (),
        ours: Collection[str] = (),
    ) -> None:
        self.names = tuple(names)
        self._guard = guard or Guard()
        self._may_skip = frozenset(skipped)
        plugins = {name: manager.get_plugin(name) for name in names}
        self._callers = {
            hook: tuple(_callers(manager, hook, plugins, self._guard, ours))
            for hook in (
                "node_objects",
                "plan_capacity",
                "allocate_ip",
                *POD_HOOKS,
                "attached",
                "refused",
                "release_ip",
                "detached",
            )
        }

        self._ours = {
            hook
            for hook, callers in self._callers.items()
            if all(caller.ours for caller in callers)
        }
        self.address_plugins = tuple(c.plugin for c in self._callers["allocate_ip"])
        """Those that implement allocate_ip."""

    def allocate(self, pod: Pod, pool: Lending) -> Allocation | None:
        """Ask for the pod's addresses; the first answer counts."""
        return self._run(lambda run: self._allocate(run, pod, pool), "allocate_ip")

    def _allocate(self, run: Run | None, pod: Pod, pool: Lending) -> Allocation | None:
        for caller in self._callers["allocate_ip"]:
            found = caller.value(run, _whole, {"pod": pod, "pool": pool})
            if isinstance(found, Allocation):
                lent = {lease.address for lease in pool.taken}
                for nic in found.nics:
                    for one in nic.addresses:
                        if one.ip not in lent:
                            what = f"gave {one.ip}, which it did not take from the pool"
                            raise caller.wrong(what, NotThePodsError)
                return found
            if found is not None:
                raise caller.wrong(f"returned {found!r}")
        return None

    def declare(
        self,
        pod: Pod,
        allocation: Allocation,
        node: Node,
        skipped: Callable[[PluginError], None] = lambda _: None,
    ) -> tuple[Object, ...]:
        """Collect all that the pod's part is made of.

        A plugin that fails and may be skipped is left out whole, and ``skipped`` is
        told: half of what it wants would be a state that nobody has thought of.  Hooks
        are pure, so the others are simply asked again.
        """
        without: set[str] = set()
        while True:
            try:
                return self._run(
                    lambda run: self._declare(run, pod, allocation, node, without),
                    *POD_HOOKS,
                )
            except PluginError as error:
                if error.plugin not in self._may_skip - without:
                    raise
                log.warning("plugin skipped", plugin=error.plugin, error=error.message)
                without.add(error.plugin)
                skipped(error)

    def _declare(
        self,
        run: Run | None,
        pod: Pod,
        allocation: Allocation,
        node: Node,
        without: Collection[str],
    ) -> tuple[Object, ...]:
        declared = Declaration()
        given = {"pod": pod, "allocation": allocation, "node": node}
        for hook in POD_HOOKS:
            for caller in self._callers[hook]:
                if caller.plugin not in without:
                    declared.add(caller, caller.objects(run, given))
        declared.check(PodFence.of(declared.objects, allocation, node))
        return declared.objects

    def declare_node(self, node: Node, into: Declaration) -> None:
        """Add what the plugins want on the node once."""
        for caller in self._callers["node_objects"]:
            asked = partial(caller.objects, arguments={"node": node})
            into.add(caller, self._run(asked, "node_objects"))
        into.check(node_fence)

    def plan(self, view: CapacityView) -> tuple[Action, ...] | None:
        """Ask what the pool does next; None when no plugin plans."""
        return self._run(lambda run: self._plan(run, view), "plan_capacity")

    def _plan(self, run: Run | None, view: CapacityView) -> tuple[Action, ...] | None:
        for caller in self._callers["plan_capacity"]:
            found = caller.value(run, _actions, {"view": view})
            for one in found or ():
                if not isinstance(one, ACTIONS):
                    raise caller.wrong(f"returned {one!r}, no action")
            if found is not None:
                return found
        return None

    def observe(self, hook: str, **arguments: object) -> list[Any]:
        """Tell the plugins what happened; their errors are only logged.

        Returns what they said to it, in the chain's order.
        """
        said: list[Any] = []
        for caller in self._callers[hook]:
            told = partial(caller.value, read=_whole, arguments=arguments)
            try:
                said.append(self._run(told, hook))
            except EniplugError as error:
                log.warning(
                    "observer failed",
                    plugin=caller.plugin,
                    hook=hook,
                    error=error.message,
                )
        return said

    def _run(self, work: Callable[[Run | None], T], *hooks: str) -> T:
        """Run hooks in a thread of their own, if one of them is not ours."""
        try:
            if self._ours.issuperset(hooks):
                return work(None)
            return self._guard.run(work)
        except PluginError as error:
            if error.__cause__ is not None:
                why = error.__cause__
                log.error("plugin failed", plugin=error.plugin, exc_info=why)
            raise


def _callers(
    manager: pluggy.PluginManager,
    hook: str,
    plugins: Mapping[str, object],
    guard: Guard,
    ours: Collection[str],
) -> Iterable[Caller]:
    """One caller per plugin that implements the hook; wrappers stay around each."""
    hooked = getattr(manager.hook, hook)
    impls = {impl.plugin_name: impl for impl in hooked.get_hookimpls()}
    wrappers = {n for n, impl in impls.items() if impl.wrapper or impl.hookwrapper}
    # What hangs or raises may be a wrapper: a message names them all.
    around = f" (inside {', '.join(sorted(wrappers))})" if wrappers else ""
    first = bool(hooked.spec and hooked.spec.opts["firstresult"])
    for name in plugins:
        if name in impls.keys() - wrappers:
            others = [
                plugin
                for other, plugin in plugins.items()
                if other not in {name, *wrappers}
            ]
            call = (
                _within(manager.subset_hook_caller(hook, others), first=first)
                if wrappers
                else _plain(impls[name])
            )
            mine = {name, *wrappers} <= set(ours)
            yield Caller(Doing(name, hook + around), call, guard.conduct(name), mine)


def _plain(impl: pluggy.HookImpl) -> Callable[..., Any]:
    """Call a plugin that nothing is around: what pluggy does, looked up beforehand."""
    function, names = impl.function, impl.argnames

    def call(**given: object) -> Any:
        return function(*map(given.__getitem__, names))

    return call


def _within(hooked: pluggy.HookCaller, *, first: bool) -> Callable[..., Any]:
    """Call a plugin by way of pluggy, with its wrappers; returns what it gave."""

    def call(**given: object) -> Any:
        results = hooked(**given)
        return results if first else [one for found in results for one in found]

    return call
