"""Whole processes: ADD and DEL as a runtime sees them, beside the CNI project's own."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Any, Final

from attrs import define, field

from bench.asked import Asked
from bench.burst import Command, Contender, Pod, Took
from bench.node import FULL, LEAN, BenchNode, a_node, room_for
from bench.tables import Held, Plot, Table, percentile

PODS: Final = 50
FEW: Final = 20
"""One by one, so many pods tell as much as all."""

AT_ONCE: Final = (1, 10, 50)
ROUNDS: Final = 9
QUICK_ROUNDS: Final = 5
CHAIN_ROUNDS: Final = 5
CHAIN_PODS: Final = 10
"""A chain of the peer's takes a third of a second."""

REST: Final = 0.5

NATIVE: Final = "eniplug"
PYTHON: Final = "eniplug, Python's executable"
PTP: Final = "ptp + host-local"
CHAIN: Final = "ptp + host-local, bandwidth, portmap"

PEER: Final[dict[str, Any]] = {
    "type": "ptp",
    "mtu": 9001,
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.200.0.0/16"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    },
}
PEER_CHAIN: Final[tuple[dict[str, Any], ...]] = (
    {**PEER, "ipMasq": True},
    {"type": "bandwidth", "capabilities": {"bandwidth": True}},
    {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
)


@define
class Times:
    """What one contender took for one command at one breadth; seconds."""

    each: list[float] = field(factory=list)
    rates: list[float] = field(factory=list)

    def note(self, took: Took) -> None:
        """Add one burst."""
        self.each += took.each
        self.rates.append(len(took.each) / took.whole)

    @property
    def p50(self) -> float:
        """The median, in milliseconds."""
        return 1e3 * median(self.each)

    @property
    def p99(self) -> float:
        """The 99th percentile, in milliseconds."""
        return percentile(self.each, 99)

    @property
    def rate(self) -> float:
        """Pods per second, the median of the bursts."""
        return median(self.rates)


Found = Mapping[tuple[Command, int, str], Times]
"""By command, breadth and contender."""


def measure(asked: Asked) -> Iterator[Table]:
    """Let all contenders have their turn in each round, one after the other."""
    with a_node(*FULL, environment=room_for(60)) as node, node.pods(PODS) as pods:
        lean = [
            node.native(NATIVE, *LEAN),
            node.python(PYTHON, *LEAN),
            node.others(PTP, PEER),
        ]
        if asked.against is not None:
            lean.append(node.stranger(asked.against, asked.path))
        yield _bursts(node, pods, lean, asked)
        yield _starts(pods, lean)
        yield _cold(node, pods, lean)
        full = (node.native(NATIVE, *FULL), node.others(CHAIN, *PEER_CHAIN))
        yield _chains(node, pods, full, asked)


# -- bursts ----------------------------------------------------------------------------


def _bursts(
    node: BenchNode, pods: Sequence[Pod], lean: Sequence[Contender], asked: Asked
) -> Table:
    breadths = AT_ONCE[::2] if asked.quick else AT_ONCE
    groups = {n: pods if n > 1 else pods[:FEW] for n in breadths}
    rounds = QUICK_ROUNDS if asked.quick else ROUNDS
    found = _compare(node, groups, lean, rounds)

    def ratio(command: Command, n: int, who: str = NATIVE) -> float:
        return found[command, n, who].p50 / found[command, n, PTP].p50

    def rates(command: Command) -> float:
        return found[command, PODS, NATIVE].rate / found[command, PODS, PTP].rate

    return Table(
        title="Whole processes: one address, a link and its routes",
        columns=COLUMNS,
        rows=_rows(found, PTP),
        note=f"Medians and percentiles of all pods of {rounds} rounds in which all "
        "took turns; pods per second is the median of the rounds. The links that a DEL "
        "of ours leaves dead are removed later, here before the next turn begins: for "
        f"{PODS} pods that takes {1e3 * _removal(node, pods, lean[0]):.0f} ms. The "
        "others have a network of their own on the same node, with no other links.",
        held=[
            Held(what=f"ADD, p50 ÷ {PTP}", bound=0.25, reached=ratio("ADD", 1)),
            Held(
                what=f"ADD by Python's executable, p50 ÷ {PTP}",
                bound=1.2,
                reached=ratio("ADD", 1, PYTHON),
            ),
            Held(
                what=f"{PODS} ADDs at once, pods per second ÷ {PTP}",
                bound=4,
                reached=rates("ADD"),
                least=True,
            ),
            Held(what=f"DEL, p50 ÷ {PTP}", bound=0.1, reached=ratio("DEL", 1)),
            Held(
                what=f"{PODS} DELs at once, pods per second ÷ {PTP}",
                bound=5,
                reached=rates("DEL"),
                least=True,
            ),
        ],
        plots=[
            Plot(
                name=f"process-{command.lower()}",
                x="pods at once",
                y=f"{command}s per second",
                lines={
                    one.name: [(n, found[command, n, one.name].rate) for n in breadths]
                    for one in lean
                },
            )
            for command in _BOTH
        ],
    )


def _removal(node: BenchNode, pods: Sequence[Pod], eniplug: Contender) -> float:
    """Return the seconds that it takes to remove what as many DELs leave dead."""
    took: list[float] = []
    for _ in range(QUICK_ROUNDS):
        eniplug.run("ADD", pods, len(pods))
        eniplug.run("DEL", pods, len(pods))
        took.append(node.calm())
    return median(took)


def _chains(
    node: BenchNode, pods: Sequence[Pod], full: Sequence[Contender], asked: Asked
) -> Table:
    some = pods[: CHAIN_PODS // 2] if asked.quick else pods[:CHAIN_PODS]
    groups = {n: some for n in AT_ONCE[: 1 if asked.quick else 2]}  # noqa: C420 - typed
    found = _compare(node, groups, full, CHAIN_ROUNDS)
    both = (found["ADD", 1, one.name].p50 for one in full)
    ours, theirs = both
    return Table(
        title="Whole processes: the full chain, with limits and one host port",
        columns=COLUMNS,
        rows=_rows(found, CHAIN),
        held=[
            Held(
                what="ADD of the full chain, p50 ÷ the peer's",
                bound=0.1,
                reached=ours / theirs,
            )
        ],
    )


_BOTH: Final[tuple[Command, Command]] = ("ADD", "DEL")


def _compare(
    node: BenchNode,
    groups: Mapping[int, Sequence[Pod]],
    contenders: Sequence[Contender],
    rounds: int,
) -> Found:
    """Run ``groups``, which are by breadth."""
    found: dict[tuple[Command, int, str], Times] = {
        (command, n, one.name): Times()
        for command in _BOTH
        for n in groups
        for one in contenders
    }
    for turn in range(rounds + 1):
        for n, pods in groups.items():
            for one in contenders:
                for command in _BOTH:
                    took = one.run(command, pods, n)
                    if turn:  # 0 warms up
                        found[command, n, one.name].note(took)
                node.calm()
    return found


COLUMNS: Final = ("", "at once", "what", "p50, ms", "p99", "per s", "p50 ÷", "rate ÷")


def _rows(found: Found, peer: str) -> list[Sequence[str]]:
    return [
        (
            command,
            str(n),
            name,
            f"{times.p50:.2f}",
            f"{times.p99:.1f}",
            f"{times.rate:.0f}",
            f"{times.p50 / found[command, n, peer].p50:.2f}",
            f"{times.rate / found[command, n, peer].rate:.1f}",
        )
        for (command, n, name), times in found.items()
    ]


# -- starts alone, and cold ------------------------------------------------------------


def _starts(pods: Sequence[Pod], lean: Sequence[Contender]) -> Table:
    """Tell what of a burst is the start of processes, and what starts them."""
    found = {(n, one.name): Times() for n in AT_ONCE for one in lean}
    for _ in range(QUICK_ROUNDS):
        for n in AT_ONCE:
            for one in lean:
                found[n, one.name].note(one.run("VERSION", pods, n))
    return Table(
        title="Whole processes: a start alone",
        columns=("at once", "what", "p50, ms", "per s"),
        rows=[
            (str(n), name, f"{times.p50:.2f}", f"{times.rate:.0f}")
            for (n, name), times in found.items()
        ],
        note="Each executable of the chain is asked for its versions, and does nothing "
        "else. What starts them takes its share, too: no burst is faster than this.",
    )


def _cold(node: BenchNode, pods: Sequence[Pod], lean: Sequence[Contender]) -> Table:
    first, others = pods[:1], pods[1:FEW]
    rows: dict[tuple[str, str], list[float]] = {}

    def note(when: str, one: Contender, some: Sequence[Pod]) -> None:
        rows.setdefault((when, one.name), []).extend(one.run("ADD", some, 1).each)
        one.run("DEL", some, 1)

    for _ in range(QUICK_ROUNDS):
        node.restart({})
        note("first after the agent's start", lean[0], first)
        for one in lean:
            time.sleep(REST)
            note(f"after {REST:g} s of rest", one, first)
            note("at once after another", one, others)
            node.calm()
    return Table(
        title="Whole processes: a cold ADD",
        columns=("when", "what", "p50, ms"),
        rows=[
            (when, name, f"{1e3 * median(took):.2f}")
            for (when, name), took in sorted(rows.items())
        ],
        note="At rest, processors sleep and caches are others'. Files stay in memory.",
    )
