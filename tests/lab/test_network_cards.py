"""Nodes of a type with four network cards: pods with an interface on each of them."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eniplug.lab.control import ask
from kit.labs import LabHand, a_lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLAN = Path(__file__).parents[2] / "examples" / "conflists" / "network-cards.conflist"
KEY = "k8s.amazonaws.com/nicConfig"
EVERY = "multi-nic-attachment"
NAMES = ["eth0", "mNicIf1", "mNicIf2", "mNicIf3"]
CARDS = [0, 1, 2, 3]
INTERNET = "203.0.113.10"


@pytest.fixture(scope="module")
def lab() -> Iterator[LabHand]:
    settings = {
        "ENABLE_MULTI_NIC": "true",
        "WARM_IP_TARGET": "2",
        "IP_COOLDOWN_PERIOD": "0",
    }
    with a_lab(
        "cards",
        nodes=2,
        instance_type="p4d.24xlarge",
        conflist=json.loads(PLAN.read_text()),
        environment=settings,
    ) as lab:
        # By then there is an ENI in service on every card.
        add(lab, "early")
        lab.remove("early")
        yield lab


def add(lab: LabHand, *pods: str, node: int = 1, ask_for: str = EVERY) -> list[Any]:
    """Add pods; returns their CNI results."""
    annotations = {KEY: ask_for}
    answers = ask(lab.names, "pod-add", pods=pods, node=node, annotations=annotations)
    assert not [one for one in answers if "error" in one], answers
    return [answer["result"] for answer in answers]


def addresses(result: dict[str, Any]) -> list[str]:
    return [one["address"].partition("/")[0] for one in result["ips"]]


def reach(lab: LabHand, pod: str, sources: list[str], targets: list[str]) -> None:
    """Hold that a pod reaches each target with each of its addresses."""
    pings = [
        f"ping -qc1 -W2 -I {source} {target} >&2"
        for source in sources
        for target in targets
    ]
    lab.inside(pod, "sh", "-c", " && ".join(pings))


def wiring(lab: LabHand) -> str:
    """What node 1 has of pods: their host links, routes and rules."""
    looks = "ip -br link | grep -o '^eni[^@]*'; ip route show table 512; ip rule"
    return lab.inside("node1", "sh", "-c", looks)


def card_of(lab: LabHand, address: str) -> int:
    """The network card of the ENI that EC2 has given an address of node 1."""
    for eni in lab.status()["nodes"][0]["enis"]:
        if address in eni["addresses"]:
            return int(eni["card"])
    pytest.fail(f"no ENI has {address}")


def test_a_pod_that_asks_has_an_interface_on_every_card(lab: LabHand) -> None:
    before = lab.picture()

    words = ("--annotation", f"{KEY}={EVERY}", "--json")
    result = json.loads(lab.run("pod", "add", "many", *words).stdout)

    inside = [one for one in result["interfaces"] if one.get("sandbox")]
    assert [one["name"] for one in inside] == NAMES
    mine = addresses(result)
    assert [card_of(lab, address) for address in mine] == CARDS
    assert [one["gateway"] for one in result["ips"]] == [
        f"169.254.1.{number}" for number in (1, 2, 3, 4)
    ]
    assert [one["dst"] for one in result["routes"]] == ["169.254.1.1/32", "0.0.0.0/0"]
    far = addresses(*add(lab, "far", node=2))
    # The VPC drops what leaves by another ENI than its source's.
    reach(lab, "many", [*mine, *NAMES], [*far, INTERNET])
    assert lab.inside("many", "ip", "rule").splitlines()[1:4] == [
        f"1:\tfrom {address} lookup {index}"
        for index, address in enumerate(mine)
        if index
    ]

    lab.remove("many", "far")

    assert lab.settles_to(before)


def test_other_pods_have_one_interface_on_card_0(lab: LabHand) -> None:
    plain = lab.add("plain")["plain"]
    (odd,) = addresses(*add(lab, "odd", ask_for="two-please"))

    assert [card_of(lab, plain), card_of(lab, odd)] == [0, 0]
    assert '"value": "two-please"' in lab.log()
    lab.remove("plain", "odd")


def test_pods_that_come_at_once_wait_for_what_each_card_lacks(lab: LabHand) -> None:
    pods = [f"p{number}" for number in range(5)]

    results = [addresses(result) for result in add(lab, *pods)]

    assert len({one for result in results for one in result}) == 5 * len(CARDS)
    assert all([card_of(lab, one) for one in result] == CARDS for result in results)
    lab.remove(*pods)


def test_a_killed_agent_and_a_lost_store_leave_all_interfaces(lab: LabHand) -> None:
    before = lab.picture()
    mine = addresses(*add(lab, "kept"))
    (far, *_) = addresses(*add(lab, "far", node=2))
    wired = wiring(lab)

    for harm in ("true", "rm /run/eniplug/state.db*"):
        lab.run("agent", "kill", "1")
        lab.inside("node1", "sh", "-c", harm)
        lab.run("agent", "start", "1")

        assert wiring(lab) == wired
        reach(lab, "kept", mine, [far])

    others = [one for result in add(lab, "a", "b") for one in addresses(result)]
    assert len({*others, *mine}) == 3 * len(CARDS)
    lab.remove("a", "b")
    lab.remove("kept", "far")
    assert lab.settles_to(before)
    status = ("eniplug.core.cli", "status", "--json")
    told = json.loads(lab.inside("node1", sys.executable, "-m", *status))
    assert [(eni["card"], eni["assigned"]) for eni in told["enis"]] == [
        (card, 0) for card in CARDS
    ]
