"""The traffic matrix: what must pass, as whom, and what must not."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from typing import Any, Final

from attrs import frozen

from eniplug.cni.conflist import load_conflist
from eniplug.lab import meter, probes, tools
from eniplug.lab.control import ask
from eniplug.lab.errors import LabError
from eniplug.lab.fabric import MTU
from eniplug.lab.internet import ADDRESS, ADDRESS6
from eniplug.lab.names import Names
from eniplug.lab.netns import Inside
from eniplug.lab.node import CONFLIST

UNHELD: Final = {4: "203.0.113.99", 6: "2001:db8:ffff::99"}
"""Sources that no ENI holds."""

OUTSIDE: Final = {4: str(ADDRESS), 6: ADDRESS6}
"""The host on the internet."""

NODE_PORT: Final = 30080
MOST_PODS: Final = 60
"""Pods that are added, at most, to come to one of a secondary ENI."""

HOST_PORT: Final = 30081
CONTAINER_PORT: Final = 8081
_MAPPING: Final = {
    "HostPort": HOST_PORT,
    "ContainerPort": CONTAINER_PORT,
    "Protocol": "TCP",
    "HostIP": "",
}

INTO: Final = 20_000_000
OUT_OF: Final = 10_000_000
"""Bits per second that the limited pod may receive and send."""

WITHIN: Final = 0.05
"""How far from what was asked a rate may be."""

_SPEND: Final = 0.4
_MEASURE: Final = 0.8
_MORE_TRIES: Final = 3
"""A rate: seconds until the burst is spent, seconds that are counted, more tries."""

_BATCH: Final = 20
_INNER: Final = (ip_network("169.254.0.0/16"), ip_network("fd00::/8"))
"""Addresses by which a pod goes out and is never reached."""


@frozen
class Finding:
    """One thing that was tried; ``cell`` is its line in the matrix."""

    cell: str
    holds: bool
    note: str = ""


@frozen
class Place:
    """A pod or a node, from the inside; one address of each family that it has."""

    name: str
    addresses: dict[int, str]
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
            nodes = status["nodes"][:2]
            self._nodes = [self._node(node, undo) for node in nodes]
            self._public = [node["public"] for node in nodes]
            first, *others = (node["number"] for node in nodes)
            self._near = self._pods(["verify-a", "verify-b"], first, undo)
            self._far = self._pods(["verify-c"], others[0], undo) if others else []
            self._port, self._slow = self._special(first, undo)
            self._beyond = self._on_another_eni(first, undo)
            self._undo = undo.pop_all()
        return self

    def __exit__(self, *error: object) -> None:
        self._undo.close()

    # -- pods --------------------------------------------------------------------------

    def _remove(self) -> None:
        pods = [pod["name"] for pod in ask(self._names, "status")["pods"]]
        mine = [name for name in pods if name.startswith("verify-")]
        for answer in ask(self._names, "pod-rm", pods=mine):
            _raise(answer)

    def _pods(
        self, names: Sequence[str], node: int, undo: ExitStack, **more: Any
    ) -> list[Place]:
        for answer in ask(self._names, "pod-add", pods=names, node=node, **more):
            _raise(answer)
        found = ask(self._names, "status")["pods"]
        return [_pod(pod, undo) for pod in found if pod["name"] in names]

    def _node(self, node: dict[str, Any], undo: ExitStack) -> Place:
        own6 = node["enis"][0]["addresses6"][:1]
        addresses = [node["address"], *own6]
        return _place(f"node{node['number']}", addresses, node["namespace"], undo)

    def _on_another_eni(self, node: int, undo: ExitStack) -> Place | None:
        """Add pods until one is of a secondary ENI; None if that takes too many."""
        if 4 not in self._near[0].addresses:  # noqa: PLR2004
            return None  # a /80 of the primary ENI serves every pod
        for start in range(0, MOST_PODS, _BATCH):
            more = [f"verify-more-{start + number}" for number in range(_BATCH)]
            answers = ask(self._names, "pod-add", pods=more, node=node)
            status = ask(self._names, "status")
            enis = next(n["enis"] for n in status["nodes"] if n["number"] == node)
            for pod in status["pods"]:
                address = _family(pod["addresses"], 4)
                if pod["name"] in more and any(_holds(e, address) for e in enis[1:]):
                    return _pod(pod, undo)
            if any("error" in answer for answer in answers):
                break  # the node is full
        return None

    def _special(self, node: int, undo: ExitStack) -> tuple[Place | None, Place | None]:
        """Add a pod with a port of the node, and one with limits, if the conflist can.

        None where no entry of it asks for what the runtime would tell.
        """
        can = self._capabilities(node)
        ask_for: dict[str, dict[str, Any]] = {
            "portMappings": {"ports": [_MAPPING]},
            "bandwidth": {"bandwidth": (INTO, OUT_OF)},
        }
        made: list[Place | None] = []
        for capability, more in ask_for.items():
            if capability not in can:
                made.append(None)
                continue
            name = f"verify-{capability.lower()}"
            made += self._pods([name], node, undo, **more)
        port, slow = made
        return port, slow

    def _capabilities(self, node: int) -> frozenset[str]:
        """What the node's conflist has the runtime tell its plugins."""
        where = ask(self._names, "where", target=f"node{node}")
        view = os.open(where["view"], os.O_RDONLY | os.O_CLOEXEC)
        inside = Inside(where["namespace"], view)
        try:
            entries = inside.call(load_conflist, CONFLIST).plugins
        finally:
            inside.close()
            os.close(view)
        told = (entry.get("capabilities", {}) for entry in entries)
        return frozenset(name for one in told for name in one if one[name])

    # -- trying ------------------------------------------------------------------------

    def findings(self) -> Iterator[Finding]:
        """Try everything, one after the other."""
        for family in sorted(self._near[0].addresses):
            yield from self._within(family)
            yield from self._whole(family)
            yield from self._forged(family)
        for family in (4, 6):
            yield from self._outward(family)
        yield from self._inward()
        yield from self._host_port()
        yield from self._node_port()
        yield from self._rates()

    def _within(self, family: int) -> Iterator[Finding]:
        one, two = self._near
        pairs = [("pod → pod, same node", one, two)]
        if self._beyond is not None:
            pairs += [("pod → pod, other ENI", one, self._beyond)]
            pairs += [("pod → pod, other ENI", self._beyond, one)]
        pairs += [("pod → node", one, self._nodes[0])]
        pairs += [("node → pod", self._nodes[0], one)]
        for far in self._far:
            pairs += [("pod → pod, other node", one, far)]
            pairs += [("pod → pod, other node", far, one)]
            pairs += [("pod → node", one, self._nodes[1])]
            pairs += [("node → pod", self._nodes[0], far)]
        for cell, source, target in pairs:
            if family in source.addresses and family in target.addresses:
                yield _reach(cell, source, target, family)

    def _whole(self, family: int) -> Iterator[Finding]:
        one, two = self._near
        far = self._far[0] if self._far else two
        whole = one.inside.call(probes.ping, far.addresses[family], MTU)
        yield Finding(f"{MTU} bytes whole", whole, f"{one.name} → {far.name}")

    def _forged(self, family: int) -> Iterator[Finding]:
        for far in self._far:
            for source in (self._near[0], self._nodes[0]):
                if family in source.addresses:
                    yield _forged(source, far, family)

    def _outward(self, family: int) -> Iterator[Finding]:
        """Everybody reaches the internet: by IPv4 as the node, by IPv6 as themselves.

        A pod without an address of IPv6 that has a way out by it goes as the node.
        """
        beyond = [self._beyond] if self._beyond is not None else []
        places = [*self._near, *beyond, *self._far, *self._nodes]
        homes = [0, 0, *(0 for _ in beyond), *(1 for _ in self._far), 0, 1]
        for place, home in zip(places, homes, strict=False):
            node = self._nodes[home]
            if family == 4:  # noqa: PLR2004
                wanted = self._public[home]
            else:
                wanted = place.addresses.get(6) or node.addresses.get(6)
            if not place.inside.call(probes.has_route, OUTSIDE[family]):
                continue
            seen = place.inside.call(probes.fetch, OUTSIDE[family])
            kind = "node" if place in self._nodes else "pod"
            note = f"{place.name} is seen as {seen}"
            yield Finding(f"{kind} → internet", seen == wanted, note)

    def _inward(self) -> Iterator[Finding]:
        outside = Inside(self._names.internet)
        try:
            for node, public in zip(self._nodes, self._public, strict=True):
                holds = outside.call(probes.ping, public)
                yield Finding("internet → node", holds, f"{node.name}, {public}")
        finally:
            outside.close()

    def _host_port(self) -> Iterator[Finding]:
        """A port of the node leads to its pod, which sees who called."""
        if self._port is None:
            return
        outside, pod, node = Inside(self._names.internet), self._port, self._nodes[0]
        ways = {4: self._public[0], 6: node.addresses.get(6)}
        try:
            for family in pod.addresses:
                seen = outside.call(probes.ask, str(ways[family]), HOST_PORT)
                note = f"internet → {node.name} → {pod.name}, seen as {seen}"
                yield Finding("internet → host port", seen == OUTSIDE[family], note)
        finally:
            outside.close()

    def _rates(self) -> Iterator[Finding]:
        """What a limited pod receives and sends, both at the same time."""
        if self._slow is None:
            return
        slow, other = self._slow, self._near[0]
        found = _measured(slow, other)
        for _ in range(_MORE_TRIES):  # the machine may be too busy to send as fast
            if all(abs(rate / asked - 1) <= WITHIN for asked, rate in found.values()):
                break
            found = _measured(slow, other)
        for cell, (asked, rate) in found.items():
            note = f"{rate / 1e6:.2f} Mbit/s where {asked / 1e6:.0f} were asked"
            yield Finding(cell, abs(rate / asked - 1) <= WITHIN, note)

    def _node_port(self) -> Iterator[Finding]:
        """What arrives on the primary ENI for a pod of another goes back that way."""
        if self._beyond is None:
            return
        node, pod, outside = self._nodes[0], self._beyond, Inside(self._names.internet)
        table = f"table ip {self._names.lab}-verify"
        target = f"{pod.addresses[4]}:{pod.mirror.port}"
        node.inside.call(
            tools.nft,
            f"""{table} {{
  chain in {{
    type nat hook prerouting priority dstnat;
    tcp dport {NODE_PORT} dnat to {target}
  }}
}}""",
        )
        try:
            seen = outside.call(probes.ask, self._public[0], NODE_PORT)
        finally:
            node.inside.call(tools.nft, f"delete {table}")
            outside.close()
        note = f"internet → {node.name} → {pod.name}, seen as {seen}"
        yield Finding("node port → pod of another ENI", seen == str(ADDRESS), note)


