"""Outcomes as a table and as JSON."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from rich.table import Table

from eniplug.simulate.measures import Outcome


def as_json(outcomes: Sequence[Outcome]) -> list[dict[str, Any]]:
    """Each policy's figures, and its calls by EC2's action."""
    return [
        {
            "policy": one.policy,
            **one.figures(),
            "calls": dict(sorted(one.calls.items())),
        }
        for one in outcomes
    ]


def as_table(outcomes: Sequence[Outcome]) -> Table:
    """A column for each policy, a row for each figure."""
    table = Table("", *(one.policy for one in outcomes))
    for column in table.columns[1:]:
        column.justify = "right"
    figures = [one.figures() for one in outcomes]
    for name in figures[0]:
        values = (f"{each[name]:,}" for each in figures)
        table.add_row(name.replace("_", " ").replace("ec2", "EC2"), *values)
    for action in sorted({action for one in outcomes for action in one.calls}):
        table.add_row(
            f"  {action}", *(f"{one.calls.get(action, 0):,}" for one in outcomes)
        )
    return table
