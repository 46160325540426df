"""Processes that only start, and ADDs that come cold."""

from __future__ import annotations

import time
from collections.abc import Sequence
from statistics import median
from typing import Final

from bench.burst import Contender, Pod
from bench.node import BenchNode
from bench.tables import Table
from bench.turns import Times

ROUNDS: Final = 5
AT_ONCE: Final = (1, 10, 50)
REST: Final = 0.5
"""Seconds."""


def starts(pods: Sequence[Pod], lean: Sequence[Contender]) -> Table:
    """Tell what of a burst is the start of processes, and what starts them."""
    found = {(n, one.name): Times() for n in AT_ONCE for one in lean}
    for _ in range(ROUNDS):
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


def cold(node: BenchNode, pods: Sequence[Pod], lean: Sequence[Contender]) -> Table:
    """Tell what an ADD takes after a restart, and after a rest."""
    first, others = pods[:1], pods[1:]
    rows: dict[tuple[str, str], list[float]] = {}

    def note(when: str, one: Contender, some: Sequence[Pod]) -> None:
        rows.setdefault((when, one.name), []).extend(one.run("ADD", some, 1).each)
        one.run("DEL", some, 1)

    for _ in range(ROUNDS):
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
