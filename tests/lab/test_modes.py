"""Each mode as its conflist is shipped, on every Python and with the oldest libraries.

`tox run -e py312-lowest-egress_v4` runs those of one mode: its mark is tox's factor.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import Final

import pytest
from attrs import frozen

from eniplug.lab.verify import Matrix
from kit.labs import LabHand, a_lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

ROOT: Final = Path(__file__).parents[2]
WHO_AM_I: Final = ("curl", "-s", "--max-time", "5", "http://203.0.113.10/")


@frozen
class Mode:
    """A conflist below the checkout's root, and what is to be seen of it in a lab."""

    conflist: str
    family: int = 4
    prefixes: bool = False
    limits: bool = False


MODES: Final = {
    "secondary_ip": Mode("examples/conflists/secondary-ip.conflist"),
    "prefix_delegation": Mode(
        "examples/conflists/prefix-delegation.conflist", prefixes=True
    ),
    "egress_v4": Mode("examples/conflists/ipv6.conflist", family=6, prefixes=True),
    "bandwidth": Mode("core/10-eniplug.conflist", limits=True),
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(m, marks=getattr(pytest.mark, m)) for m in MODES],
)
def mode(request: pytest.FixtureRequest) -> Mode:
    return MODES[request.param]


@pytest.fixture(scope="module")
def lab(mode: Mode) -> Iterator[LabHand]:
    """Two nodes of a type with few addresses on an ENI: some pods are of the second."""
    conflist = (ROOT / mode.conflist).read_text()
    cool = {"IP_COOLDOWN_PERIOD": "1"}
    with a_lab(
        "mode", instance_type="t3.small", conflist=conflist, environment=cool
    ) as lab:
        yield lab


def test_the_traffic_matrix_holds(lab: LabHand, mode: Mode) -> None:
    with Matrix(lab.names) as matrix:
        findings = list(matrix.findings())

    assert [found for found in findings if not found.holds] == []
    lines = {found.cell for found in findings}
    assert {"pod → pod, other node", "pod → internet"} <= lines
    assert ("limit, to the pod" in lines) is mode.limits


def test_a_pod_outlives_the_agent_and_leaves_the_node_as_it_was(
    lab: LabHand, mode: Mode
) -> None:
    before = lab.picture()
    address = lab.add("web")["web"]
    far = lab.add("far", node=2)["far"]

    lab.run("agent", "kill", "1")
    lab.run("agent", "start", "1")

    first = lab.status()["nodes"][0]
    prefixes = [eni["prefixes"] + eni["prefixes6"] for eni in first["enis"]]
    assert any(prefixes) is mode.prefixes
    assert ip_address(address).version == mode.family
    assert " 0% packet loss" in lab.inside("far", "ping", "-c1", "-W2", address)
    assert " 0% packet loss" in lab.inside("web", "ping", "-c1", "-W2", far)
    assert lab.inside("web", *WHO_AM_I).strip() == first["public"]
    lab.remove("web", "far")
    assert lab.settles_to(before)
