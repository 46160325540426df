"""Debian's containerd runs pods on a node, and dies on the way."""

from __future__ import annotations

import json
import re
import statistics
import sys
from collections.abc import Callable, Generator, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, TypeVar

import grpc
import pytest
from attrs import frozen

from eniplug.lab.control import ask
from kit.containerd import (
    NAMESPACES,
    OTHER_CONFLISTS,
    PORT,
    WHO,
    Containerd,
    a_containerd,
)
from kit.cri import Cri, PodSpec, timed
from kit.labs import LabHand, a_lab, conflist, entry
from kit.names import MINE
from kit.netns import run
from kit.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.runtime]

AWS = Path(__file__).parents[2] / "examples/conflists/aws.conflist"
OURS = entry(
    *("prefix-delegation", "pod-veth", "flat-routes", "snat", "host-ports"),
    "bandwidth",
    capabilities={"portMappings": True, "bandwidth": True},
)
REFERENCE = {
    "cniVersion": "1.0.0",
    "name": "bridge",
    "plugins": [
        {
            "type": "bridge",
            "isGateway": True,
            "ipMasq": True,
            "ipam": {
                "type": "host-local",
                "ranges": [[{"subnet": "10.88.0.0/16"}]],
                "routes": [{"dst": "0.0.0.0/0"}],
            },
        },
        {"type": "portmap", "capabilities": {"portMappings": True}},
        {"type": "bandwidth", "capabilities": {"bandwidth": True}},
    ],
}
ENVIRONMENT = {
    "ENABLE_PREFIX_DELEGATION": "true",
    "WARM_IP_TARGET": "40",
    "IP_COOLDOWN_PERIOD": "1",
}
INTERNET = "203.0.113.10"
AT_ONCE = 30
FIRST_PORT = 18000
RATES = [5_000_000 // 8, 10_000_000 // 8]
"""What a pod may send and receive, in bytes per second, as `tc` shows them."""

FILES = "/var/lib/cni/results /run/eniplug"
"""Where the runtime keeps results of ADDs, and the executable tombstones."""

ROUNDS = 8

T = TypeVar("T")
R = TypeVar("R")


@frozen
class Node:
    """Node 1 of a lab, its containerd, and how the node looked without pods."""

    lab: LabHand
    runtime: Containerd
    before: list[str]

    def inside(self, text: str) -> str:
        """Run a line of shell on the node, where containerd's mounts are seen, too."""
        enter = ("nsenter", "-t", str(self.runtime.init), "-n", "-m", "-p")
        return run(*enter, "sh", "-c", text)

    def agent(self, do: str) -> None:
        """Kill the agent, or start it."""
        ask(self.lab.names, "agent", number=1, do=do)


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    folder = tmp_path_factory.mktemp("containerd")
    other = folder / "bridge.conflist"
    other.write_text(json.dumps(REFERENCE))
    with a_lab(
        f"{MINE}-cri", nodes=1, conflist=conflist(OURS), environment=ENVIRONMENT
    ) as lab:
        put = f"mkdir {OTHER_CONFLISTS}; cp {other} {OTHER_CONFLISTS}"
        lab.inside("node1", "sh", "-c", put)
        before = lab.picture()
        with a_containerd(lab, folder) as runtime:
            yield Node(lab, runtime, before)


def specs(name: str, number: int = AT_ONCE) -> list[PodSpec]:
    """Pods with limits and a port of the node each."""
    asked = {
        "kubernetes.io/ingress-bandwidth": "10M",
        "kubernetes.io/egress-bandwidth": "5M",
    }
    return [
        PodSpec(f"{name}-{i}", asked, {FIRST_PORT + i: PORT}) for i in range(number)
    ]


def at_once(call: Callable[[T], R], given: Iterable[T]) -> list[R]:
    with ThreadPoolExecutor(AT_ONCE) as threads:
        return list(threads.map(call, given))


@contextmanager
def begun(node: Node, name: str) -> Generator[list[Future[str]]]:
    """Begin to run pods, and wait until the first has a link; at the end for all."""
    links = Path(f"/proc/{node.runtime.init}/net/dev")
    with ThreadPoolExecutor(AT_ONCE) as threads:
        running = [threads.submit(node.runtime.cri.run, one) for one in specs(name)]
        until(lambda: "\neni" in links.read_text())
        yield running


def run_after_a_kill(cri: Cri, pod: PodSpec) -> str:
    """Run a pod; ask once more, as a kubelet does, if what containerd left hinders it.

    One that is killed as it makes a snapshot leaves its folder, and its database does
    not know of it.  The first pod that gets that number fails, and removes the folder.
    """
    try:
        return cri.run(pod)
    except grpc.RpcError as error:
        assert re.search("rename.*/snapshots/.*file exists", str(error))  # noqa: PT017
        return cri.run(pod)


def dropped(node: Node, sandboxes: Iterable[str]) -> None:
    """Stop and remove sandboxes, twice, as a kubelet does."""
    cri = node.runtime.cri
    for call in (cri.stop, cri.stop, cri.remove, cri.remove):
        at_once(call, sandboxes)


def reached(node: Node, number: int = AT_ONCE) -> list[str]:
    """Call each pod from the internet by its port of the node; returns what they see.

    A pod's sandbox runs a moment before its server listens.
    """
    public = node.lab.status()["nodes"][0]["public"]
    url = f"http://{public}:[{FIRST_PORT}-{FIRST_PORT + number - 1}]{WHO}"
    patient = ("--retry", "5", "--retry-delay", "1", "--retry-connrefused")
    curl = ("curl", "-s", *patient, "--write-out", r"\n", url)
    return node.lab.inside("internet", *curl).split()


def rates(node: Node) -> list[int]:
    """The rates of all the node's shaped links, in order."""
    shown = json.loads(node.inside("tc -j qdisc"))
    return sorted(one["options"]["rate"] for one in shown if one["kind"] == "tbf")


def assigned(node: Node) -> int:
    """How many addresses the agent holds for pods."""
    said = json.loads(
        node.inside(f"{sys.executable} -m eniplug.core.cli status --json")
    )
    return int(said["addresses"]["ipv4"]["assigned"])


def left(node: Node) -> dict[str, Any]:
    """What pods have left, beside what `LabHand.picture` shows; empty if nothing."""
    look = "nsenter --net=$one ip -br link || true"
    links = node.inside(f"for one in {NAMESPACES}/*; do {look}; done")
    found = {
        "sandboxes": node.runtime.cri.sandboxes(),
        "links": [line for line in links.splitlines() if line.startswith("eth0")],
        "files": node.inside(f"find {FILES} -type f -not -name 'state.db*'"),
        "addresses": assigned(node),
    }
    return {what: value for what, value in found.items() if value}


def trouble(log: str) -> list[str]:
    """What an agent has logged that somebody should look at."""
    return [
        line for line in log.splitlines() if json.loads(line).get("level") != "info"
    ]


def test_thirty_pods_at_a_time_run_and_go(node: Node) -> None:
    cri = node.runtime.cri

    pods = at_once(cri.run, specs("thirty"))

    addresses = at_once(cri.address, pods)
    assert len(set(addresses)) == AT_ONCE
    assert all(ip_address(one) in ip_network("10.0.0.0/16") for one in addresses)
    assert reached(node) == [INTERNET] * AT_ONCE
    assert rates(node) == sorted(RATES * AT_ONCE)
    there = left(node)
    assert set(there) == {"sandboxes", "links", "files", "addresses"}
    assert there["addresses"] == AT_ONCE

    dropped(node, pods)
    assert node.lab.settles_to(node.before)
    assert left(node) == {}
    assert trouble(node.lab.log()) == []


def test_pods_outlive_a_runtime_and_an_agent_that_are_killed(node: Node) -> None:
    cri = node.runtime.cri
    pods = at_once(cri.run, specs("outlive"))
    addresses = at_once(cri.address, pods)

    node.agent("kill")
    node.runtime.kill()
    assert reached(node) == [INTERNET] * AT_ONCE
    node.agent("start")

    assert cri.sandboxes() == dict.fromkeys(pods, True)
    assert at_once(cri.address, pods) == addresses
    assert reached(node) == [INTERNET] * AT_ONCE

    node.agent("kill")
    dropped(node, pods)
    node.agent("start")
    assert node.lab.settles_to(node.before)
    assert left(node) == {}


def test_an_agent_killed_amid_thirty_pods_fails_none(node: Node) -> None:
    with begun(node, "agent") as running:
        node.agent("kill")
        node.agent("start")
        pods = [one.result() for one in running]

    assert reached(node) == [INTERNET] * AT_ONCE
    dropped(node, pods)
    assert node.lab.settles_to(node.before)
    assert left(node) == {}


def test_a_runtime_killed_as_pods_come_and_as_they_go_leaves_nothing(
    node: Node,
) -> None:
    cri = node.runtime.cri

    with begun(node, "amid") as running:
        node.runtime.kill()
    failed = [one for one in running if isinstance(one.exception(), grpc.RpcError)]

    assert failed
    found = cri.sandboxes()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        stopping = [threads.submit(cri.stop, one) for one in found]
        next(as_completed(stopping)).result()
        node.runtime.kill()
    dropped(node, found)
    (again,) = [run_after_a_kill(cri, one) for one in specs("again", 1)]
    assert reached(node, 1) == [INTERNET]
    dropped(node, [again])
    assert node.lab.settles_to(node.before)
    assert left(node) == {}


def test_a_pod_is_not_slower_than_with_the_reference_plugins(
    node: Node, capsys: pytest.CaptureFixture[str]
) -> None:
    cri = node.runtime.cri
    took: dict[str, list[tuple[float, float]]] = {"eniplug": [], "bridge": []}

    for number in range(ROUNDS):
        for handler, times in took.items():
            (spec,) = specs(f"{handler}-{number}", 1)
            began, pod = timed(cri.run, spec, handler.replace("eniplug", ""))
            ended, _ = timed(cri.stop, pod)
            cri.remove(pod)
            times.append((began, ended))

    with capsys.disabled():
        print(f"\n{cri.version()}, a pod with a port and both limits, median ms:")
        for handler, times in took.items():
            start, end = (
                statistics.median(column) for column in zip(*times, strict=True)
            )
            print(f"{handler:8} RunPodSandbox {start:5.0f}  StopPodSandbox {end:5.0f}")
    ours, theirs = (statistics.median(x for x, _ in times) for times in took.values())
    assert ours < 1.5 * theirs


def test_the_conflist_of_the_aws_vpc_cni_runs_unchanged(node: Node) -> None:
    cri = node.runtime.cri
    links = "for name in aws-cni egress-cni; do ln -s eniplug /opt/cni/bin/$name; done"
    node.inside(links)
    (node.lab.names.run / "chosen.conflist").write_text(AWS.read_text())
    node.agent("kill")
    node.agent("start")
    node.runtime.kill()  # it reads the conflist anew
    table = node.inside("ip rule; ip route show table all; ip -br link")

    (pod,) = [cri.run(one) for one in specs("aws", 1)]

    assert ip_address(cri.address(pod)) in ip_network("10.0.0.0/16")
    assert reached(node, 1) == [INTERNET]
    assert rates(node) == RATES
    assert f"from all to {cri.address(pod)} lookup main" in node.inside("ip rule")
    dropped(node, [pod])
    assert node.inside("ip rule; ip route show table all; ip -br link") == table
    assert left(node) == {}
