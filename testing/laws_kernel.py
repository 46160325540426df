"""Laws over a plugin on a real kernel, in namespaces: they need root."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from eniplug.core.kernel import Kernel
from eniplug.hooks import (
    HOST,
    LinkState,
    Object,
    Sysctl,
)
from eniplug.hooks.errors import EniplugError
from eniplug.testing import world
from eniplug.testing.subject import Subject, broken


class KernelLaws(Subject):
    """What a plugin leaves behind."""

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
                broken(f"{wrong[0].object} is {wrong[0].found}", "CHECK would fail")
            for what in ("detach", "a second detach"):
                if said := there.call(kernel.remove, objects, pod):
                    broken(f"{what}: {said[0]}", "it must be quiet")
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
                        broken(f"step {bad} was refused unnoticed", "report a bug")


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
        broken(f"{what} a trace:\n{traces}\n", "let the core undo it")


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
