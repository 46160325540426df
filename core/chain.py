"""The plugins of one conflist entry, in order, and how their hooks are called.

For each hook and plugin there is one caller, made once, so that the owner of every
object is known.  A plugin that raises or returns nonsense is contained here: what
leaves this module is a value or an EniplugError that names the plugin.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

import pluggy
import structlog
from attrs import frozen

from eniplug.hooks import (
    Action,
    Allocation,
    CapacityView,
    Node,
    Object,
    Pod,
    Pool,
)
from eniplug.hooks.errors import ConflictError, EniplugError, PluginError
from eniplug.hooks.objects import KINDS, Key

log = structlog.get_logger()

POD_HOOKS: Final = ("setup_netns", "program_routes", "egress")


@frozen
class Caller:
    """One plugin's part in one hook."""

    plugin: str
    hook: str
    call: Callable[..., Any]

    def value(self, **arguments: object) -> Any:
        """Call it. Raises EniplugError only; anything else becomes PluginError."""
        try:
            return self.call(**arguments)
        except EniplugError:
            raise
        except Exception as error:
            log.exception("plugin failed", plugin=self.plugin, hook=self.hook)
            msg = f"plugin {self.plugin!r}: {self.hook} raised {error!r}"
            raise PluginError(msg) from error

    def objects(self, **arguments: object) -> tuple[Object, ...]:
        """Call it and take what it declares; a generator runs in here."""
        found: tuple[Object, ...] = self.value(read=True, **arguments)
        for one in found:
            if not isinstance(one, KINDS):
                msg = f"plugin {self.plugin!r}: {self.hook} returned {one!r}, no object"
                raise PluginError(msg)
        return found


def _read(call: Callable[..., Any]) -> Callable[..., Any]:
    """Make a tuple of what a hook yields, inside the guarded call."""

    def called(*, read: bool = False, **arguments: object) -> Any:
        # A caller of one plugin gives a list of at most one result.
        found = call(**arguments)
        if not read:
            return found
        return tuple(one for result in found for one in result)

    return called


class Declaration:
    """Objects with their owners, one for each key, in the order of work.

    Raises ConflictError when two plugins declare different values under one key.
    """

    def __init__(self) -> None:
        self._found: dict[Key, tuple[Object, str]] = {}

    def add(self, plugin: str, objects: Iterable[Object]) -> None:
        """Take one plugin's objects; an equal one of another plugin is the same."""
        for one in objects:
            had, owner = self._found.setdefault(one.key, (one, plugin))
            if had != one:
                msg = f"plugins {owner!r} and {plugin!r} contradict each other: "
                raise ConflictError(f"{msg}{had} and {one}")

    @property
    def objects(self) -> tuple[Object, ...]:
        """All objects: by rank, then in the order of chain and declaration."""
        return tuple(sorted((o for o, _ in self._found.values()), key=lambda o: o.rank))


class Chain:
    """The plugins of one conflist entry, ready to be called."""

    def __init__(self, manager: pluggy.PluginManager, names: Sequence[str]) -> None:
        self.names = tuple(names)
        plugins = {name: manager.get_plugin(name) for name in names}
        self._callers = {
            hook: tuple(_callers(manager, hook, plugins))
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

    @property
    def address_plugins(self) -> tuple[str, ...]:
        """Those that implement allocate_ip."""
        return tuple(c.plugin for c in self._callers["allocate_ip"])

    def allocate(self, pod: Pod, pool: Pool) -> Allocation | None:
        """Ask for the pod's addresses; the first answer counts."""
        for caller in self._callers["allocate_ip"]:
            found = caller.value(pod=pod, pool=pool)
            if isinstance(found, Allocation):
                return found
            if found is not None:
                msg = f"plugin {caller.plugin!r}: allocate_ip returned {found!r}"
                raise PluginError(msg)
        return None

    def declare(
        self, pod: Pod, allocation: Allocation, node: Node
    ) -> tuple[Object, ...]:
        """Collect all that the pod's part is made of."""
        declared = Declaration()
        for hook in POD_HOOKS:
            for caller in self._callers[hook]:
                declared.add(
                    caller.plugin,
                    caller.objects(pod=pod, allocation=allocation, node=node),
                )
        return declared.objects

    def declare_node(self, node: Node, into: Declaration) -> None:
        """Add what the plugins want on the node once."""
        for caller in self._callers["node_objects"]:
            into.add(caller.plugin, caller.objects(node=node))

    def plan(self, view: CapacityView) -> tuple[Action, ...] | None:
        """Ask what the pool does next; None when no plugin plans."""
        for caller in self._callers["plan_capacity"]:
            found = caller.value(view=view)
            if found is not None:
                return tuple(found)
        return None

    def observe(self, hook: str, **arguments: object) -> list[Any]:
        """Tell the plugins what happened; their errors are only logged.

        Returns what they said to it, in the chain's order.
        """
        said: list[Any] = []
        for caller in self._callers[hook]:
            try:
                said.append(caller.value(**arguments))
            except EniplugError as error:
                log.warning(
                    "observer failed",
                    plugin=caller.plugin,
                    hook=hook,
                    error=error.message,
                )
        return said


def _callers(
    manager: pluggy.PluginManager, hook: str, plugins: Mapping[str, object]
) -> Iterable[Caller]:
    """One caller per plugin that implements the hook; wrappers stay around each."""
    wrappers = {
        impl.plugin_name
        for impl in getattr(manager.hook, hook).get_hookimpls()
        if impl.wrapper or impl.hookwrapper
    }
    implement = {
        impl.plugin_name for impl in getattr(manager.hook, hook).get_hookimpls()
    }
    for name in plugins:
        if name in implement - wrappers:
            others = [
                plugin
                for other, plugin in plugins.items()
                if other not in {name, *wrappers}
            ]
            yield Caller(name, hook, _read(manager.subset_hook_caller(hook, others)))
