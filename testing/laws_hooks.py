"""Laws over what a plugin declares, takes and costs."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from ipaddress import ip_network
from pathlib import Path
from typing import Any, Final

from attrs import evolve

from eniplug.core.chain import Caller, Declaration
from eniplug.core.guard import Conduct
from eniplug.core.hands import Doing
from eniplug.core.store import Store
from eniplug.hooks import (
    HOST,
    POD,
    Ip,
    NftTable,
    Object,
    Sysctl,
)
from eniplug.hooks.errors import EniplugError, PoolEmptyError
from eniplug.hooks.objects import KINDS
from eniplug.testing import builders, calls
from eniplug.testing.subject import Subject, broken, chain_of

CALLS: Final = 100
"""How often a hook is called to tell what it costs, three times over."""


def _owner(hook: str) -> Caller:
    """Whom a contradiction names: the hooks of one plugin are held to each other."""
    return Caller(Doing(hook, hook), tuple, Conduct(hook, time.monotonic), ours=True)


class HookLaws(Subject):
    """What a plugin's hooks do."""

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
                        broken(words, "let it follow from the arguments alone")

    def test_hooks_do_no_input_or_output(self) -> None:
        """No file, no socket, no process: they run while a pod waits."""
        for case in self.cases:
            self._declared(self.plugin, case)  # what is imported late is so by now
            with calls.watched() as events:
                self._declared(self.plugin, case)
            if events:
                broken(f"a hook did {events[0]}", "declare objects instead")

    def test_what_is_declared_is_valid_and_of_the_right_side(self) -> None:
        """A node has objects of side HOST; tables are the node's."""
        for one in self._node_objects():
            if not isinstance(one, KINDS):
                broken(f"node_objects gave {one!r}, no object", "yield objects")
            if one.side is not HOST:
                broken(f"node_objects gave {one}", "a node has no pod's side")
        for case in self.cases:
            for hook, objects in calls.pod_objects(
                self.plugin, case, self.node
            ).items():
                for one in objects:
                    self._valid(hook, one)

    def _valid(self, hook: str, one: object) -> None:
        if not isinstance(one, KINDS):
            broken(f"{hook} gave {one!r}, which is no object", "yield objects")
        if isinstance(one, NftTable):
            broken(f"{hook} gave table {one.name}", "declare it by node_objects")
        if isinstance(one, Sysctl) and one.side is HOST:
            broken(f"{hook} gave {one}", "declare the node's by node_objects")

    def test_keys_are_distinct(self) -> None:
        """One key has one value, and no two pods have one object outside of them."""
        outside: dict[object, Object] = {o.key: o for o in self._node_objects()}
        for case in self.cases:
            found = Declaration()
            try:
                for hook, objects in calls.pod_objects(
                    self.plugin, case, self.node
                ).items():
                    found.add(_owner(hook), objects)
            except EniplugError as error:
                broken(error.message, "declare each thing once")
            for one in found.objects:
                if one.side is not POD and one.key in outside:
                    remedy = "compute it from the pod, or declare it by node_objects"
                    broken(f"two pods, or a pod and the node, declare {one}", remedy)
                if one.side is not POD:
                    outside[one.key] = one

    def test_what_others_declare_stays_as_it_is(self) -> None:
        """A plugin adds; it contradicts nobody, and a wrapper changes nothing."""
        others = self._others()
        for case in self.cases:
            alone = chain_of(*others).declare(*case, self.node)
            try:
                together = self._objects(case)
            except EniplugError as error:
                broken(error.message, "leave it to the other plugin")
            lost = [str(one) for one in alone if one not in together]
            if lost:
                broken(f"it makes {lost[0]} go away", "a wrapper returns what it got")

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
                broken(f"gave {_words(has)}, took {_words(taken)}", "give what it took")

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
            broken(f"an empty pool makes it raise {error!r}", "let PoolEmptyError pass")
        if given is not None:
            broken(f"an empty pool made it give {given}", "let PoolEmptyError pass")

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
                broken(f"{before} came back as {after}", "use fields' own types")

    def test_no_hook_is_slow(self) -> None:
        """Each hook's p99, in processor time, is within `p99`."""
        for name, do in self._work().items():
            took = min(_p99(do) for _ in range(3))
            if took > self.p99:
                words = f"{name}: 99 of 100 calls took up to {took * 1e3:.2f} ms"
                broken(words, f"{self.p99 * 1e3:.2f} ms are allowed (p99)")

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
        if "allocate_ip" in hooks:
            pool = builders.a_pool(addresses=_many())
            desk = {"pod": pod, "pool": pool}
            work["allocate_ip"] = lambda: calls.call(hooks["allocate_ip"], desk)
        return work


def _many() -> Iterator[Ip]:
    """Addresses of each family for more calls than there are."""
    for net in ("10.0.8.0/21", "2001:db8::8:0/117"):
        yield from ip_network(net)


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
