"""The traffic matrix of each mode: what `eniplug lab verify --every` tries."""

from __future__ import annotations

import pytest

from eniplug.lab import every
from eniplug.lab.every import Column, Mode
from eniplug.lab.names import Names
from eniplug.lab.verify import Finding
from kit.names import MINE

pytestmark = [pytest.mark.root, pytest.mark.lab]

NAMES = Names(f"{MINE}-every")
LINES = {
    "pod → pod, same node",
    "pod → pod, other node",
    "pod → node",
    "node → pod",
    "9001 bytes whole",
    "forged source is dropped",
    "pod → internet",
    "node → internet",
    "internet → node",
    "internet → host port",
    "limit, to the pod",
    "limit, from the pod",
}
OF_ANOTHER_ENI = {"pod → pod, other ENI", "node port → pod of another ENI"}
"""With IPv6 alone all pods are of the primary ENI."""


@pytest.mark.parametrize("mode", every.MODES, ids=lambda mode: mode.name)
def test_the_matrix_holds_with_each_layout(mode: Mode) -> None:
    columns = list(every.columns(NAMES, lambda _: None, [mode]))

    assert [column.layout for column in columns] == list(every.LAYOUTS)
    for column in columns:
        failed = [found for found in column.findings if not found.holds]
        assert failed == [], (column.mode, column.layout)
        more = set() if mode.name == "IPv6 + egress-v4" else OF_ANOTHER_ENI
        assert set(every.titles([column])) == LINES | more


def test_a_line_holds_if_all_of_it_does_and_is_empty_if_nothing_was_tried() -> None:
    column = Column(
        mode="m",
        layout="l",
        findings=(Finding("a", True), Finding("a", False), Finding("b", True)),
    )

    assert [column.cell(title) for title in "abc"] == [False, True, None]
    assert every.titles([column]) == ["a", "b"]
    assert not column.holds
