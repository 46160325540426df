"""What a benchmark says: tables, pictures, and what is to be held."""

from __future__ import annotations

import os
import platform
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from statistics import quantiles

from attrs import field, frozen


@frozen(kw_only=True)
class Held:
    """A bound and what was reached; it is a most, or with ``least`` a least."""

    what: str
    bound: float
    reached: float
    least: bool = False

    @property
    def kept(self) -> bool:
        """Whether it is held."""
        if self.least:
            return self.reached >= self.bound
        return self.reached <= self.bound

    @property
    def row(self) -> Sequence[str]:
        """Return its line of the closing table."""
        sign = "≥" if self.least else "≤"
        yes = "yes" if self.kept else "**no**"
        return self.what, f"{sign} {self.bound:g}", f"{self.reached:.3g}", yes


@frozen(kw_only=True)
class Plot:
    """A picture of lines, saved as ``name``.png; points are (x, y)."""

    name: str
    x: str
    y: str
    lines: Mapping[str, Sequence[tuple[float, float]]]
    logarithmic: bool = False
    """Of x."""


@frozen(kw_only=True)
class Table:
    """One question and its figures."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    note: str = ""
    held: Sequence[Held] = ()
    plots: Sequence[Plot] = field(default=())

    def markdown(self) -> str:
        """Write the table."""
        head = f"| {' | '.join(self.columns)} |"
        rule = f"|{'---|' * len(self.columns)}"
        body = (f"| {' | '.join(row)} |" for row in self.rows)
        lines = [f"## {self.title}", "", head, rule, *body]
        if self.note:
            lines += ["", self.note]
        for plot in self.plots:
            lines += ["", f"![{self.title}: {plot.y}]({plot.name}.png)"]
        return "\n".join(lines)


def closing(tables: Iterable[Table]) -> Table:
    """Gather all that is to be held."""
    return Table(
        title="To hold",
        columns=("what", "bound", "reached", "held"),
        rows=[held.row for table in tables for held in table.held],
    )


def percentile(took: Sequence[float], n: int) -> float:
    """Return a percentile of seconds, in milliseconds."""
    return 1e3 * quantiles(took, n=100, method="inclusive")[n - 1]


def machine() -> str:
    """Tell on what all of it was measured."""
    model = next(
        (
            line.partition(":")[2].strip()
            for line in Path("/proc/cpuinfo").read_text().splitlines()
            if line.startswith("model name")
        ),
        platform.machine(),
    )
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    load = ", ".join(f"{one:.1f}" for one in os.getloadavg())
    return (
        f"{time.strftime('%Y-%m-%d', time.gmtime())}; {model}, {os.cpu_count()} "
        f"processors, {memory:.0f} GiB; Linux {platform.release()}; "
        f"Python {platform.python_version()}. Load over 1, 5 and 15 minutes, "
        f"the benchmark's own included, at the end: {load}."
    )
