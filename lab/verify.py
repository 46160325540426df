"""The traffic matrix: what must pass, as whom, and what must not."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

from attrs import frozen

from eniplug.lab import probes
from eniplug.lab.control import ask
from eniplug.lab.errors import LabError
from eniplug.lab.fabric import MTU
from eniplug.lab.internet import ADDRESS
from eniplug.lab.names import Names
from eniplug.lab.netns import Inside

UNHELD = "203.0.113.99"
"""A source that no ENI holds."""


@frozen
class Finding:
    """One line of the matrix."""

    what: str
    holds: bool
    note: str = ""


@frozen
class Place:
    """A pod or a node, from the inside."""

    name: str
    address: str
    inside: Inside
    mirror: probes.Mirror


class Matrix:
    """Temporary pods on one or two nodes, and everything tried between them."""

    def __init__(self, names: Names) -> None:
        self._names = names
        self._undo = ExitStack()

    def __enter__(self) -> Matrix:
        with ExitStack() as undo:
            status = ask(self._names, "status")
            undo.callback(self._remove)
            self._remove()
            self._nodes = [self._node(node, undo) for node in status["nodes"][:2]]
            self._public = [node["public"] for node in status["nodes"][:2]]
            first, *others = (node["number"] for node in status["nodes"][:2])
            self._near = self._pods(["verify-a", "verify-b"], first, undo)
            self._far = self._pods(["verify-c"], others[0], undo) if others else []
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    def _remove(self) -> None:
        pods = [pod["name"] for pod in ask(self._names, "status")["pods"]]
        mine = [name for name in pods if name.startswith("verify-")]
        for answer in ask(self._names, "pod-rm", pods=mine):
            _raise(answer)

    def _pods(self, names: list[str], node: int, undo: ExitStack) -> list[Place]:
        answers = ask(self._names, "pod-add", pods=names, node=node)
        for answer in answers:
            _raise(answer)
        found = ask(self._names, "status")["pods"]
        return [
            _place(pod["name"], pod["addresses"][0], pod["namespace"], undo)
            for pod in found
            if pod["name"] in names
        ]

    def _node(self, node: dict[str, Any], undo: ExitStack) -> Place:
        name = f"node{node['number']}"
        return _place(name, node["address"], node["namespace"], undo)

    # ----------------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """Try everything, one after the other."""
        one, two = self._near
        pairs = [("pod → pod, same node", one, two)]
        pairs += [("pod → its node", one, self._nodes[0])]
        pairs += [("node → its pod", self._nodes[0], one)]
        for far in self._far:
            pairs += [("pod → pod, other node", one, far)]
            pairs += [("pod → pod, other node", far, one)]
            pairs += [("pod → other node", one, self._nodes[1])]
            pairs += [("node → pod, other node", self._nodes[0], far)]
        for what, source, target in pairs:
            yield _reach(what, source, target)
        places = [*self._near, *self._far, *self._nodes]
        homes = [0, 0, *(1 for _ in self._far), *range(len(self._nodes))]
        for place, home in zip(places, homes, strict=True):
            yield self._outward(place, home)
        yield from self._inward()
        far = self._far[0] if self._far else two
        whole = one.inside.call(probes.ping, far.address, MTU)
        yield Finding(f"{MTU} bytes whole, {one.name} → {far.name}", whole)
        if self._far:
            yield _forged(one, far)
            yield _forged(self._nodes[0], far)

    def _outward(self, place: Place, home: int) -> Finding:
        seen = place.inside.call(probes.fetch, str(ADDRESS))
        what = f"{place.name} → internet, as its node's public address"
        return Finding(what, seen == self._public[home], f"seen as {seen}")

    def _inward(self) -> Iterator[Finding]:
        outside = Inside(self._names.internet)
        try:
            for node, public in zip(self._nodes, self._public, strict=True):
                holds = outside.call(probes.ping, public)
                yield Finding(f"internet → {node.name}'s public address", holds, public)
        finally:
            outside.close()


def _raise(answer: dict[str, Any]) -> None:
    if "error" in answer:
        error = answer["error"]
        raise LabError(f"{answer['name']}: {error['msg']}", error.get("details", ""))


def _place(name: str, address: str, namespace: str, undo: ExitStack) -> Place:
    inside = Inside(namespace)
    undo.callback(inside.close)
    mirror = inside.call(probes.Mirror)
    undo.callback(mirror.close)
    return Place(name, address, inside, mirror)


def _reach(what: str, source: Place, target: Place) -> Finding:
    """Ping and connect; inside the VPC the source must stay as it is."""
    pinged = source.inside.call(probes.ping, target.address)
    seen = source.inside.call(probes.ask, target.address, target.mirror.port)
    note = f"{source.name} → {target.name}, seen as {seen}"
    return Finding(what, pinged and seen == source.address, note)


def _forged(source: Place, target: Place) -> Finding:
    catcher = target.inside.call(probes.Catcher)
    try:
        send: Callable[..., None] = probes.forge_and_send
        source.inside.call(send, UNHELD, target.address, catcher.port)
        first = catcher.first()
    finally:
        catcher.close()
    what = f"a forged source of {source.name} is dropped"
    got = first.decode() if first else "nothing"
    return Finding(what, first == b"honest", f"{target.name} got: {got}")
