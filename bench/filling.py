"""One more pod on a node that fills up, and pods that come while others go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Final

from bench.asked import Asked
from bench.burst import Contender, Pod
from bench.node import LEAN, MANY, BenchNode, a_node, room_for
from bench.tables import Held, Plot, Table, percentile

LEVELS: Final = (0, 100, 250, 500)
MORE: Final = 20
"""Pods that are added one by one on each level."""

WAYS: Final = 3
"""Times up and down: each level is met twice as often."""

CHURN: Final = 25
CHURN_ROUNDS: Final = 15
QUICK_CHURN_ROUNDS: Final = 7


def measure(asked: Asked) -> Iterator[Table]:
    """Fill a node and empty it again, a few times."""
    levels = (LEVELS[0], LEVELS[-1]) if asked.quick else LEVELS
    most = levels[-1] + MORE
    with a_node(*MANY, environment=room_for(most)) as node, node.pods(most) as pods:
        found = _levels(node, pods, levels)
    times = {level: 1e3 * median(took) for level, took in found.items()}
    yield Table(
        title="Whole processes: one ADD on a node that has pods already",
        columns=("pods there", "ADD p50, ms", "÷ at none"),
        rows=[(f"{n}", f"{t:.2f}", f"{t / times[0]:.2f}") for n, t in times.items()],
        note=f"With prefixes; each level is met {2 * WAYS} times, on the way up and "
        "on the way down.",
        held=[
            Held(
                what=f"ADD at {levels[-1]} pods, p50 ÷ at none",
                bound=1.2,
                reached=times[levels[-1]] / times[0],
            )
        ],
        plots=[
            Plot(
                name="filling",
                x="pods on the node",
                y="p50 of an ADD, ms",
                lines={"eniplug": list(times.items())},
            )
        ],
    )
    rounds = QUICK_CHURN_ROUNDS if asked.quick else CHURN_ROUNDS
    room = room_for(2 * CHURN + 10)
    with a_node(*LEAN, environment=room) as node, node.pods(2 * CHURN) as pods:
        alone, amid = _churn(node, pods, rounds)
    yield Table(
        title=f"Whole processes: {CHURN} ADDs, one after the other",
        columns=("beside them", "p50, ms", "p99, ms"),
        rows=[("nothing", *_told(alone)), (f"{CHURN} DELs", *_told(amid))],
        note=f"All ADDs of {rounds} rounds.",
        held=[
            Held(
                what=f"p99 of {CHURN} ADDs amid {CHURN} DELs ÷ alone",
                bound=1.5,
                reached=percentile(amid, 99) / percentile(alone, 99),
            )
        ],
    )


def _levels(
    node: BenchNode, pods: Sequence[Pod], levels: Sequence[int]
) -> Mapping[int, Sequence[float]]:
    """Measure on the way up and on the way down: what else goes on changes slowly."""
    eniplug = node.native("eniplug", *MANY)
    more, others = pods[:MORE], pods[MORE:]
    found: dict[int, list[float]] = {level: [] for level in levels}
    there = 0
    eniplug.run("ADD", more, 1)  # warms up
    eniplug.run("DEL", more, 1)
    for level in (*levels, *reversed(levels)) * WAYS:
        _fill(eniplug, others, there, level)
        there = level
        node.calm()
        found[level] += eniplug.run("ADD", more, 1).each
        eniplug.run("DEL", more, 1)
    return found


def _fill(eniplug: Contender, pods: Sequence[Pod], there: int, level: int) -> None:
    if level > there:
        eniplug.run("ADD", pods[there:level], 10)
    elif level < there:
        eniplug.run("DEL", pods[level:there], 10)


def _churn(
    node: BenchNode, pods: Sequence[Pod], rounds: int
) -> tuple[list[float], list[float]]:
    eniplug = node.native("eniplug", *LEAN)
    old, new = pods[:CHURN], pods[CHURN:]
    alone: list[float] = []
    amid: list[float] = []
    for turn in range(rounds + 1):
        node.calm()
        came = eniplug.run("ADD", old, 1).each
        crossed = eniplug.add_amid(new, old)
        eniplug.run("DEL", new, 10)
        if turn:  # 0 warms up
            alone += came
            amid += crossed
    return alone, amid


def _told(took: Sequence[float]) -> tuple[str, str]:
    return f"{1e3 * median(took):.2f}", f"{percentile(took, 99):.1f}"
