"""The pool as an operator sees it: prefixes, faults and reasons, agents killed."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from eniplug.lab.control import ask
from kit.labs import LabHand, a_lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

KIT = Path(__file__).parents[1] / "kit"
PAGES = "http://127.0.0.1:61678"
EXAMPLES = Path(__file__).parents[2] / "examples" / "conflists"


def conflist(name: str) -> dict[str, Any]:
    return dict(json.loads((EXAMPLES / f"{name}.conflist").read_text()))


def calls(lab: LabHand) -> dict[str, int]:
    return dict(ask(lab.names, "calls"))


def question(lab: LabHand, *words: str) -> dict[str, Any]:
    """Run `eniplug status` or `eniplug why` on the node."""
    command = (sys.executable, "-m", "eniplug.core.cli", *words, "--json")
    return dict(json.loads(lab.inside("node1", *command)))


def held(lab: LabHand) -> list[str]:
    """What the node's primary ENI holds."""
    (node,) = lab.status()["nodes"]
    (eni,) = node["enis"]
    return [str(one) for one in eni["prefixes"]]


def test_a_node_full_of_pods_takes_few_calls_and_gives_prefixes_back() -> None:
    pods = [f"p{number}" for number in range(110)]
    with a_lab(
        "prefixes",
        nodes=1,
        instance_type="c5.4xlarge",
        conflist=conflist("prefix-delegation"),
        environment={"IP_COOLDOWN_PERIOD": "1"},
    ) as lab:
        addresses = lab.add(*pods)
        assert len(set(addresses.values())) == 110
        assert calls(lab)["AssignPrivateIpAddresses"] <= 8
        assert question(lab, "status")["addresses"]["ipv4"]["total"] == 112
        shown = lab.inside(
            "node1", "curl", "-sf", f"{PAGES}/readyz", f"{PAGES}/metrics"
        )
        assert shown.startswith("ok\n")
        assert 'eniplug_addresses{family="ipv4",state="assigned"} 110.0' in shown
        assert 'eniplug_add_seconds_count{outcome="done"} 110.0' in shown
        assert 'eniplug_ec2_calls_total{action="AssignPrivateIpAddresses"}' in shown

        lab.remove(*pods)

        end = time.monotonic() + 60
        while question(lab, "status")["addresses"]["ipv4"]["total"] > 16:
            assert time.monotonic() < end
            time.sleep(0.2)
        assert calls(lab)["UnassignPrivateIpAddresses"] <= 3


def test_a_dual_stack_pod_is_reached_by_both_families() -> None:
    with a_lab("dual", nodes=2, ipv6=True, conflist=conflist("dual-stack")) as lab:
        lab.add("one", node=1)
        lab.add("two", node=2)
        answers = ask(lab.names, "pod-add", pods=["three"], node=2)
        addresses = [ip["address"] for ip in answers[0]["result"]["ips"]]
        assert len(addresses) == 2

        for address in addresses:
            lab.inside("one", "ping", "-c1", "-W2", address.partition("/")[0])
            lab.inside("two", "ping", "-c1", "-W2", address.partition("/")[0])


@pytest.mark.parametrize(
    ("fault", "reason", "mode", "more"),
    [
        ("throttle", "throttled", "secondary-ip", 10),
        ("latency", "cloud-slow", "secondary-ip", 6),
        ("full-subnet", "subnet-full", "secondary-ip", 6),
        ("fragmented", "no-free-prefix", "prefix-delegation", 26),
        ("imds-stale", "imds-stale", "secondary-ip", 6),
        ("denied", "denied", "secondary-ip", 6),
        ("down", "cloud-away", "secondary-ip", 6),
    ],
)
def test_each_fault_lets_pods_start_that_can_and_tells_the_others_why(
    fault: str, reason: str, mode: str, more: int
) -> None:
    wait = {"latency": "12", "imds-stale": "13"}.get(fault, "4")
    with a_lab(
        "fault",
        nodes=1,
        instance_type="t3.small",
        conflist=conflist(mode),
        environment={"ENIPLUG_ADD_WAIT": wait, "WARM_IP_TARGET": "2"},
    ) as lab:
        lab.run("ec2", "fault", fault)
        pods = [f"p{number}" for number in range(more)]
        answers = ask(lab.names, "pod-add", pods=pods, node=1)

        refused = [a["error"] for a in answers if "error" in a]
        assert len(refused) < more
        assert refused
        assert {e["details"].partition(":")[0] for e in refused} == {reason}
        (told,) = question(lab, "why", "last")["found"]
        assert told["refused"]["reason"] == reason
        assert told["refused"]["remedy"]
        assert len(told["facts"]) >= 4


def test_an_agent_that_starts_while_ec2_is_away_serves_pods_at_once() -> None:
    with a_lab("away", nodes=1, environment={"WARM_IP_TARGET": "4"}) as lab:
        lab.add("before")
        lab.run("ec2", "fault", "down")
        lab.run("agent", "kill", "1")
        lab.run("agent", "start", "1")

        lab.add("one", "two")

        lab.inside("one", "ping", "-c1", "-W2", "203.0.113.10")
        lab.run("ec2", "clear")
        lab.add(*[f"p{number}" for number in range(12)])


def no_pod_is_left(lab: LabHand) -> None:
    """Hold that nothing of any pod is on the node; dead links go within seconds."""
    assert lab.inside("node1", "ip", "route", "show", "table", "512") == ""
    end = time.monotonic() + 30
    while "eniplug/1" in lab.inside("node1", "ip", "link"):
        assert time.monotonic() < end
        time.sleep(0.2)


