"""The built image is a node's agent, run by containerd as the manifests say."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager
from ipaddress import ip_address, ip_network
from pathlib import Path

import pytest
from attrs import frozen

from eniplug.lab.fabric import EC2
from kit.containerd import NAMESPACES, PORT, WHO, Containerd, a_containerd
from kit.cri import PodSpec
from kit.kubelet import Kubelet, Manifest, Running
from kit.labs import LabHand, a_lab
from kit.names import MINE
from kit.netns import run
from kit.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.image]

ROOT = Path(__file__).parents[2]
IMAGE = ROOT / ".tox/built/eniplug.tar"
"""What .ci/image makes."""

FEW = {"WARM_IP_TARGET": "2", "IP_COOLDOWN_PERIOD": "1"}
"""The primary ENI has addresses enough, those that cool included: no other comes."""

BITS = {"NET_ADMIN": 12, "SYS_ADMIN": 21}
"""Numbers of capabilities (linux/capability.h)."""

CURL = ("curl", "-s", "--retry", "5", "--retry-delay", "1", "--retry-connrefused")
"""A pod's sandbox runs a moment before its server listens."""

FOLDERS = ("/opt/cni/bin", "/etc/cni/net.d", "/run/eniplug")
"""All of a node's files that the pods write to."""


@frozen
class Node:
    """Node 1 of a lab as a cluster has it before its CNI comes, with its runtime."""

    lab: LabHand
    runtime: Containerd
    kubelet: Kubelet
    bare: list[str]
    """How it looks before the agent's first start."""


@pytest.fixture(scope="module")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    assert IMAGE.exists(), "build it: .ci/image .tox/built"
    folder = tmp_path_factory.mktemp("image")
    with (
        a_lab(f"{MINE}-image", nodes=1, environment=FEW) as lab,
        a_containerd(lab, folder) as runtime,
    ):
        runtime.load(IMAGE, manifest().container("agent")["image"])
        lab.run("agent", "stop", "1")
        eniplug = (sys.executable, "-m", "eniplug.core.cli")
        lab.inside("node1", *eniplug, "uninstall", "--yes")
        lab.inside("node1", "rm", "/opt/cni/bin/eniplug")
        yield Node(lab, runtime, Kubelet(runtime, folder), lab.picture())


def manifest(name: str = "default", **settings: str) -> Manifest:
    """Read one, with settings, and those that a lab's node needs."""
    found = Manifest.read(ROOT / f"deploy/manifests/{name}.yaml")
    found.data("eniplug").update(
        AWS_ENDPOINT_URL_EC2=f"http://{EC2}", **FEW, **settings
    )
    return found


def args(said: Manifest, container: str) -> list[str]:
    found: list[str] = said.container(container)["args"]
    return found


def ready(node: Node, said: Manifest) -> bool:
    return node.kubelet.probe(said, "agent", "readinessProbe")


@contextmanager
def deployed(node: Node, said: Manifest) -> Generator[Running]:
    """Run the pod of a manifest until its agent is ready, or has ended."""
    pod = node.kubelet.run(said)
    try:
        until(lambda: ready(node, said) or node.kubelet.ended(pod, "agent") is not None)
        yield pod
    except BaseException:
        print(pod.log("agent")[-20000:])
        raise
    finally:
        node.kubelet.remove(pod)


def assigned(node: Node, pod: Running) -> int:
    """How many addresses the agent holds for pods, asked as docs/operate.md says."""
    _, said = node.kubelet.execute(pod, "agent", "eniplug", "status", "--json")
    return int(json.loads(said)["addresses"]["ipv4"]["assigned"])


def netns(node: Node, address: str) -> str:
    """Where the network namespace of the pod with an address is seen from here."""
    folder = Path(f"/proc/{node.runtime.init}/root{NAMESPACES}")
    (found,) = (
        str(one)
        for one in folder.iterdir()
        if f" {address}/" in run("nsenter", f"--net={one}", "ip", "-o", "addr")
    )
    return found


def inside(node: Node, address: str, *command: str) -> str:
    return run("nsenter", f"--net={netns(node, address)}", *command).strip()


def add(node: Node, *names: str) -> dict[str, str]:
    """Add pods; returns their sandboxes by address."""
    cri = node.runtime.cri
    return {cri.address(one): one for one in map(cri.run, map(PodSpec, names))}


def drop(node: Node, *sandboxes: str) -> None:
    """Stop and remove sandboxes, each twice, as a kubelet does."""
    for call in (node.runtime.cri.stop, node.runtime.cri.remove):
        for one in sandboxes:
            call(one)
            call(one)


@contextmanager
def stream(node: Node, source: str, target: str) -> Generator[list[str]]:
    """Send a packet each 10 ms; what ping says of them is there at the end."""
    ping = ("ping", "-q", "-i", "0.01", "-w", "300", target)
    said: list[str] = []
    command = ("nsenter", f"--net={netns(node, source)}", *ping)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as running:
        try:
            yield said
        finally:
            running.send_signal(signal.SIGINT)
            said.append(running.communicate(timeout=30)[0])


