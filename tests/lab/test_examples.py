"""The examples at work: in one lab, with traffic."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from eniplug.lab.errors import LabError
from kit.dists import install_project
from kit.labs import LabHand, a_lab, conflist, entry

pytestmark = [pytest.mark.root, pytest.mark.lab]

EXAMPLES = Path(__file__).parents[2] / "examples"
CONFLIST = conflist(
    entry(
        {"name": "ip-quota", "limit": 3},
        {"name": "sticky-ip", "seconds": 600},
        *("secondary-ip", "pod-veth", "flat-routes", "snat"),
    )
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHand]:
    site = tmp_path_factory.mktemp("site")
    for project in EXAMPLES.glob("*/pyproject.toml"):
        install_project(project.parent, site)
    settings = {"PYTHONPATH": str(site), "WARM_IP_TARGET": "5"}
    with a_lab("ex", nodes=2, conflist=CONFLIST, environment=settings) as lab:
        lab.add("near")
        yield lab


def test_a_pod_that_comes_back_is_reached_by_the_address_that_it_had(
    lab: LabHand,
) -> None:
    first = lab.add("db")["db"]
    lab.remove("db")
    other = lab.add("other")["other"]

    again = lab.add("db")["db"]

    assert again == first
    assert other != first
    assert " 0% packet loss" in lab.inside("near", "ping", "-c1", "-W2", first)
    lab.remove("db", "other")


def test_an_address_is_kept_while_the_agent_is_killed(lab: LabHand) -> None:
    first = lab.add("db")["db"]
    lab.remove("db")
    lab.run("agent", "kill", "1")
    lab.run("agent", "start", "1")

    assert lab.add("db")["db"] == first
    lab.remove("db")


def test_the_pod_that_is_one_too_many_is_refused_with_the_reason(lab: LabHand) -> None:
    lab.add("a", "b")

    with pytest.raises(LabError, match="namespace default has 3 addresses") as why:
        lab.add("c")

    assert "ip-quota" in why.value.message
    assert lab.add("far", node=2)
    lab.remove("a")
    lab.add("c")
    lab.remove("b", "c", "far")