CHOSEN = [
    "store 2",  # at the start
    "store 9",  # at the start, when the node's objects are about to be committed
    "store 17",  # a pod is about to be committed
    "store 18",  # it is committed, and nothing of it is there
    "store 21",  # pods have their answer, and the store is about to hear of it
    "netlink 7",
    "netlink 30",  # between a pair of links and what belongs to them
    "netlink 37",
    "EC2 5",  # addresses are about to be asked for
    "EC2 6",  # they are given, and the answer is not heeded
    "EC2 9",
]


def test_kills_in_the_midst_of_work_lose_and_leak_nothing(tmp_path: Path) -> None:
    point = tmp_path / "point"
    point.write_text("")
    settings = {"IP_COOLDOWN_PERIOD": "0", "WARM_IP_TARGET": "2"}
    mortal = (sys.executable, str(KIT / "mortal.py"), str(point))
    with a_lab("kills", nodes=1, agent=mortal, environment=settings) as lab:
        had = set[str]()
        for turn, chosen in enumerate(CHOSEN):
            pods = [f"t{turn}p{number}" for number in range(5)]
            lab.run("agent", "stop", "1")
            point.write_text(chosen)
            lab.run("agent", "start", "1", check=False)  # it may die of it
            with ThreadPoolExecutor(1) as runtime:
                coming = runtime.submit(lab.add, *pods)
                end = time.monotonic() + 8
                while lab.status()["nodes"][0]["agent"]["pid"] is not None:
                    assert time.monotonic() < end, f"not come to {chosen}"
                    time.sleep(0.02)
                (node,) = lab.status()["nodes"]
                assert node["agent"]["condition"] == "killed by signal 9", chosen
                point.write_text("")
                lab.run("agent", "start", "1")
                addresses = coming.result()
            assert len(set(addresses.values())) == len(pods), chosen
            assert not set(addresses.values()) & had, chosen
            had.add(addresses[pods[0]])
            alive = had | set(addresses.values())
            pings = " && ".join(f"ping -qc1 -W2 {one} >&2" for one in sorted(alive))
            lab.inside("node1", "sh", "-c", pings)
            lab.remove(*pods[1:])

        lab.remove(*(f"t{turn}p0" for turn in range(len(CHOSEN))))
        end = time.monotonic() + 30
        while question(lab, "status")["addresses"]["ipv4"]["assigned"]:
            assert time.monotonic() < end
            time.sleep(0.2)
        told = question(lab, "status")
        assert told["quarantined"] == []
        (node,) = lab.status()["nodes"]
        held = sum(len(eni["addresses"]) - 1 for eni in node["enis"])
        assert told["addresses"]["ipv4"]["total"] == held
        no_pod_is_left(lab)


OPEN = """
import os, sqlite3
os.chdir("/run/eniplug")
db = sqlite3.connect("state.db")
db.execute("pragma wal_checkpoint(truncate)")
"""
HARM = {
    "gone": OPEN + "os.unlink('state.db')",
    "truncated": OPEN + "os.truncate('state.db', 5000)",
    "corrupt": OPEN + "os.pwrite(os.open('state.db', os.O_WRONLY), b'x' * 9000, 4096)",
    "newer": OPEN + "db.execute('pragma user_version = 99')",
    "emptied": OPEN + "db.execute('delete from parts'); db.commit()",
}


@pytest.mark.parametrize("damage", HARM)
def test_a_damaged_store_is_made_again_and_pods_go_on(damage: str) -> None:
    with a_lab("store", nodes=1) as lab:
        addresses = lab.add("one", "two")
        lab.run("agent", "kill", "1")
        lab.inside("node1", sys.executable, "-c", HARM[damage])

        lab.run("agent", "start", "1")

        lab.inside("one", "ping", "-c1", "-W2", addresses["two"])
        assert "does not know all pods" in lab.log()
        more = lab.add("three", "four")
        assert not set(more.values()) & set(addresses.values())
        lab.remove("one", "two", "three", "four")


@pytest.mark.parametrize(
    "turns", [2, pytest.param(10, marks=pytest.mark.soak, id="thousand")]
)
def test_abandoned_pods_and_killed_agents_leave_nothing(turns: int) -> None:
    """Each turn is a hundred pods that nobody deletes, and three kills."""
    settings = {"IP_COOLDOWN_PERIOD": "0", "ENIPLUG_MAX_PODS": "1200"}
    plan = conflist("prefix-delegation")
    with a_lab(
        "abandon",
        nodes=1,
        instance_type="c5.4xlarge",
        conflist=plan,
        environment=settings,
    ) as lab:
        for turn in range(turns):
            pods = [f"t{turn}p{number}" for number in range(100)]
            for part in (pods[:34], pods[34:67], pods[67:]):
                lab.add(*part)
                lab.run("agent", "kill", "1")
                gone = "".join(f"netns del {lab.names.pod(pod)}\n" for pod in part)
                subprocess.run(["ip", "-batch", "-"], input=gone.encode(), check=True)
                lab.run("agent", "start", "1")

        config = {**plan, **plan["plugins"][0], "cni.dev/valid-attachments": []}
        answer = lab.call("GC", {**config, "cniVersion": "1.1.0"})

        assert answer.status == 0, answer
        assert question(lab, "status")["addresses"]["ipv4"]["assigned"] == 0
        assert question(lab, "status")["quarantined"] == []
        no_pod_is_left(lab)