def _raise(answer: dict[str, Any]) -> None:
    if "error" in answer:
        error = answer["error"]
        raise LabError(f"{answer['name']}: {error['msg']}", error.get("details", ""))


def _family(addresses: Sequence[str], family: int) -> str:
    """The first address of a family by which its holder can be reached; or ""."""
    for text in addresses:
        address = ip_address(text)
        inner = any(address in network for network in _INNER)
        if address.version == family and not inner:
            return text
    return ""


def _holds(eni: dict[str, Any], address: str) -> bool:
    blocks = (*eni["addresses"], *eni["prefixes"])
    return any(ip_address(address) in ip_network(block) for block in blocks)


def _pod(pod: dict[str, Any], undo: ExitStack) -> Place:
    where = pod["namespace"]
    return _place(pod["name"], pod["addresses"], where, undo, CONTAINER_PORT)


def _place(
    name: str,
    addresses: Sequence[str],
    namespace: str,
    undo: ExitStack,
    port: int = 0,
) -> Place:
    inside = Inside(namespace)
    undo.callback(inside.close)
    mirror = inside.call(probes.Mirror, port)
    undo.callback(mirror.close)
    found = {family: _family(addresses, family) for family in (4, 6)}
    return Place(name, {f: a for f, a in found.items() if a}, inside, mirror)


