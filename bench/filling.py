"""One more pod on a node that fills up, and pods that come while others go."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Final

from attrs import define

from bench.asked import Asked
from bench.burst import Contender, Pod
from bench.node import LEAN, MANY, BenchNode, a_node, room_for
from bench.tables import Held, Plot, Table, percentile

LEVELS: Final = (0, 100, 250, 500)
MORE: Final = 20
"""Pods that are added one by one on each level."""

FEW: Final = 5
"""Pods of one turn."""

WAYS: Final = 4
"""Times up and down, of which the first warms up: each level is met twice as often."""

Both = tuple[list[float], list[float]]

CHURN: Final = 25
CHURN_ROUNDS: Final = 15
QUICK_CHURN_ROUNDS: Final = 7


@define(eq=False)
class Side:
    """A node, and its pods; the first `MORE` of them come and go."""

    node: BenchNode
    pods: Sequence[Pod]
    there: int = 0

    def fill(self, level: int) -> None:
        """Add or remove pods until so many are there."""
        others = self.pods[MORE:]
        if level > self.there:
            self._eniplug.run("ADD", others[self.there : level], 10)
        elif level < self.there:
            self._eniplug.run("DEL", others[level : self.there], 10)
        self.there = level

    def add(self, first: int) -> Sequence[float]:
        """Add a few pods one by one; returns each one's seconds."""
        return self._eniplug.run("ADD", self.pods[first : first + FEW], 1).each

    def clear(self) -> None:
        """Remove what `add` has added."""
        self._eniplug.run("DEL", self.pods[:MORE], 1)
        self.node.calm()

    @property
    def _eniplug(self) -> Contender:
        return self.node.native("eniplug", *MANY)


def measure(asked: Asked) -> Iterator[Table]:
    """Fill a node and empty it again, a few times; an empty one takes turns with it."""
    levels = (LEVELS[0], LEVELS[-1]) if asked.quick else LEVELS
    most = levels[-1] + MORE
    with ExitStack() as stack:
        sides: list[Side] = []
        for name, count in (("full", most), ("none", MORE)):
            made = a_node(*MANY, environment=room_for(most), name=name)
            one = stack.enter_context(made)
            sides.append(Side(one, stack.enter_context(one.pods(count))))
        full, none = sides
        found = _levels(full, none, levels)
    times = {n: 1e3 * median(mine) for n, (mine, _) in found.items()}
    ratios = {n: median(mine) / median(none) for n, (mine, none) in found.items()}
    yield Table(
        title="Whole processes: one ADD on a node that has pods already",
        columns=("pods there", "ADD p50, ms", "÷ a node with none"),
        rows=[(f"{n}", f"{times[n]:.2f}", f"{ratios[n]:.2f}") for n in levels],
        note=f"With prefixes; each level is met {2 * (WAYS - 1)} times, on the way up "
        f"and on the way down, for {MORE} pods. A second node stays empty, and takes "
        f"turns of {FEW} pods with the one that fills up: ratios are to its median.",
        held=[
            Held(
                what=f"ADD at {levels[-1]} pods, p50 ÷ at none",
                bound=1.2,
                reached=ratios[levels[-1]],
            )
        ],
        plots=[
            Plot(
                name="filling",
                x="pods on the node",
                y="an ADD ÷ one on a node with none",
                lines={"eniplug": list(ratios.items())},
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


def _levels(full: Side, none: Side, levels: Sequence[int]) -> Mapping[int, Both]:
    """Return for each level all seconds of both sides, which take turns."""
    found: dict[int, Both] = {level: ([], []) for level in levels}
    for way in range(WAYS):
        for level in (*levels, *reversed(levels)):
            full.fill(level)
            mine, nones = found[level]
            for first in range(0, MORE, FEW):
                came, others = full.add(first), none.add(first)
                if way:  # 0 warms up
                    mine += came
                    nones += others
            full.clear()
            none.clear()
    return found


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
