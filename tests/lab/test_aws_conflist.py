"""The AWS VPC CNI's conflist, as it stands on a node, with Debian's Go plugins."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from eniplug.lab.control import ask
from kit.labs import LabHand, a_lab
from kit.names import MINE
from kit.netns import namespace

pytestmark = [pytest.mark.root, pytest.mark.lab]

EXAMPLE = Path(__file__).parents[2] / "examples" / "conflists" / "aws.conflist"
INSTALLED = "/etc/cni/net.d/10-eniplug.conflist"
SETTINGS = {"WARM_IP_TARGET": "1", "IP_COOLDOWN_PERIOD": "0"}
IPV6 = {
    "ENABLE_IPv4": "false",
    "ENABLE_IPv6": "true",
    "ENABLE_PREFIX_DELEGATION": "true",
}


@pytest.fixture(scope="module")
def lab() -> Iterator[LabHand]:
    """One node whose primary ENI has an address for one pod."""
    with a_lab(
        f"{MINE}-aws",
        nodes=1,
        instance_type="t3.nano",
        conflist=json.loads(EXAMPLE.read_text()),
        environment=SETTINGS,
    ) as lab:
        yield lab


@pytest.fixture
def raw() -> Iterator[str]:
    """A namespace that no chain has seen."""
    with namespace() as name:
        yield name


def digits(pod: str) -> str:
    """The AWS VPC CNI's hash of a pod."""
    return hashlib.sha1(f"default.{pod}".encode()).hexdigest()[:11]


def lines(text: str) -> list[str]:
    return [line.replace("\t", " ").rstrip() for line in text.splitlines()]


def installed(lab: LabHand) -> dict[str, Any]:
    return dict(json.loads(lab.inside("node1", "cat", INSTALLED)))


def test_rules_routes_names_and_results_are_those_of_the_aws_vpc_cni(
    lab: LabHand,
) -> None:
    addresses = lab.add("web-0", "web-1")
    (_, second) = lab.status()["nodes"][0]["enis"]
    pods = {pod["name"]: pod for pod in lab.status()["pods"]}

    rules = lines(lab.inside("node1", "ip", "rule"))
    main = lines(lab.inside("node1", "ip", "route"))

    (far,) = [a for a in addresses.values() if a in second["addresses"]]
    assert sorted(rules) == sorted(
        [
            "0: from all lookup local",
            *(f"512: from all to {a} lookup main" for a in addresses.values()),
            "1024: from all fwmark 0x80/0x80 lookup main",
            f"1536: from {far} lookup 2",
            f"32765: from {second['addresses'][0]} lookup 2",
            "32766: from all lookup main",
            "32767: from all lookup default",
        ]
    )
    assert {line for line in main if " dev eni" in line} == {
        f"{a} dev eni{digits(pod)} scope link" for pod, a in addresses.items()
    }
    for pod, address in addresses.items():
        table, device = ("2", "1") if address == far else ("254", "0")
        sandbox = f"/run/netns/{pods[pod]['namespace']}"
        assert pods[pod]["result"] == {
            "cniVersion": "0.4.0",
            "interfaces": [
                {"name": f"eni{digits(pod)}"},
                {"name": "eth0", "mac": table, "sandbox": sandbox},
                {"name": f"dummy{digits(pod)}", "mac": "0", "sandbox": device},
            ],
            "ips": [{"version": "4", "interface": 1, "address": f"{address}/32"}],
            "dns": {},
        }
    seen = lab.inside("web-0", "curl", "-s", "http://203.0.113.10/").strip()
    assert seen == lab.status()["nodes"][0]["public"]

    lab.remove("web-0", "web-1")
    left = lines(lab.inside("node1", "ip", "rule"))
    assert not [rule for rule in left if rule.startswith(("512:", "1536:"))]
    assert " dev eni" not in lab.inside("node1", "ip", "route")


SERVE = (
    "import socket; s = socket.create_server(('', 8080));"
    "c, _ = s.accept(); c.sendall(c.getpeername()[0].encode()); c.close()"
)
ASK = (
    "import socket, sys; c = socket.create_connection((sys.argv[1], 18080), 5);"
    "print(c.recv(99).decode())"
)


def test_the_go_plugins_behind_ours_open_a_port_and_shape(
    lab: LabHand, raw: str
) -> None:
    ports = [{"hostPort": 18080, "containerPort": 8080, "protocol": "tcp"}]
    rates = {"ingressRate": 9 * 10**6, "ingressBurst": 10**6}
    asked = (
        f"portMappings={json.dumps(ports)}",
        f"bandwidth={json.dumps(rates)}",
    )
    options = ("--netns", f"/run/netns/{raw}", "--id", "raw1")
    words = [word for one in asked for word in ("--capability", one)]
    cni = (sys.executable, "-m", "eniplug.core.cli", "cni")
    for name in ("portmap", "bandwidth"):
        lab.inside(
            "node1", "test", f"/opt/cni/bin/{name}", "-ef", f"/usr/lib/cni/{name}"
        )

    def run(verb: str) -> str:
        return lab.inside(
            "node1", *cni, verb, "--conflist", INSTALLED, *options, *words
        )

    result = json.loads(run("add"))
    host = result["interfaces"][0]["name"]
    shaped = lab.inside("node1", "tc", "qdisc", "show", "dev", host)
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
    run("del")

    assert "tbf" in shaped
    assert "rate 9Mbit" in shaped
    assert seen is not None
    assert seen.strip() == "203.0.113.10"
    assert host not in "".join(lab.picture())
    assert " 18080" not in lab.inside("node1", "nft", "list", "ruleset")