def _reach(cell: str, source: Place, target: Place, family: int) -> Finding:
    """Ping and connect; inside the VPC the source must stay as it is."""
    address = target.addresses[family]
    pinged = source.inside.call(probes.ping, address)
    seen = source.inside.call(probes.ask, address, target.mirror.port)
    note = f"{source.name} → {target.name}, seen as {seen}"
    return Finding(cell, pinged and seen == source.addresses[family], note)


def _measured(slow: Place, other: Place) -> dict[str, tuple[float, float]]:
    """Return, for each way, what was asked and what passed, in bits per second."""
    with ExitStack() as undo:
        sinks: list[meter.Sink] = []
        ways = ((other, slow, INTO), (slow, other, OUT_OF))
        for source, target, asked in ways:
            sink = target.inside.call(meter.Sink)
            undo.callback(sink.close)
            address = next(iter(target.addresses.values()))
            stream = source.inside.call(meter.Stream, address, sink.port, 2 * asked)
            undo.callback(stream.close)
            sinks.append(sink)
        time.sleep(_SPEND)
        with ThreadPoolExecutor() as threads:
            into, out_of = threads.map(lambda sink: sink.rate(_MEASURE), sinks)
    return {"limit, to the pod": (INTO, into), "limit, from the pod": (OUT_OF, out_of)}


def _forged(source: Place, target: Place, family: int) -> Finding:
    catcher = target.inside.call(probes.Catcher)
    address = target.addresses[family]
    try:
        send: Callable[..., None] = probes.forge_and_send
        source.inside.call(send, UNHELD[family], address, catcher.port)
        first = catcher.first()
    finally:
        catcher.close()
    got = first.decode() if first else "nothing"
    note = f"of {source.name}; {target.name} got: {got}"
    return Finding("forged source is dropped", first == b"honest", note)
