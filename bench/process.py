"""Whole processes: ADD and DEL as a runtime sees them, beside the CNI project's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median
from typing import Any, Final

from bench.asked import Asked
from bench.burst import Command, Contender, Pod
from bench.node import FULL, LEAN, BenchNode, a_node, room_for
from bench.starts import cold, starts
from bench.tables import Held, Plot, Table
from bench.turns import BOTH, COLUMNS, compare, rows

PODS: Final = 50
FEW: Final = 20
"""One by one, so many pods tell as much as all."""

AT_ONCE: Final = (1, 10, 50)
ROUNDS: Final = 9
QUICK_ROUNDS: Final = 4
CHAIN_ROUNDS: Final = 5
CHAIN_PODS: Final = 10
"""A chain of the peer's takes a third of a second."""

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
        yield starts(pods, lean)
        yield cold(node, pods[:FEW], lean)
        full = (node.native(NATIVE, *FULL), node.others(CHAIN, *PEER_CHAIN))
        yield _chains(node, pods, full, asked)


def _bursts(
    node: BenchNode, pods: Sequence[Pod], lean: Sequence[Contender], asked: Asked
) -> Table:
    breadths = AT_ONCE[::2] if asked.quick else AT_ONCE
    groups = {n: pods if n > 1 else pods[:FEW] for n in breadths}
    rounds = QUICK_ROUNDS if asked.quick else ROUNDS
    found = compare(node, groups, lean, rounds)

    def ratio(command: Command, n: int, who: str = NATIVE) -> float:
        return found[command, n, who].p50 / found[command, n, PTP].p50

    def rates(command: Command) -> float:
        return found[command, PODS, NATIVE].rate / found[command, PODS, PTP].rate

    return Table(
        title="Whole processes: one address, a link and its routes",
        columns=COLUMNS,
        rows=rows(found, PTP),
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
            for command in BOTH
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
    breadths = AT_ONCE[: 1 if asked.quick else 2]
    found = compare(node, dict.fromkeys(breadths, some), full, CHAIN_ROUNDS)
    ours, theirs = (found["ADD", 1, one.name].p50 for one in full)
    return Table(
        title="Whole processes: the full chain, with limits and one host port",
        columns=COLUMNS,
        rows=rows(found, CHAIN),
        held=[
            Held(
                what="ADD of the full chain, p50 ÷ the peer's",
                bound=0.1,
                reached=ours / theirs,
            )
        ],
    )
