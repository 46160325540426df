from __future__ import annotations

import pytest

from eniplug.lab.errors import LabError
from eniplug.lab.names import Names


@pytest.mark.parametrize(
    "name", ["", "A", "a_b", "-a", "a/b", "x" * 41, "a-pod", "a-pod-b"]
)
def test_an_unusable_lab_name_is_refused(name: str) -> None:
    with pytest.raises(LabError):
        Names(name)


@pytest.mark.parametrize("name", ["node1", "internet", "vpc", "a/b", "../x", "UP"])
def test_a_pod_cannot_have_a_name_that_means_something_else(name: str) -> None:
    with pytest.raises(LabError):
        Names("x").pod(name)


def test_a_lab_owns_its_own_namespaces_only() -> None:
    names = Names("x")
    mine = [names.vpc, names.internet, names.node(12), names.pod("web")]

    assert all(names.owns(name) for name in mine)
    assert not any(Names("x-y").owns(name) for name in mine)


def test_a_lab_does_not_own_what_a_longer_named_one_has() -> None:
    longer = Names("x-y")
    theirs = [longer.vpc, longer.internet, longer.node(1), longer.pod("web")]

    assert not any(Names("x").owns(name) for name in theirs)
