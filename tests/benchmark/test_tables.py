"""What is to be held, and whether it is."""

from __future__ import annotations

import pytest

from bench.tables import Held, Table, closing


@pytest.mark.parametrize(
    ("least", "reached", "kept"),
    [(False, 1.9, True), (False, 2.1, False), (True, 2.1, True), (True, 1.9, False)],
)
def test_a_bound_is_a_most_or_a_least(least: bool, reached: float, kept: bool) -> None:
    held = Held(what="a ratio", bound=2, reached=reached, least=least)

    assert held.kept is kept


def test_the_closing_table_has_every_bound_of_every_table() -> None:
    def table(*reached: float) -> Table:
        held = [Held(what=f"{one}", bound=2, reached=one) for one in reached]
        return Table(title="", columns=(), rows=(), held=held)

    closed = closing([table(1.0), table(), table(2.5, 3.0)])

    assert [(row[0], row[-1]) for row in closed.rows] == [
        ("1.0", "yes"),
        ("2.5", "**no**"),
        ("3.0", "**no**"),
    ]