@pytest.mark.parametrize("name", ["default", "aws"])
def test_the_image_serves_pods_with_the_rights_of_the_manifest(
    node: Node, name: str
) -> None:
    said = manifest(name)
    allowed = said.container("agent")["securityContext"]["capabilities"]["add"]
    with deployed(node, said) as agent:
        look = node.kubelet.execute
        _, status = look(agent, "agent", "cat", "/proc/1/status")
        assert f"CapEff:\t{sum(1 << BITS[one] for one in allowed):016x}\n" in status
        assert "Seccomp:\t2\n" in status  # a filter
        for path in ("/proc/sys/net/ipv4/ip_forward", "/file"):
            refused, why = look(agent, "agent", "sh", "-c", f"echo 1 > {path}")
            assert refused, why
            assert "Read-only file system" in why
        assert node.kubelet.probe(said, "agent", "livenessProbe")
        before = node.lab.picture()

        pods = add(node, "one", "two")

        one, two = pods
        public = node.lab.status()["nodes"][0]["public"]
        assert ip_address(one) in ip_network("10.0.0.0/16")
        assert inside(node, one, *CURL, f"http://{two}:{PORT}{WHO}") == one
        assert inside(node, one, *CURL, "http://203.0.113.10/") == public
        assert node.lab.inside("node1", *CURL, f"http://{two}:{PORT}{WHO}")
        assert node.lab.inside("node1", "stat", "-c%a", "/run/eniplug") == "700\n"
        assert assigned(node, agent) == 2
        drop(node, *pods.values())
        assert node.lab.settles_to(before)
        assert assigned(node, agent) == 0


def test_the_install_needs_no_capability_for_its_sysctls(node: Node) -> None:
    said = manifest(DISABLE_TCP_EARLY_DEMUX="true", ENABLE_IPv6="true")
    said.pod["containers"].clear()
    before = {"net.ipv4.tcp_early_demux": "1", "net.ipv6.conf.all.disable_ipv6": "1"}
    node.lab.inside(
        "node1", "sysctl", "-qw", *(f"{key}={value}" for key, value in before.items())
    )

    install = node.kubelet.run(said)

    node.kubelet.remove(install)
    assert node.lab.inside("node1", "sysctl", "-n", *before).split() == ["0", "0"]
    args(said, "install").append("--undo")
    node.kubelet.remove(node.kubelet.run(said))
    assert node.lab.inside("node1", "sysctl", "-n", *before).split() == ["1", "1"]
    node.lab.inside("node1", "sysctl", "-qw", "net.ipv6.conf.all.disable_ipv6=0")


@pytest.mark.parametrize(
    ("missing", "why"),
    [
        ("NET_ADMIN", "nftables table ip eniplug-snat: Operation not permitted"),
        ("SYS_ADMIN", "the agent may not enter network namespaces"),
    ],
)
def test_an_agent_without_a_capability_does_not_start(
    node: Node, missing: str, why: str
) -> None:
    said = manifest()
    said.container("agent")["securityContext"]["capabilities"]["add"].remove(missing)

    with deployed(node, said) as agent:
        assert node.kubelet.ended(agent, "agent") == 1
        assert why in agent.log("agent")


def test_no_packet_and_no_pod_is_lost_by_an_update_and_the_way_back(
    node: Node,
) -> None:
    old, new = manifest(), manifest()
    args(new, "install").append("--executable=python")
    with ThreadPoolExecutor(1) as others, ExitStack() as pods:
        with deployed(node, old):
            both = add(node, "one", "two")
            said = pods.enter_context(stream(node, *both))
        coming = others.submit(add, node, "amid-update")
        with deployed(node, new):
            there = coming.result()
        coming = others.submit(add, node, "amid-way-back")
        with deployed(node, old) as agent:
            back = coming.result()
            pods.close()

            assert " 0% packet loss" in said[0], said
            assert int(said[0].partition(" packets transmitted")[0].split()[-1]) > 100
            for address in (*there, *back):
                inside(node, next(iter(both)), "ping", "-c1", "-W5", address)
            drop(node, *(both | there | back).values())
            assert assigned(node, agent) == 0


def test_the_image_takes_away_all_that_it_has_brought(node: Node) -> None:
    said = manifest()
    with deployed(node, said):
        assert node.lab.picture() != node.bare
    args(said, "agent")[:1] = ["uninstall", "--yes"]
    args(said, "install").append("--undo")
    said.pod["initContainers"] += said.pod["containers"]
    said.pod["containers"].clear()

    node.kubelet.remove(node.kubelet.run(said))

    assert node.lab.picture() == node.bare
    left = node.lab.inside("node1", "find", *FOLDERS, "-name", "*eniplug*")
    assert left.split() == ["/run/eniplug"]
