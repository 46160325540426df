"""What a benchmark says: one table, as people and as Markdown read it."""

from __future__ import annotations

import os
import platform
from collections.abc import Sequence

from attrs import frozen


@frozen(kw_only=True)
class Table:
    """One question and its figures; ``hold`` says what must be so and what is."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[str]]
    hold: str = ""

    def markdown(self) -> str:
        """Write the table."""
        head = f"| {' | '.join(self.columns)} |"
        rule = f"|{'---|' * len(self.columns)}"
        body = (f"| {' | '.join(row)} |" for row in self.rows)
        lines = [f"## {self.title}", "", head, rule, *body]
        return "\n".join([*lines, "", self.hold] if self.hold else lines)


def machine() -> str:
    """Tell on what all of it was measured."""
    return (
        f"Python {platform.python_version()}, Linux {platform.release()}, "
        f"{platform.machine()}, {os.cpu_count()} cores, "
        f"load {os.getloadavg()[0]:.1f} at the end."
    )
