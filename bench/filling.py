"""One more pod on a node that fills up, and pods that come while others go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from statistics import median, quantiles
from typing import Final

from bench.burst import Contender, Pod
from bench.node import LEAN, MANY, BenchNode, a_node
from bench.tables import Table

LEVELS: Final = (0, 100, 250, 500)
MORE: Final = 20
"""Pods that are added one by one on each level."""

HOLD: Final = 1.2

CHURN: Final = 25
CHURN_HOLD: Final = 1.5


def measure(rounds: int) -> Iterator[Table]:
    """Fill a node and empty it again, as often as there is time for."""
    levels = LEVELS if rounds > 5 else LEVELS[:2]  # noqa: PLR2004
    most = levels[-1] + MORE
    many = {
        "MINIMUM_IP_TARGET": str(most),
        "WARM_IP_TARGET": "1",
        "ENIPLUG_MAX_PODS": str(most),
    }
    with a_node(*MANY, environment=many) as node, node.pods(most) as pods:
        found = _levels(node, pods, levels, max(1, rounds // 5))
    times = {level: 1e3 * median(took) for level, took in found.items()}
    yield Table(
        title="Whole processes: one ADD on a node that has pods already",
        columns=("pods there", "ADD p50, ms", "÷ at none"),
        rows=[(f"{n}", f"{t:.2f}", f"{t / times[0]:.2f}") for n, t in times.items()],
        hold=f"To hold: {levels[-1]} pods ÷ none at most {HOLD:g}. "
        f"Reached: {times[levels[-1]] / times[0]:.2f}.",
    )
    warm = {"MINIMUM_IP_TARGET": "60", "WARM_IP_TARGET": "1"}
    with a_node(*LEAN, environment=warm) as node, node.pods(2 * CHURN) as pods:
        alone, amid = _churn(node, pods, rounds)
    yield Table(
        title=f"Whole processes: {CHURN} ADDs, one after the other",
        columns=("beside them", "p50, ms", "p99, ms"),
        rows=[("nothing", *_told(alone)), (f"{CHURN} DELs", *_told(amid))],
        hold=f"To hold: p99 amid DELs ÷ p99 alone at most {CHURN_HOLD:g}. "
        f"Reached: {_p99(amid) / _p99(alone):.2f}.",
    )


def _levels(
    node: BenchNode, pods: Sequence[Pod], levels: Sequence[int], rounds: int
) -> Mapping[int, Sequence[float]]:
    """Measure on the way up and on the way down: what else goes on changes slowly."""
    eniplug = node.native("eniplug", *MANY)
    more, others = pods[:MORE], pods[MORE:]
    found: dict[int, list[float]] = {level: [] for level in levels}
    there = 0
    eniplug.run("ADD", more, 1)  # warms up
    eniplug.run("DEL", more, 1)
    for level in (*levels, *reversed(levels)) * rounds:
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
    for _ in range(rounds):
        node.calm()
        alone += eniplug.run("ADD", old, 1).each
        amid += eniplug.add_amid(new, old)
        eniplug.run("DEL", new, 10)
    return alone, amid


def _p99(took: Sequence[float]) -> float:
    """Return milliseconds."""
    return 1e3 * quantiles(took, n=100, method="inclusive")[98]


def _told(took: Sequence[float]) -> tuple[str, str]:
    return f"{1e3 * median(took):.2f}", f"{_p99(took):.1f}"
