"""In a chain with plugins of others: in front of portmap, and behind ptp.

And several entries of ours in one chain.
"""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.dists import install_plugins
from kit.labs import EXECUTABLE, LabHand, a_lab, conflist, entry
from kit.mirrors import Protocol, mirrors, who
from kit.netns import namespace

pytestmark = [pytest.mark.root, pytest.mark.lab]

MAIN = entry("secondary-ip", "pod-veth", "flat-routes", "snat")
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
OWN_PORTS = entry(
    *("secondary-ip", "pod-veth", "flat-routes", "snat", "host-ports"),
    capabilities={"portMappings": True},
)
PORT = {"hostPort": 18081, "containerPort": 8080, "protocol": "tcp"}
PTP = {
    "type": "ptp",
    "mtu": 1500,
    "ipam": {
        "type": "host-local",
        "subnet": "10.77.0.0/24",
        "dataDir": "/run/ipam",
        "routes": [{"dst": "0.0.0.0/0"}],
    },
}
PLUGINS = """
from ipaddress import ip_network
from attrs import frozen
from eniplug.hooks import HOST, LinkState, Rule, hookimpl


@frozen(eq=False, kw_only=True)
class Proxy:
    value: int

    @hookimpl
    def setup_netns(self, allocation):
        for nic in allocation.nics:
            yield LinkState(
                link=nic.host_ifname, setting="proxy_arp", value=self.value
            )

    @hookimpl
    def program_routes(self, allocation):
        for nic in allocation.nics:
            for address in nic.addresses:
                yield Rule(priority=700, table=254, src=ip_network(address.ip))
"""
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")
PROXY = {"type": "eniplug", "plugins": [{"name": "proxy", "value": 1}]}
BANDWIDTH = {
    "type": "eniplug",
    "plugins": ["bandwidth"],
    "capabilities": {"bandwidth": True},
}
LIMITS = json.dumps(
    {
        "IngressRate": 10_000_000,
        "IngressBurst": 2**32 - 1,
        "EgressRate": 5_000_000,
        "EgressBurst": 2**32 - 1,
    }
)


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHand]:
    site = tmp_path_factory.mktemp("site")
    install_plugins(site, "proxy-plugin", {"proxy": "Proxy"}, PLUGINS)
    asked = conflist(MAIN, PORTMAP)
    settings = {"PYTHONPATH": str(site), "WARM_IP_TARGET": "2"}
    with a_lab(
        "ch", nodes=2, conflist=asked, environment=settings, executable="python"
    ) as lab:
        yield lab


def test_the_nodes_have_the_executable_in_python(lab: LabHand) -> None:
    assert lab.inside("node2", "head", "-n", "1", EXECUTABLE).startswith("#!")


def cni(lab: LabHand, verb: str, netns: str, file: Path, *words: str) -> dict[str, Any]:
    """Run ``eniplug cni`` on node 1, for a namespace with this name."""
    command = (sys.executable, "-m", "eniplug.core.cli", "cni", verb)
    options = (
        "--conflist",
        str(file),
        "--netns",
        f"/run/netns/{netns}",
        "--id",
        "raw1",
        *words,
    )
    said = lab.inside("node1", *command, *options)
    return dict(json.loads(said)) if said.strip() else {}


def proxy_arp(lab: LabHand, link: str) -> str:
    path = f"/proc/sys/net/ipv4/conf/{link}/proxy_arp"
    return lab.inside("node1", "cat", path).strip()


@pytest.fixture
def raw() -> Iterator[str]:
    """A namespace that no chain has seen."""
    with namespace() as name:
        yield name


def test_a_port_that_portmap_opens_leads_to_the_pod(
    lab: LabHand, raw: str, tmp_path: Path
) -> None:
    before = lab.picture()
    first, second = lab.status()["nodes"]
    node1, node2 = map(lab.names.node, (1, 2))
    file = tmp_path / "chain.conflist"
    file.write_text(json.dumps(conflist(MAIN, PORTMAP)))
    ports = [
        {"hostPort": 18080, "containerPort": 8080, "protocol": protocol}
        for protocol in PROTOCOLS
    ]
    asked = ("--capability", f"portMappings={json.dumps(ports)}")

    result = cni(lab, "add", raw, file, *asked)
    with mirrors(raw, 8080):
        seen = {
            protocol: (
                who(lab.names.internet, first["public"], 18080, protocol),
                who(node2, first["address"], 18080, protocol),
                who(node1, first["address"], 18080, protocol),
                who(node1, "127.0.0.1", 18080, protocol),
                who(raw, first["address"], 18080, protocol),
            )
            for protocol in PROTOCOLS
        }
    cni(lab, "del", raw, file, *asked)

    assert result["ips"][0]["address"].endswith("/32")
    own, other = first["address"], second["address"]
    everywhere = ("203.0.113.10", other, own, own, own)
    assert seen == dict.fromkeys(PROTOCOLS, everywhere)
    # portmap leaves its empty chains behind.
    ours = [line for line in before if "nft" not in line]
    assert set(ours) <= set(lab.picture())
    assert result["interfaces"][0]["name"] not in "".join(lab.picture())


