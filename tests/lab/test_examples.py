"""The examples at work: in one lab, with traffic."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Generator, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import pytest

from eniplug.lab.errors import LabError
from eniplug.lab.fabric import EC2
from kit import netns
from kit.dists import install_project
from kit.labs import LabHand, a_lab, conflist, entry
from kit.mirrors import mirrors, who

pytestmark = [pytest.mark.root, pytest.mark.lab]

EXAMPLES = Path(__file__).parents[2] / "examples"
PLUGINS = (
    "otel-trace",
    {"name": "ip-quota", "limit": 3},
    {"name": "sticky-ip", "seconds": 600},
    *("secondary-ip", "pod-veth", "flat-routes", "snat"),
    {"name": "egress-gateway", "namespace": "default"},
)
CONFLIST = conflist(entry(*PLUGINS, {"name": "pod-eip", "namespaces": "public"}))
WAITED = conflist(
    entry(*PLUGINS, {"name": "pod-eip", "namespaces": "public", "waited": True})
)
CLI = "eniplug.core.cli"
ASSOCIATE = """
import json, boto3
ec2 = boto3.client("ec2", "us-east-1", endpoint_url="http://{ec2}",
                   aws_access_key_id="a", aws_secret_access_key="b")
address = ec2.allocate_address(Domain="vpc")
ec2.associate_address(AllocationId=address["AllocationId"], NetworkInterfaceId="{eni}")
print(address["PublicIp"])
"""
ELASTIC_IPS = """
import json, boto3
ec2 = boto3.client("ec2", "us-east-1", endpoint_url="http://{ec2}",
                   aws_access_key_id="a", aws_secret_access_key="b")
print(json.dumps(ec2.describe_addresses()["Addresses"]))
"""
WHO_AM_I = ("curl", "-s", "--max-time", "5", "http://203.0.113.10/")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHand]:
    site = tmp_path_factory.mktemp("site")
    for project in EXAMPLES.glob("*/pyproject.toml"):
        install_project(project.parent, site)
    settings = {"PYTHONPATH": str(site), "MINIMUM_IP_TARGET": "12"}
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


def elastic_ip(lab: LabHand) -> str:
    """Give the own address of node 1's second ENI a public one."""
    eni = lab.status()["nodes"][0]["enis"][1]["id"]
    code = ASSOCIATE.format(ec2=EC2, eni=eni)
    return lab.inside("node1", sys.executable, "-c", code).strip()


@contextmanager
def a_pod_of(
    namespace: str, lab: LabHand, whole: dict[str, Any] = CONFLIST, **more: str
) -> Generator[str]:
    """Add a pod of a Kubernetes namespace to node 1; gives its network namespace."""
    plugins = whole["plugins"][0]
    with netns.namespace() as name:
        variables = {
            "CNI_CONTAINERID": name,
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/run/netns/{name}",
            "CNI_ARGS": f"K8S_POD_NAMESPACE={namespace};K8S_POD_NAME={name}",
            **more,
        }
        answer = lab.call("ADD", plugins, variables)
        assert answer.status == 0, answer
        yield name
        assert lab.call("DEL", plugins, variables).status == 0


def test_a_namespace_leaves_with_the_address_of_the_gateway(lab: LabHand) -> None:
    public = elastic_ip(lab)

    with a_pod_of("other", lab) as other:
        seen = lab.inside("near", *WHO_AM_I).strip()
        others = netns.run(*WHO_AM_I, inside=other).strip()

    assert seen == public
    assert others == lab.status()["nodes"][0]["public"]
    assert public != others


def test_inside_the_vpc_a_pod_of_the_namespace_keeps_its_own_address(
    lab: LabHand,
) -> None:
    far = lab.add("far", node=2)["far"]

    with mirrors(lab.names.pod("far"), 8080):
        seen = who(lab.names.pod("near"), far, 8080)

    near = next(p for p in lab.status()["pods"] if p["name"] == "near")
    lab.remove("far")
    assert seen in str(near)


def elastic_ips(lab: LabHand) -> dict[str, tuple[str, str]]:
    """What EC2 has for pods: public address and ENI by container id."""
    code = ELASTIC_IPS.format(ec2=EC2)
    found = json.loads(lab.inside("node1", sys.executable, "-c", code))
    tags = [{tag["Key"]: tag["Value"] for tag in one.get("Tags", ())} for one in found]
    return {
        its["eniplug/address-of"].split()[0]: (
            one["PublicIp"],
            one.get("NetworkInterfaceId", ""),
        )
        for its, one in zip(tags, found, strict=True)
        if "eniplug/address-of" in its
    }


