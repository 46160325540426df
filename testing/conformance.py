"""The laws that hold for every plugin, as tests that an author runs with one line.

    class TestMine(Conformance):
        plugin = Mine()

or ``TestMine = conformance(Mine())``.  Attributes of the class say what else differs:
the pods and the node that the hooks are called with, and which plugins stand beside.
Nothing here needs root but the tests that are marked so: they make network namespaces.
"""

from __future__ import annotations

import inspect
import json
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from pathlib import Path
from types import NoneType
from typing import Any, ClassVar, Final, NoReturn

import attrs
import pluggy
import pytest
from attrs import evolve

from eniplug.core.chain import Chain, Declaration
from eniplug.core.codec import OPTIONS
from eniplug.core.kernel import Kernel
from eniplug.core.manager import Catalogue
from eniplug.core.parts import Part
from eniplug.core.store import Store
from eniplug.hooks import (
    HOST,
    PROJECT,
    CapacityView,
    LinkState,
    NftTable,
    Node,
    Object,
    Sysctl,
    specs,
)
from eniplug.hooks.errors import EniplugError, PoolEmptyError
from eniplug.hooks.objects import KINDS
from eniplug.testing import builders, calls, world

PLAIN: Final = (
    *(bool, int, str, Enum, NoneType),
    *(IPv4Address, IPv4Interface, IPv4Network),
    *(IPv6Address, IPv6Interface, IPv6Network),
)
"""What an option may be."""

CALLS: Final = 100
"""How often a hook is called to tell what it costs, three times over."""


def _cases() -> tuple[calls.Case, ...]:
    """Make a pod with IPv4, one of the second ENI, and one with both families."""
    pods = [builders.a_pod(n, slot=n, mtu=1500) for n in range(3)]
    return (
        (pods[0], builders.an_allocation(pods[0], 0)),
        (pods[1], builders.an_allocation(pods[1], 1, builders.SECOND)),
        (pods[2], builders.a_dual_allocation(pods[2], 2)),
    )


