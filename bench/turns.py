"""Contenders that take turns, and how they are compared."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Final

from attrs import define, field

from bench.burst import Command, Contender, Pod, Took
from bench.node import BenchNode
from bench.tables import percentile


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

BOTH: Final[tuple[Command, Command]] = ("ADD", "DEL")


def compare(
    node: BenchNode,
    groups: Mapping[int, Sequence[Pod]],
    contenders: Sequence[Contender],
    rounds: int,
) -> Found:
    """Let all have their turn in each round, one after the other.

    ``groups`` are the pods for each breadth.
    """
    found: dict[tuple[Command, int, str], Times] = {
        (command, n, one.name): Times()
        for command in BOTH
        for n in groups
        for one in contenders
    }
    for turn in range(rounds + 1):
        for n, pods in groups.items():
            for one in contenders:
                for command in BOTH:
                    took = one.run(command, pods, n)
                    if turn:  # 0 warms up
                        found[command, n, one.name].note(took)
                node.calm()
    return found


COLUMNS: Final = ("", "at once", "what", "p50, ms", "p99", "per s", "p50 ÷", "rate ÷")


def rows(found: Found, peer: str) -> list[Sequence[str]]:
    """Return the table's rows; ratios are to the ``peer``."""
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
