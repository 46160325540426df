"""What EC2 gives an ENI, a packet finds: prefixes of both families, other subnets."""

from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from kit.labs import LabHand, a_lab
from kit.names import MINE

pytestmark = [pytest.mark.root, pytest.mark.lab]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "conflists"


@pytest.fixture(scope="module")
def lab() -> Iterator[LabHand]:
    dual_stack = json.loads((EXAMPLES / "dual-stack.conflist").read_text())
    with a_lab(f"{MINE}-reach", conflist=dual_stack, ipv6=True) as lab:
        yield lab


def add(lab: LabHand, pod: str, node: int) -> list[str]:
    """Add a pod; returns its addresses, the IPv4 one first."""
    words = ("pod", "add", pod, "--node", str(node), "--json")
    result = json.loads(lab.run(*words).stdout)
    return [ip["address"].partition("/")[0] for ip in result["ips"]]


def held(lab: LabHand, node: int, kind: str) -> list[Any]:
    """All that a node's ENIs have of one kind."""
    enis = lab.status()["nodes"][node - 1]["enis"]
    return [ip_network(one) for eni in enis for one in eni[kind]]


def replies(lab: LabHand, pod: str, address: str) -> bool:
    words = ("exec", pod, "--", "ping", "-c", "2", "-i", "0.2", "-w", "5", address)
    return b" 0% packet loss" in lab.run(*words, check=False).stdout


def test_pods_of_prefixes_reach_each_other_in_both_families(lab: LabHand) -> None:
    here, near, far = add(lab, "here", 1), add(lab, "near", 1), add(lab, "far", 2)

    for (four, six), node in ((here, 1), (near, 1), (far, 2)):
        assert any(ip_address(four) in net for net in held(lab, node, "prefixes"))
        assert any(ip_address(six) in net for net in held(lab, node, "prefixes6"))
    for address in (*near, *far):
        assert replies(lab, "here", address), address
    for address in here:
        assert replies(lab, "far", address), address


def test_an_address_that_no_pod_has_is_unreachable_though_its_prefix_is_held(
    lab: LabHand,
) -> None:
    four, six = add(lab, "alone", 1)
    idle = held(lab, 2, "prefixes")[0][15], held(lab, 2, "prefixes6")[0][0xFFFF]

    assert replies(lab, "alone", four)
    assert replies(lab, "alone", six)
    assert [str(each) for each in idle if replies(lab, "alone", str(each))] == []


def test_pods_of_an_eni_in_another_subnet_reach_the_nodes_own() -> None:
    with a_lab(f"{MINE}-subnets", subnets=1, nodes=1) as lab:
        home = ip_network("10.0.0.0/18")
        pods = lab.add(*(f"p{number}" for number in range(12)))

        inside = {name: ip_address(pods[name]) in home for name in pods}

        one = next(name for name, at_home in inside.items() if at_home)
        other = next(name for name, at_home in inside.items() if not at_home)
        assert ip_address(pods[other]) in ip_network("10.0.64.0/18")
        assert replies(lab, one, pods[other])
        assert replies(lab, other, pods[one])
        assert replies(lab, other, "203.0.113.10")