def test_our_executable_in_place_of_the_go_bandwidth_shapes_as_well(
    lab: LabHand,
) -> None:
    before = lab.picture()
    # Not written to: it is a link to the file of another package.
    lab.inside("node1", "ln", "-sf", "eniplug", "/opt/cni/bin/bandwidth")

    asked = ("pod", "add", "slow", "--bandwidth", "9M/5M", "--json")
    result = json.loads(lab.run(*asked).stdout)
    host, ifb = result["interfaces"][0]["name"], result["interfaces"][3]["name"]
    shaped = {
        link: lab.inside("node1", "tc", "qdisc", "show", "dev", link)
        for link in (host, ifb)
    }
    lab.remove("slow")

    assert [link["name"] for link in result["interfaces"]] == [
        f"eni{digits('slow')}",
        "eth0",
        f"dummy{digits('slow')}",
        f"ifb{digits('slow')}",
    ]
    assert "tbf" in shaped[host]
    assert "rate 9Mbit" in shaped[host]
    assert "rate 5Mbit" in shaped[ifb]
    assert lab.settles_to(before)


MESH = {"type": "linkerd-cni", "name": "linkerd-cni", "log_level": "info"}
PASS_ON = """#!/usr/bin/python3
import json, os, sys
found = json.load(sys.stdin)
if os.environ["CNI_COMMAND"] == "ADD":
    print(json.dumps(found["prevResult"]))
    open("/run/meshed", "a").write(os.environ["CNI_CONTAINERID"])
"""
APPEND = """
import json, os, sys
path, entry = sys.argv[1], json.loads(sys.argv[2])
found = json.load(open(path))
found["plugins"].append(entry)
json.dump(found, open(path + ".tmp", "w"), indent=4, sort_keys=True)
os.rename(path + ".tmp", path)
"""


def test_what_a_mesh_appends_survives_restart_and_upgrade(lab: LabHand) -> None:
    write = "cat > /opt/cni/bin/linkerd-cni; chmod 755 /opt/cni/bin/linkerd-cni"
    words = ("exec", "node1", "--", "sh", "-c", write)
    lab.run(*words, stdin=PASS_ON.encode())
    lab.inside("node1", "sh", "-c", "echo theirs > /etc/cni/net.d/05-other.conf")
    ours = installed(lab)["plugins"]
    lab.inside("node1", "python3", "-c", APPEND, INSTALLED, json.dumps(MESH))
    appended = lab.inside("node1", "cat", INSTALLED)

    ask(lab.names, "agent", number=1, do="stop")
    ask(lab.names, "agent", number=1, do="start")

    assert lab.inside("node1", "cat", INSTALLED) == appended
    lab.add("meshed")
    assert lab.inside("node1", "cat", "/run/meshed")

    newer = json.loads(EXAMPLE.read_text())
    newer["plugins"][0]["mtu"] = "1500"
    del newer["plugins"][3]
    (lab.names.run / "chosen.conflist").write_text(json.dumps(newer))
    ask(lab.names, "agent", number=1, do="kill")
    ask(lab.names, "agent", number=1, do="start")

    assert installed(lab)["plugins"] == [{**ours[0], "mtu": "1500"}, *ours[1:3], MESH]
    assert lab.inside("node1", "cat", "/etc/cni/net.d/05-other.conf") == "theirs\n"
    lab.add("newer")
    assert " mtu 1500 " in lab.inside("newer", "ip", "link", "show", "eth0")
    lab.remove("meshed", "newer")


def of_ipv6() -> dict[str, Any]:
    """The conflist as AWS's start script writes it in an IPv6 cluster."""
    found: dict[str, Any] = json.loads(EXAMPLE.read_text())
    ipam = {
        "type": "host-local",
        "ranges": [[{"subnet": "169.254.172.0/22"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
        "dataDir": "/run/cni/v6pd/egress-v4-ipam",
    }
    on = {"enabled": "true", "nodeIP": "10.0.17.50", "ipam": ipam}
    found["plugins"][1] |= on
    return found


def test_in_an_ipv6_cluster_egress_cni_leads_out_to_ipv4() -> None:
    with a_lab(
        f"{MINE}-aws6", nodes=1, ipv6=True, conflist=of_ipv6(), environment=IPV6
    ) as lab:
        said = lab.inside("node1", sys.executable, "-m", "eniplug.core.cli", "status")
        address = lab.add("web-0")["web-0"]
        (eni,) = lab.status()["nodes"][0]["enis"]
        (result,) = [pod["result"] for pod in lab.status()["pods"]]

        rules = lines(lab.inside("node1", "ip", "-6", "rule"))
        inside = lines(lab.inside("web-0", "ip", "-6", "route"))
        seen = lab.inside("web-0", "curl", "-s", "http://203.0.113.10/").strip()
        public = lab.status()["nodes"][0]["public"]

    assert seen == public
    assert 'aws-cni: {"name": "prefix-delegation", "family": "ipv6"}, ' in said
    assert 'egress-cni: {"name": "egress-v4", "subnet": "169.254.172.0/22"}' in said
    assert [link["name"] for link in result["interfaces"]][::2] == [
        f"eni{digits('web-0')}",
        f"dummy{digits('web-0')}",
        "v4if0",
    ]
    assert "routes" not in result
    assert any(ip_address(address) in ip_network(one) for one in eni["prefixes6"])
    assert [ip["address"] for ip in result["ips"]] == [f"{address}/128"]
    assert f"512: from all to {address} lookup main" in rules
    assert any(line.startswith("default via fe80::1 dev eth0") for line in inside)
