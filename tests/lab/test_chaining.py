"""In a chain with plugins of others: in front of portmap, and behind ptp."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from kit.dists import install_plugins
from kit.labs import LabHand, a_lab, conflist, entry
from kit.netns import namespace

pytestmark = [pytest.mark.root, pytest.mark.lab]

MAIN = entry("secondary-ip", "pod-veth", "flat-routes", "snat")
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True}
PTP = {
    "type": "ptp",
    "mtu": 1500,
    "ipam": {"type": "host-local", "subnet": "10.77.0.0/24", "dataDir": "/run/ipam"},
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
PROXY = {"type": "eniplug", "plugins": [{"name": "proxy", "value": 1}]}


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHand]:
    site = tmp_path_factory.mktemp("site")
    install_plugins(site, "proxy-plugin", {"proxy": "Proxy"}, PLUGINS)
    asked = conflist(MAIN, PORTMAP)
    settings = {"PYTHONPATH": str(site), "WARM_IP_TARGET": "2"}
    with a_lab("ch", nodes=2, conflist=asked, environment=settings) as lab:
        yield lab


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


SERVE = (
    "import socket; s = socket.create_server(('', 8080));"
    "c, _ = s.accept(); c.sendall(c.getpeername()[0].encode()); c.close()"
)
ASK = (
    "import socket, sys; c = socket.create_connection((sys.argv[1], 18080), 5);"
    "print(c.recv(99).decode())"
)


def test_a_port_that_portmap_opens_leads_to_the_pod(
    lab: LabHand, raw: str, tmp_path: Path
) -> None:
    before = lab.picture()
    file = tmp_path / "chain.conflist"
    file.write_text(json.dumps(conflist(MAIN, PORTMAP)))
    ports = [{"hostPort": 18080, "containerPort": 8080, "protocol": "tcp"}]
    asked = ("--capability", f"portMappings={json.dumps(ports)}")

    result = cni(lab, "add", raw, file, *asked)
    with subprocess.Popen(["ip", "netns", "exec", raw, "python3", "-c", SERVE]) as web:
        public = lab.status()["nodes"][0]["public"]
        seen = None
        for _ in range(20):  # until the pod listens
            try:
                seen = lab.inside("internet", "python3", "-c", ASK, public)
                break
            except AssertionError:
                continue
        web.kill()
    cni(lab, "del", raw, file, *asked)

    assert result["ips"][0]["address"].endswith("/32")
    assert seen is not None
    assert seen.strip() == "203.0.113.10"
    # portmap leaves its empty chains behind.
    ours = [line for line in before if "nft" not in line]
    assert set(ours) <= set(lab.picture())
    assert result["interfaces"][0]["name"] not in "".join(lab.picture())


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