class Conformance:
    """Laws over one plugin.  Derive, set ``plugin``, and let pytest collect it."""

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

    # -- the class ---------------------------------------------------------------------

    def test_the_plugin_is_a_frozen_attrs_class_that_compares_by_identity(self) -> None:
        """So that it may be registered twice, and nothing changes it between pods."""
        kind = type(self.plugin)
        if not attrs.has(kind):
            _broken(f"{kind.__name__} is no attrs class", "decorate it with @frozen")
        if kind.__eq__ is not object.__eq__:
            _broken(f"{kind.__name__} compares by value", "say @frozen(eq=False)")
        if kind.__setattr__ is object.__setattr__:
            _broken(f"{kind.__name__} can be changed", "say @frozen, not @define")

    def test_every_hook_asks_only_for_arguments_that_it_may_have(self) -> None:
        """As at the agent's start: unknown hooks and arguments are refused."""
        try:
            _chain(self.plugin)
        except pluggy.PluginValidationError as error:
            _broken(str(error), "see `eniplug.hooks.specs` for hooks and arguments")
        if not _marked(self.plugin):
            name = type(self.plugin).__name__
            _broken(f"{name} implements no hook", "mark its methods with @hookimpl")

    def test_every_option_has_a_default_and_is_documented(self) -> None:
        """By a docstring below the field, or by its metadata ``help``."""
        source = inspect.getsource(type(self.plugin))
        for option in attrs.fields(type(self.plugin)):
            if option.default is attrs.NOTHING:
                _broken(f"option {option.name!r} has no default", "give it one")
            below = rf'^\s+{option.name}\s*:[^"]*?(?:"[^"\n]*"[^"]*?)*^\s+"""'
            if "help" not in option.metadata and not re.search(below, source, re.M):
                remedy = "write a docstring below it, or metadata={'help': …}"
                _broken(f"option {option.name!r} is not documented", remedy)

    def test_options_come_back_from_a_conflist_as_they_are(self) -> None:
        """Bool, int, str, enums and addresses do; a list would make it unhashable."""
        kind = type(self.plugin)
        for option in attrs.fields(kind):
            value = getattr(self.plugin, option.name)
            if not isinstance(value, PLAIN):
                words = f"option {option.name!r} is a {type(value).__name__}"
                _broken(words, "use bool, int, str, an enum or an address")
        text = json.dumps(OPTIONS.unstructure(self.plugin))
        try:
            again = OPTIONS.structure(json.loads(text), kind)
        except Exception as error:  # noqa: BLE001
            _broken(f"options {text} cannot be read: {error!r}", "annotate their types")
        if attrs.astuple(again) != attrs.astuple(self.plugin):
            _broken(f"options {text} give {again}", "keep to what was written")

    # -- what it declares --------------------------------------------------------------

    def test_hooks_are_pure(self) -> None:
        """The same input gives the same objects, in any order and from any copy."""
        first = [self._declared(self.plugin, case) for case in self.cases]
        again = [self._declared(self.plugin, case) for case in reversed(self.cases)]
        copy = [self._declared(evolve(self.plugin), case) for case in self.cases]
        for other in (again[::-1], copy):
            for before, after in zip(first, other, strict=True):
                for hook in before:
                    if before[hook] != after[hook]:
                        words = f"{hook} said {before[hook]}, and later {after[hook]}"
                        _broken(words, "let it follow from the arguments alone")

    def test_hooks_do_no_input_or_output(self) -> None:
        """No file, no socket, no process: they run while a pod waits."""
        for case in self.cases:
            self._declared(self.plugin, case)  # what is imported late is so by now
            with calls.watched() as events:
                self._declared(self.plugin, case)
            if events:
                _broken(f"a hook did {events[0]}", "declare objects instead")

    def test_what_is_declared_is_valid_and_of_the_right_side(self) -> None:
        """A node has objects of side HOST; tables are the node's."""
        for one in self._node_objects():
            if not isinstance(one, KINDS):
                _broken(f"node_objects gave {one!r}, no object", "yield objects")
            if one.side is not HOST:
                _broken(f"node_objects gave {one}", "a node has no pod's side")
        for case in self.cases:
            for hook, objects in calls.pod_objects(
                self.plugin, case, self.node
            ).items():
                for one in objects:
                    self._valid(hook, one)

    def _valid(self, hook: str, one: object) -> None:
        if not isinstance(one, KINDS):
            _broken(f"{hook} gave {one!r}, which is no object", "yield objects")
        if isinstance(one, NftTable):
            _broken(f"{hook} gave table {one.name}", "declare it by node_objects")
        if isinstance(one, Sysctl) and one.side is HOST:
            _broken(f"{hook} gave {one}", "declare the node's by node_objects")

    def test_keys_are_distinct(self) -> None:
        """One key has one value, and no two pods have one host object."""
        host: dict[object, Object] = {one.key: one for one in self._node_objects()}
        for case in self.cases:
            found = Declaration()
            try:
                for hook, objects in calls.pod_objects(
                    self.plugin, case, self.node
                ).items():
                    found.add(hook, objects)
            except EniplugError as error:
                _broken(error.message, "declare each thing once")
            for one in found.objects:
                if one.side is HOST and one.key in host:
                    remedy = "compute it from the pod, or declare it by node_objects"
                    _broken(f"two pods, or a pod and the node, declare {one}", remedy)
                if one.side is HOST:
                    host[one.key] = one

    def test_what_others_declare_stays_as_it_is(self) -> None:
        """A plugin adds; it contradicts nobody, and a wrapper changes nothing."""
        others = self._others()
        for case in self.cases:
            alone = _chain(*others).declare(*case, self.node)
            try:
                together = self._objects(case)
            except EniplugError as error:
                _broken(error.message, "leave it to the other plugin")
            lost = [str(one) for one in alone if one not in together]
            if lost:
                _broken(f"it makes {lost[0]} go away", "a wrapper returns what it got")

    def test_an_allocation_is_of_what_was_taken(self) -> None:
        """An address that the pool did not give would be somebody else's."""
        hook = calls.hooks_of(self.plugin).get("allocate_ip")
        if hook is None:
            return
        for pod, _ in self.cases:
            pool = builders.a_pool()
            given = calls.call(hook, {"pod": pod, "pool": pool})
            if given is None:
                continue
            taken = {lease.address for lease in pool.taken}
            has = {a.ip for nic in given.nics for a in nic.addresses}
            if has != taken:
                _broken(
                    f"gave {_words(has)}, took {_words(taken)}", "give what it took"
                )

    def test_an_empty_pool_is_let_pass(self) -> None:
        """PoolEmptyError tells the core to wait and to ask again."""
        hook = calls.hooks_of(self.plugin).get("allocate_ip")
        if hook is None:
            return
        pod, _ = self.cases[0]
        pool = builders.a_pool(addresses=())
        try:
            given = calls.call(hook, {"pod": pod, "pool": pool})
        except PoolEmptyError:
            return
        except Exception as error:  # noqa: BLE001
            _broken(
                f"an empty pool makes it raise {error!r}", "let PoolEmptyError pass"
            )
        if given is not None:
            _broken(f"an empty pool made it give {given}", "let PoolEmptyError pass")

    # -- over time ---------------------------------------------------------------------

    def test_what_is_declared_survives_the_agents_restart(self) -> None:
        """It is written to a store, which is opened anew."""
        with tempfile.TemporaryDirectory() as folder:
            store = Store(Path(folder, "state.db"))
            wrote = [store.begin(self._part(case)) for case in self.cases]
            store.close()
            store = Store(Path(folder, "state.db"))
            read = store.parts()
            store.close()
        for before, after in zip(wrote, read, strict=True):
            if before != after:
                _broken(f"{before} came back as {after}", "use fields' own types")

    def test_no_hook_is_slow(self) -> None:
        """Each hook's p99, in processor time, is within `p99`."""
        for name, do in self._work().items():
            took = min(_p99(do) for _ in range(3))
            if took > self.p99:
                words = f"{name}: 99 of 100 calls took up to {took * 1e3:.2f} ms"
                _broken(words, f"{self.p99 * 1e3:.2f} ms are allowed (p99)")

    def _work(self) -> Mapping[str, Callable[[], object]]:
        hooks = calls.hooks_of(self.plugin)
        pod, allocation = self.cases[0]
        given = {"pod": pod, "allocation": allocation, "node": self.node}

        def calling(name: str, more: Mapping[str, object]) -> Callable[[], object]:
            return lambda: _read(calls.call(hooks[name], more))

        work: dict[str, Callable[[], object]] = {
            name: calling(name, given)
            for name in (*calls.POD_HOOKS, "node_objects")
            if name in hooks
        }
        if "plan_capacity" in hooks:
            work["plan_capacity"] = calling("plan_capacity", {"view": self.views[0]})
        return work

    # -- on a real kernel --------------------------------------------------------------

    @pytest.mark.root
    def test_attach_then_detach_leaves_the_world_as_before(self) -> None:
        """And a second detach is quiet, and the node's own objects go as well."""
        if not self._declares():
            return
        with world.a_world(self.node) as there:
            node = self._settled_node(there)
            for case in self.cases:
                self._round(there, self._objects(case), self._part(case).alias)
            there.settle(node, ())

    def _settled_node(self, there: world.World) -> tuple[Object, ...]:
        """Put the node's objects in place, having seen that they go without trace."""
        node = self._whole_node()
        before = there.snapshot()
        there.settle((), node)
        there.settle(node, ())
        _same(before, there.snapshot(), "the node's objects leave")
        there.settle((), node)
        return node

    def _round(
        self, there: world.World, objects: tuple[Object, ...], alias: str
    ) -> None:
        kernel = self.kernel()
        before = _picture(there, kernel, objects)
        with there.pod() as pod:
            there.call(kernel.apply, objects, pod, alias)
            if wrong := there.call(kernel.check, objects, pod):
                _broken(f"{wrong[0].object} is {wrong[0].found}", "CHECK would fail")
            for what in ("detach", "a second detach"):
                if said := there.call(kernel.remove, objects, pod):
                    _broken(f"{what}: {said[0]}", "it must be quiet")
        there.call(kernel.reap)
        _same(before, _picture(there, kernel, objects), "a pod leaves")

    @pytest.mark.root
    def test_a_failure_at_any_step_leaves_nothing(self) -> None:
        """Each message to the kernel is refused in turn."""
        if not self._declares():
            return
        with world.a_world(self.node) as there:
            there.settle((), self._whole_node())
            objects = self._objects(self.cases[0])
            before = _picture(there, self.kernel(), objects)
            steps = _steps(there, objects)
            with there.pod() as pod:
                for bad in range(steps):
                    kernel = self.kernel(connect=world.Refuser(bad).connect)
                    try:
                        there.call(kernel.apply, objects, pod)
                    except EniplugError:
                        after = _picture(there, kernel, objects)
                        _same(before, after, f"a failure at step {bad} leaves")
                    else:
                        _broken(f"step {bad} was refused unnoticed", "report a bug")

    # -- inside ------------------------------------------------------------------------

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
        _chain(*self._others(), self.plugin).declare_node(self.node, found)
        return found.objects

    def _objects(self, case: calls.Case) -> tuple[Object, ...]:
        return _chain(*self._others(), self.plugin).declare(*case, self.node)

    def _part(self, case: calls.Case) -> Part:
        pod, allocation = case
        return Part(
            pod=pod,
            plugins=("mine",),
            allocation=allocation,
            leased=True,
            objects=self._objects(case),
            request=bytes(16),
            made=1.0,
        )


