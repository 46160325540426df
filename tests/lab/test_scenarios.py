"""What a user does with two nodes, from the first pod to the last."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from attrs import field, frozen

from eniplug.lab import launch, netns, probes
from eniplug.lab.control import ask
from eniplug.lab.names import Names
from eniplug.lab.netns import Inside
from eniplug.lab.plan import Plan
from kit.names import MINE

pytestmark = [pytest.mark.root, pytest.mark.lab]

COOLDOWN = 2


def silent(step: str) -> None:
    del step


def eniplug(lab: Names, *words: str) -> str:
    command = [sys.executable, "-m", "eniplug.core.cli", "lab", *words]
    environ = {**os.environ, "ENIPLUG_LAB": lab.lab}
    return subprocess.check_output(command, env=environ, text=True, timeout=60)


@pytest.fixture
def lab(request: pytest.FixtureRequest) -> Iterator[Names]:
    """Two nodes of type m5.large: 3 ENIs with 9 addresses for pods each."""
    names = Names(f"{MINE}-story")
    launch.down(names)
    settings: dict[str, str] = getattr(request, "param", {})
    environment = {"IP_COOLDOWN_PERIOD": str(COOLDOWN), **settings}
    launch.up(Plan(lab=names.lab, environment=environment), silent)
    yield names
    launch.down(names)


def pods(lab: Names) -> dict[str, str]:
    """Addresses by name."""
    return {p["name"]: p["addresses"][0] for p in ask(lab, "status")["pods"]}


def add(lab: Names, node: int, *names: str) -> None:
    answers = ask(lab, "pod-add", pods=names, node=node)
    assert [a["error"] for a in answers if "error" in a] == []


def remove(lab: Names, *names: str) -> None:
    answers = ask(lab, "pod-rm", pods=names)
    assert [a["error"] for a in answers if "error" in a] == []


@frozen
class Inner:
    """Threads inside namespaces, ended together."""

    opened: list[Inside] = field(factory=list)

    def __call__(self, namespace: str) -> Inside:
        self.opened.append(Inside(namespace))
        return self.opened[-1]

    def close(self) -> None:
        for inside in self.opened:
            inside.close()


@pytest.fixture
def inside() -> Iterator[Inner]:
    with closing(Inner()) as inner:
        yield inner


def kernel(inside: Inside) -> dict[str, list[str]]:
    """Routes, rules and nft state of a node, without what the kernel keeps itself."""
    commands = {
        "links": ["ip", "-br", "link"],
        "routes": ["ip", "route", "show", "table", "all"],
        "rules": ["ip", "rule"],
        "nft": ["nft", "-s", "list", "ruleset"],
    }
    run: Callable[..., str] = subprocess.check_output
    return {k: inside.call(run, v, text=True).splitlines() for k, v in commands.items()}


def until(condition: Callable[[], bool], within: float) -> bool:
    deadline = time.monotonic() + within
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.1)
    return True


def test_two_pods_reach_each_other_and_the_internet(lab: Names) -> None:
    web = json.loads(eniplug(lab, "pod", "add", "web", "--node", "1", "--json"))
    json.loads(eniplug(lab, "pod", "add", "cli", "--node", "2", "--json"))
    address = web["ips"][0]["address"].partition("/")[0]

    pinged = eniplug(lab, "exec", "cli", "--", "ping", "-c", "3", "-i", "0.2", address)
    seen = eniplug(lab, "exec", "web", "--", "curl", "-s", "http://203.0.113.10/")

    assert " 0% packet loss" in pinged
    assert seen.strip() == ask(lab, "status")["nodes"][0]["public"]


def test_25_pods_on_a_node_reach_each_other_and_leave_it_as_it_was(
    lab: Names, inside: Inner
) -> None:
    node = inside(lab.node(1))
    before = kernel(node)
    names = [f"pod-{number}" for number in range(25)]

    add(lab, 1, *names)
    add(lab, 2, "far-1", "far-2")
    addresses = pods(lab)
    spaces = {name: inside(lab.pod(name)) for name in addresses}
    pairs = [(a, b) for a in addresses for b in addresses if a != b]

    def reach(pair: tuple[str, str]) -> bool:
        return spaces[pair[0]].call(probes.ping, addresses[pair[1]])

    with ThreadPoolExecutor(8) as threads:
        reached = list(threads.map(reach, pairs))
    enis = ask(lab, "status")["nodes"][0]["enis"]
    inside.close()
    inside.opened.clear()
    remove(lab, *addresses)

    assert [pair for pair, ok in zip(pairs, reached, strict=True) if not ok] == []
    assert len(set(addresses.values())) == 27
    assert len(enis) == 3
    node = inside(lab.node(1))
    mine = re.compile("|".join(rf"\b{re.escape(a)}\b" for a in addresses.values()))
    assert until(lambda: not leftovers(node, mine), 5), leftovers(node, mine)
    left = kernel(node)
    assert [line for line in before["rules"] if line not in left["rules"]] == []
    assert pod_objects(left) == pod_objects(before) == []


def leftovers(node: Inside, addresses: re.Pattern[str]) -> list[str]:
    """Lines that name a pod's address, or are a link that was a pod's."""
    dead = re.compile(r"^(eni[0-9a-f]{11}|x\d+)\b")
    lines = [line for part in kernel(node).values() for line in part]
    return [line for line in lines if addresses.search(line) or dead.search(line)]


def pod_objects(state: dict[str, list[str]]) -> list[str]:
    lines = [line for part in state.values() for line in part]
    return [line for line in lines if re.search(r"\beni[0-9a-f]{11}\b", line)]


def test_after_the_cooldown_the_pool_is_whole_again(lab: Names) -> None:
    names = [f"pod-{number}" for number in range(25)]
    add(lab, 1, *names)
    remove(lab, *names)

    time.sleep(COOLDOWN)
    before = changes(lab)
    add(lab, 1, *names)

    assert changes(lab) == before


def changes(lab: Names) -> dict[str, int]:
    calls = ask(lab, "calls")
    return {k: n for k, n in calls.items() if not k.startswith("Describe")}


@pytest.mark.parametrize("lab", [{"ENIPLUG_ADD_WAIT": "1"}], indirect=True)
def test_a_node_that_is_full_refuses_and_says_why(lab: Names) -> None:
    add(lab, 1, *(f"pod-{number}" for number in range(27)))

    (answer,) = ask(lab, "pod-add", pods=["one-more"], node=1)

    assert answer["error"]["code"] == 11
    assert "eni-limit" in answer["error"]["details"]
    assert lab.pod("one-more") not in netns.names()


class Echo:
    """One TCP connection that is used without a pause; counts what came back."""

    def __init__(self, inside: Inside, address: str, port: int) -> None:
        where = (address, port)
        self._sock = inside.call(socket.create_connection, where, 5)
        self._over = threading.Event()
        self.count = 0
        self.error: OSError | None = None
        self._thread = threading.Thread(target=self._run)
        self._thread.start()

    def _run(self) -> None:
        try:
            while not self._over.wait(0.005):
                self._sock.sendall(b"x")
                if self._sock.recv(1) != b"x":
                    msg = "closed"
                    raise ConnectionError(msg)
                self.count += 1
        except OSError as error:
            self.error = error

    def close(self) -> None:
        self._over.set()
        self._thread.join()
        self._sock.close()


def test_a_killed_agent_costs_no_connection(lab: Names, inside: Inner) -> None:
    add(lab, 1, "web")
    web = inside(lab.pod("web"))
    outward = Echo(web, "203.0.113.10", 7)
    try:
        ask(lab, "agent", number=1, do="kill")
        alone = outward.count
        assert until(lambda: outward.count > alone + 20, 5)
        ask(lab, "agent", number=1, do="start")
        again = outward.count
        assert until(lambda: outward.count > again + 20, 5)
    finally:
        outward.close()

    assert outward.error is None
    before = pods(lab)
    add(lab, 1, "later")
    assert pods(lab)["later"] not in before.values()
    remove(lab, "web", "later")


def test_a_pod_is_removed_while_the_agent_is_away(lab: Names, inside: Inner) -> None:
    add(lab, 1, "web")
    address = pods(lab)["web"]

    ask(lab, "agent", number=1, do="kill")
    remove(lab, "web")
    ask(lab, "agent", number=1, do="start")

    node = inside(lab.node(1))
    mine = re.compile(rf"\b{re.escape(address)}\b")
    assert until(lambda: not leftovers(node, mine), 5), leftovers(node, mine)


def test_pods_come_while_ec2_is_down_as_long_as_the_pool_lasts(lab: Names) -> None:
    ask(lab, "fault", faults={"down": True})

    add(lab, 1, "web")

    assert "web" in pods(lab)


def test_a_slow_ec2_delays_pods_and_refuses_none(lab: Names) -> None:
    ask(lab, "fault", faults={"call_ms": [100, 200], "attach_s": 1, "imds_lag_s": 0.5})

    add(lab, 1, *(f"pod-{number}" for number in range(15)))

    assert len(pods(lab)) == 15