def in_log(lab: LabHand, event: str, **fields: str) -> dict[str, str]:
    """Wait for a line of node 1's agent, and return it."""
    end = time.monotonic() + 20
    while True:
        for line in lab.log().splitlines():
            if f'"{event}"' in line:
                found: dict[str, str] = json.loads(line)
                if fields.items() <= found.items():
                    return found
        assert time.monotonic() < end, (event, fields)
        time.sleep(0.05)


def test_a_pod_has_a_public_address_until_it_goes(lab: LabHand) -> None:
    with ExitStack() as stack:
        pods = [stack.enter_context(a_pod_of("public", lab)) for _ in range(3)]
        told = [in_log(lab, "public address in service", container=p) for p in pods]
        had = elastic_ips(lab)
        seen = [netns.run(*WHO_AM_I, inside=pod).strip() for pod in pods]
        with mirrors(pods[0], 8080):
            outside = who(lab.names.internet, seen[0], 8080)
            inside = who(lab.names.pod("near"), told[0]["private"], 8080)
        words = lab.inside("node1", sys.executable, "-m", CLI, "why", pods[0])

    assert seen == [one["public"] for one in told] == [had[pod][0] for pod in pods]
    assert len({eni for _, eni in had.values()}) > 1, "all pods are on one ENI"
    assert outside == "203.0.113.10"
    near = next(p for p in lab.status()["pods"] if p["name"] == "near")
    assert inside in str(near)
    assert f"public address of {told[0]['private']}: {seen[0]}" in words
    for one in told:
        in_log(lab, "public address released", public=one["public"])
    assert elastic_ips(lab) == {}


def test_a_public_address_outlives_the_agent_and_not_its_pod(lab: LabHand) -> None:
    with a_pod_of("public", lab) as pod:
        public = in_log(lab, "public address in service", container=pod)["public"]
        lab.run("agent", "kill", "1")
        kept = netns.run(*WHO_AM_I, inside=pod).strip()
        lab.run("agent", "start", "1")
        assert netns.run(*WHO_AM_I, inside=pod).strip() == kept == public
        lab.run("agent", "kill", "1")
    lab.run("agent", "start", "1")

    end = time.monotonic() + 20
    while elastic_ips(lab):
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_pod_that_waits_begins_with_its_public_address_or_not_at_all(
    lab: LabHand,
) -> None:
    with a_pod_of("public", lab, WAITED) as pod:
        seen = netns.run(*WHO_AM_I, inside=pod).strip()
        assert in_log(lab, "public address in service", container=pod)["public"] == seen
    lab.run("ec2", "fault", 'denied=["AllocateAddress"]')
    try:
        with (
            pytest.raises(AssertionError, match="denied: grant the action"),
            a_pod_of("public", lab, WAITED),
        ):
            pass
    finally:
        lab.run("ec2", "clear")


def test_a_pods_hooks_are_spans_below_the_runtimes(lab: LabHand) -> None:
    trace, parent = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
    end = time.monotonic() + 20

    with a_pod_of("traced", lab, TRACEPARENT=f"00-{trace}-{parent}-01"):
        pass

    wanted = {"allocate_ip", "setup_netns", "program_routes", "attached"}
    while True:  # they are sent once a second
        log = lab.log()
        spans = [one for one in log.split('"name": "eniplug.')[1:] if trace in one]
        if wanted <= {one.partition('"')[0] for one in spans}:
            break
        assert time.monotonic() < end, log
    assert all(f'"parent_id": "0x{parent}"' in one for one in spans)


def test_an_uninstall_releases_the_public_addresses(lab: LabHand) -> None:
    """The last test here: the node has no agent afterwards."""
    with a_pod_of("public", lab) as pod:
        in_log(lab, "public address in service", container=pod)
        lab.run("agent", "stop", "1")
        uninstall = ("-m", CLI, "uninstall", "--yes", "--force")

        said = lab.inside("node1", sys.executable, *uninstall)

    assert "release the public addresses that pods of this node have got" in said
    assert elastic_ips(lab) == {}
