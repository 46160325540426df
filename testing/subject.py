"""A plugin that is held to the laws, and what it is called with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, NoReturn

import pluggy
import pytest

from eniplug.core.chain import Chain, Declaration
from eniplug.core.kernel import Kernel
from eniplug.core.manager import Catalogue
from eniplug.core.parts import Part
from eniplug.hooks import (
    PROJECT,
    CapacityView,
    Node,
    Object,
    specs,
)
from eniplug.hooks.errors import EniplugError
from eniplug.testing import builders, calls


def _cases() -> tuple[calls.Case, ...]:
    """Make a pod with IPv4, one of the second ENI, and one with both families."""
    pods = [builders.a_pod(n, slot=n, mtu=1500) for n in range(3)]
    return (
        (pods[0], builders.an_allocation(pods[0], 0)),
        (pods[1], builders.an_allocation(pods[1], 1, builders.SECOND)),
        (pods[2], builders.a_dual_allocation(pods[2], 2)),
    )


class Subject:
    """One plugin, the pods and the node that it meets, and who stands beside it."""

    plugin: ClassVar[Any]
    """The plugin, made with the options that are to be held to the laws."""

    cases: ClassVar[tuple[calls.Case, ...]] = _cases()
    """Pods and what they were given; at least two."""

    node: ClassVar[Node] = builders.DUAL_NODE
    """The node that they are on."""

    beside: ClassVar[tuple[str, ...]] = ("pod-veth",)
    """The plugins whose objects this one's stand on, by name."""

    views: ClassVar[tuple[CapacityView, ...]] = (
        builders.a_view(),
        builders.a_view(waiting=5),
        builders.a_view(enis=(), waiting=1),
    )
    """What plan_capacity is called with."""

    p99: ClassVar[float] = 0.002
    """Seconds of processor time that 99 of 100 calls of a hook may take."""

    kernel: ClassVar[type[Kernel]] = Kernel
    """What carries declarations out."""

    def _declared(self, plugin: object, case: calls.Case) -> dict[str, object]:
        """All that a plugin says of one case, by hook."""
        found: dict[str, object] = {**calls.pod_objects(plugin, case, self.node)}
        hooks = calls.hooks_of(plugin)
        if "node_objects" in hooks:
            found["node_objects"] = calls.node_objects(plugin, self.node)
        if "plan_capacity" in hooks:
            plans = [
                calls.call(hooks["plan_capacity"], {"view": v}) for v in self.views
            ]
            found["plan_capacity"] = [p if p is None else tuple(p) for p in plans]
        if "allocate_ip" in hooks:
            given = {"pod": case[0], "pool": builders.a_pool()}
            found["allocate_ip"] = _outcome(hooks["allocate_ip"], given)
        return found

    def _declares(self) -> bool:
        """Whether it has hooks that declare objects."""
        hooks = calls.hooks_of(self.plugin)
        return not hooks.keys().isdisjoint({*calls.POD_HOOKS, "node_objects"})

    def _node_objects(self) -> tuple[Object, ...]:
        return calls.node_objects(self.plugin, self.node)

    def _others(self) -> tuple[object, ...]:
        """The plugins that this one stands on."""
        catalogue = Catalogue()
        kinds = [catalogue.load(name, "beside") for name in self.beside]
        return tuple(kind() for kind in kinds if not isinstance(self.plugin, kind))

    def _whole_node(self) -> tuple[Object, ...]:
        found = Declaration()
        chain_of(*self._others(), self.plugin).declare_node(self.node, found)
        return found.objects

    def _objects(self, case: calls.Case) -> tuple[Object, ...]:
        return chain_of(*self._others(), self.plugin).declare(*case, self.node)

    def _part(self, case: calls.Case) -> Part:
        pod, allocation = case
        return Part(
            pod=pod,
            plugins=("mine",),
            allocation=allocation,
            leased=True,
            objects=self._objects(case),
            request="0" * 32,
            made=1.0,
        )


def _outcome(hook: Any, given: Mapping[str, object]) -> object:
    """What a hook gives, or with which error it refuses."""
    try:
        return calls.call(hook, given)
    except EniplugError as error:
        return repr(error)


def broken(what: str, remedy: str) -> NoReturn:
    """Fail the test with what is wrong and what the author does about it."""
    pytest.fail(f"{what}: {remedy}", pytrace=False)


def chain_of(*plugins: object) -> Chain:
    """Make a chain; raises pluggy.PluginValidationError for what fits no hook."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    names = [f"{type(one).__name__}-{n}" for n, one in enumerate(plugins)]
    for name, plugin in reversed(list(zip(names, plugins, strict=True))):
        manager.register(plugin, name)
    manager.check_pending()
    return Chain(manager, names)