def conformance(plugin: object, **fields: object) -> type[Conformance]:
    """Make a class of laws over a plugin, or over a plugin's class as it is made.

    ``fields`` are those of `Conformance`; name the result ``Test…``.
    """
    made = plugin() if isinstance(plugin, type) else plugin
    name = f"Test{type(made).__name__}"
    return type(name, (Conformance,), {"plugin": made, **fields})


def _broken(what: str, remedy: str) -> NoReturn:
    pytest.fail(f"{what}: {remedy}", pytrace=False)


def _chain(*plugins: object) -> Chain:
    """Make a chain; raises pluggy.PluginValidationError for what fits no hook."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    names = [f"{type(one).__name__}-{n}" for n, one in enumerate(plugins)]
    for name, plugin in reversed(list(zip(names, plugins, strict=True))):
        manager.register(plugin, name)
    manager.check_pending()
    return Chain(manager, names)


def _marked(plugin: object) -> list[str]:
    mark = f"{PROJECT}_impl"
    return [n for n in dir(type(plugin)) if hasattr(getattr(plugin, n, None), mark)]


def _read(found: Any) -> object:
    """Run a generator to its end."""
    return tuple(found) if found is not None else None


def _p99(do: Callable[[], object]) -> float:
    """Return the p99 of a call, in seconds of this thread's processor time."""
    took: list[float] = []
    for _ in range(CALLS):
        began = time.thread_time()
        do()
        took.append(time.thread_time() - began)
    return sorted(took)[CALLS * 99 // 100 - 1]


def _words(addresses: Iterable[object]) -> str:
    return ", ".join(sorted(map(str, addresses))) or "nothing"


def _picture(
    there: world.World, kernel: Kernel, objects: Iterable[Object]
) -> frozenset[str]:
    """All that a pod's objects can change of the node, in lines."""
    values = there.call(kernel.earlier, [o for o in objects if _lasts(o)])
    return there.snapshot() | {f"{key} {value}" for key, value in values.items()}


def _lasts(one: Object) -> bool:
    return isinstance(one, LinkState | Sysctl) and one.side is HOST


def _same(before: frozenset[str], after: frozenset[str], what: str) -> None:
    lines = [f"- {line}" for line in sorted(before - after)]
    lines += [f"+ {line}" for line in sorted(after - before)]
    if lines:
        traces = "\n".join(lines)
        _broken(f"{what} a trace:\n{traces}\n", "let the core undo it")


def _steps(there: world.World, objects: tuple[Object, ...]) -> int:
    """Count the messages of one ADD, and take it away again."""
    refuser = world.Refuser(bad=-1)
    kernel = Kernel(connect=refuser.connect)
    with there.pod() as pod:
        there.call(kernel.apply, objects, pod)
        steps = refuser.seen
        there.call(kernel.remove, objects, pod)
    there.call(kernel.reap)
    return steps