def test_host_ports_lead_to_a_pod_of_a_secondary_eni(
    lab: LabHand, raw: str, tmp_path: Path
) -> None:
    fill = [f"fill-{number}" for number in range(9)]
    lab.add(*fill)
    first, second = lab.status()["nodes"]
    file = tmp_path / "ports.conflist"
    file.write_text(json.dumps(conflist(OWN_PORTS)))
    asked = ("--capability", f"portMappings={json.dumps([PORT])}")

    result = cni(lab, "add", raw, file, *asked)
    with mirrors(raw, 8080):
        seen = (
            who(lab.names.internet, first["public"], 18081),
            who(lab.names.node(2), first["address"], 18081),
            who(raw, first["address"], 18081),
        )
    cni(lab, "del", raw, file, *asked)
    lab.remove(*fill)

    address = result["ips"][0]["address"].partition("/")[0]
    enis = lab.status()["nodes"][0]["enis"]
    assert not [e for e in enis if e["device"] == 0 and address in e["addresses"]]
    assert seen == ("203.0.113.10", second["address"], first["address"])


def test_host_ports_lead_to_a_pod_behind_ptp(
    lab: LabHand, raw: str, tmp_path: Path
) -> None:
    file = tmp_path / "ptp-ports.conflist"
    ports = {
        "type": "eniplug",
        "plugins": ["host-ports"],
        "capabilities": {"portMappings": True},
    }
    file.write_text(json.dumps(conflist(PTP, ports)))
    asked = ("--capability", f"portMappings={json.dumps([PORT])}")
    first, second = lab.status()["nodes"]

    cni(lab, "add", raw, file, *asked)
    cni(lab, "check", raw, file, *asked)
    with mirrors(raw, 8080):
        seen = (
            who(lab.names.node(2), first["address"], 18081),
            who(lab.names.node(1), "127.0.0.1", 18081),
            who(raw, first["address"], 18081),
        )
    cni(lab, "del", raw, file, *asked)

    assert seen == (second["address"], first["address"], first["address"])
    table = ("nft", "list", "table", "inet", "eniplug-ports")
    assert "18081" not in lab.inside("node1", *table)


def test_behind_ptp_the_entry_acts_on_the_interface_that_is_there(
    lab: LabHand, raw: str, tmp_path: Path
) -> None:
    file = tmp_path / "ptp.conflist"
    file.write_text(json.dumps(conflist(PTP, PROXY)))

    result = cni(lab, "add", raw, file)
    host = result["interfaces"][0]["name"]
    address = result["ips"][0]["address"].partition("/")[0]
    setting = proxy_arp(lab, host)
    rules = lab.inside("node1", "ip", "rule")
    cni(lab, "check", raw, file)
    cni(lab, "del", raw, file)

    assert address.startswith("10.77.0.")
    assert setting == "1"
    assert f"700:\tfrom {address} lookup main" in rules
    assert "700:" not in lab.inside("node1", "ip", "rule")


def test_two_entries_of_ours_in_one_chain(
    lab: LabHand, raw: str, tmp_path: Path
) -> None:
    file = tmp_path / "two.conflist"
    file.write_text(json.dumps(conflist(MAIN, PROXY)))
    before = lab.picture()

    result = cni(lab, "add", raw, file)
    setting = proxy_arp(lab, result["interfaces"][0]["name"])
    cni(lab, "check", raw, file)
    cni(lab, "del", raw, file)
    cni(lab, "del", raw, file)

    assert setting == "1"
    assert len(result["ips"]) == 1
    assert lab.settles_to(before)


@pytest.mark.parametrize("main", [MAIN, PTP], ids=["behind ours", "behind ptp"])
def test_bandwidth_as_an_entry_of_its_own(
    lab: LabHand, raw: str, tmp_path: Path, main: dict[str, Any]
) -> None:
    file = tmp_path / "bandwidth.conflist"
    file.write_text(json.dumps(conflist(main, BANDWIDTH)))
    before = lab.picture()
    limits = ("--capability", f"bandwidth={LIMITS}")

    result = cni(lab, "add", raw, file, *limits)
    links = [link["name"] for link in result["interfaces"] if "sandbox" not in link]
    shaped = lab.inside("node1", "tc", "qdisc")
    cni(lab, "check", raw, file, *limits)
    cni(lab, "del", raw, file, *limits)

    host, ifb = links
    assert ifb == f"ifb{host[-11:]}"
    assert re.search(rf"tbf \S+ dev {host} root .*rate 10Mbit burst 32Kb", shaped)
    assert re.search(rf"tbf \S+ dev {ifb} root .*rate 5Mbit burst 32Kb", shaped)
    assert lab.settles_to(before)
