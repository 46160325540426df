"""Ports of a node that lead to pods: who reaches them, and as whom."""

from __future__ import annotations

import json
import socket
import struct
import time
from collections.abc import Iterable, Iterator
from contextlib import ExitStack, closing
from ipaddress import ip_address
from typing import Any

import pytest
from attrs import frozen

from eniplug.lab.control import ask
from kit.labs import LabHand, a_lab, conflist, entry
from kit.mirrors import Protocol, mirrors, who
from kit.netns import inside

pytestmark = [pytest.mark.root, pytest.mark.lab]

POOL = {"name": "prefix-delegation", "family": "dual-stack"}
PLUGINS = (POOL, "pod-veth", "flat-routes", "snat", "host-ports")
OURS = entry(*PLUGINS, capabilities={"portMappings": True})
INTERNET, INTERNET6 = "203.0.113.10", "2001:db8:ffff::10"
PROTOCOLS: tuple[Protocol, ...] = ("tcp", "udp")


@frozen
class Scene:
    """A lab with pod ``web`` on node 1, its ports open, and ``cli`` beside it."""

    lab: LabHand
    pods: dict[str, list[str]]
    own: str
    own6: str
    public: str

    def node(self, number: int) -> str:
        return self.lab.names.node(number)

    def pod(self, name: str) -> str:
        return self.lab.names.pod(name)


def port(outside: int, inside: int, protocol: str = "tcp", ip: str = "") -> Any:
    return {
        "HostPort": outside,
        "ContainerPort": inside,
        "Protocol": protocol,
        "HostIP": ip,
    }


def add(lab: LabHand, name: str, *ports: Any, node: int = 1) -> dict[str, Any]:
    """Add a pod with ports; returns the lab's answer."""
    (answer,) = ask(lab.names, "pod-add", pods=[name], node=node, ports=ports)
    return dict(answer)


def addresses(answer: dict[str, Any]) -> list[str]:
    return [ip["address"].partition("/")[0] for ip in answer["result"]["ips"]]


def elements(lab: LabHand) -> str:
    return lab.inside("node1", "nft", "list", "table", "inet", "eniplug-ports")


def closing_all(sockets: Iterable[socket.socket]) -> ExitStack:
    stack = ExitStack()
    for one in sockets:
        stack.enter_context(closing(one))
    return stack


def neighbour(scene: Scene, pod: str) -> tuple[str, bytes]:
    """A pod's link, and the MAC address of the node's end."""
    (entry,) = json.loads(scene.lab.inside(pod, "ip", "-4", "-j", "neigh"))
    return entry["dev"], bytes.fromhex(entry["lladdr"].replace(":", ""))


def send_frame(link: str, mac: bytes, source: str, address: str, number: int) -> None:
    """Send a datagram in a frame of our own: no routing of the pod's is asked."""
    ends = ip_address(source).packed + ip_address(address).packed
    udp = struct.pack("!HHHH", 9, number, 9, 0) + b"?"
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 0, 0, 64, 17, 0)
    total = sum(struct.unpack("!10H", head + ends))
    total = (total & 0xFFFF) + (total >> 16)
    head = head[:10] + struct.pack("!H", ~total & 0xFFFF)
    with socket.socket(socket.AF_PACKET, socket.SOCK_RAW) as raw:
        raw.bind((link, 0))
        own: bytes = raw.getsockname()[4]
        raw.send(mac + own + struct.pack("!H", 0x0800) + head + ends + udp)


def traces(lab: LabHand) -> list[str]:
    """All that pods leave on node 1: links, routes and elements."""
    looks = (
        "ip -br link | grep ^eni; ip route show table 512; ip -6 route show table 512"
    )
    return sorted((elements(lab) + lab.inside("node1", "sh", "-c", looks)).split())


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with a_lab("hp", nodes=2, ipv6=True, conflist=conflist(OURS)) as lab:
        own = lab.status()["nodes"][0]["address"]
        ports = (
            *("8080:80", "8080:80/UDP", f"{own}:8081:80/TCP"),
            *("127.0.0.1:8082:80", "0:80"),
        )
        words = [word for one in ports for word in ("--port", one)]
        said = lab.run("pod", "add", "web", *words, "--json").stdout
        pods = {
            "web": addresses({"result": json.loads(said)}),
            "cli": addresses(add(lab, "cli")),
            "far": addresses(add(lab, "far", node=2)),
        }
        look = ("ip", "-j", "-6", "addr", "show", "ens5")
        links = json.loads(lab.inside("node1", *look))
        (own6,) = (
            a["local"]
            for link in links
            for a in link["addr_info"]
            if a["scope"] == "global"
        )
        public = lab.status()["nodes"][0]["public"]
        with mirrors(lab.names.pod("web"), 80):
            yield Scene(lab, pods, own, own6, public)


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_port_is_reached_from_everywhere(scene: Scene, protocol: Protocol) -> None:
    internet, node1, node2 = scene.lab.names.internet, scene.node(1), scene.node(2)
    far = scene.lab.status()["nodes"][1]["address"]

    seen = {
        "internet": who(internet, scene.public, 8080, protocol),
        "another node": who(node2, scene.own, 8080, protocol),
        "the node": who(node1, scene.own, 8080, protocol),
        "the node, 127.0.0.1": who(node1, "127.0.0.1", 8080, protocol),
        "the pod itself": who(scene.pod("web"), scene.own, 8080, protocol),
        "a pod beside it": who(scene.pod("cli"), scene.own, 8080, protocol),
        "a pod elsewhere": who(scene.pod("far"), scene.own, 8080, protocol),
    }

    assert seen == {
        "internet": INTERNET,
        "another node": far,
        "the node": scene.own,
        "the node, 127.0.0.1": scene.own,
        "the pod itself": scene.own,
        "a pod beside it": scene.pods["cli"][0],
        "a pod elsewhere": scene.pods["far"][0],
    }


@pytest.mark.parametrize("protocol", PROTOCOLS)
def test_a_port_is_reached_over_ipv6(scene: Scene, protocol: Protocol) -> None:
    seen = {
        "internet": who(scene.lab.names.internet, scene.own6, 8080, protocol),
        "the node": who(scene.node(1), scene.own6, 8080, protocol),
        "the pod itself": who(scene.pod("web"), scene.own6, 8080, protocol),
        "a pod beside it": who(scene.pod("cli"), scene.own6, 8080, protocol),
        "a pod elsewhere": who(scene.pod("far"), scene.own6, 8080, protocol),
    }

    assert seen == {
        "internet": INTERNET6,
        "the node": scene.own6,
        "the pod itself": scene.own6,
        "a pod beside it": scene.pods["cli"][1],
        "a pod elsewhere": scene.pods["far"][1],
    }


def test_a_port_on_one_address_is_open_there_alone(scene: Scene) -> None:
    node1, node2 = scene.node(1), scene.node(2)

    assert who(scene.lab.names.internet, scene.public, 8081) == INTERNET
    assert who(node1, "127.0.0.1", 8081).startswith("(")
    assert who(node1, "127.0.0.1", 8082) == scene.own
    assert who(node2, scene.own, 8082).startswith("(")
    assert who(node1, scene.own, 80).startswith("(")


def test_a_listener_of_the_node_is_not_reached_while_a_pod_has_its_port(
    scene: Scene,
) -> None:
    with mirrors(scene.node(1), 8080):
        # The listener would see 127.0.0.1.
        assert who(scene.node(1), "127.0.0.1", 8080) == scene.own


def test_a_pod_does_not_reach_what_listens_on_the_nodes_loopback(scene: Scene) -> None:
    """route_localnet, which the port on 127.0.0.1 needs, must not open it."""
    with inside(scene.node(1)):
        sockets = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM) for _ in range(2)]
        loopback, own = sockets
        loopback.bind(("127.0.0.1", 0))
        own.bind((scene.own, 0))
    link, mac = neighbour(scene, "web")
    with inside(scene.pod("web")), closing_all(sockets):
        for one in sockets:
            one.settimeout(1)
            send_frame(link, mac, scene.pods["web"][0], *one.getsockname())

        assert own.recv(99) == b"?"
        loopback.setblocking(False)
        with pytest.raises(BlockingIOError):
            loopback.recv(99)


def test_a_port_that_is_taken_is_refused_and_nothing_is_left(scene: Scene) -> None:
    lab = scene.lab
    before = traces(lab)

    wanted = {
        "8080/tcp": port(8080, 81),
        "8080/udp": port(8080, 81, "udp"),
        "8080/tcp on 127.0.0.1": port(8080, 81, "tcp", "127.0.0.1"),
        "8081/tcp": port(8081, 81),
        "8080/tcp over IPv6": port(8080, 81, "tcp", "::"),
    }
    for name, asked in wanted.items():
        error = add(lab, "second", port(9000, 80), asked)["error"]

        assert error["code"] == 7
        assert (
            f"host port {name} is taken by pod default/web (container" in error["msg"]
        )
        assert (
            error["details"]
            == "taken: delete that pod, or let this one ask for another"
        )

    assert traces(lab) == before


def test_ports_of_another_protocol_address_or_family_are_others(scene: Scene) -> None:
    answer = add(
        scene.lab,
        "apart",
        port(8082, 80, "udp"),
        port(8081, 80, "tcp", "127.0.0.1"),
        port(8083, 80, "tcp", "0.0.0.0"),
    )
    scene.lab.run("pod", "add", "beside", "--port", "[::]:8083:80")
    with mirrors(scene.pod("apart"), 80), mirrors(scene.pod("beside"), 80):
        seen = [
            who(scene.node(2), scene.own, 8082, "udp"),
            who(scene.node(1), "127.0.0.1", 8081),
            who(scene.lab.names.internet, scene.public, 8083),
            who(scene.lab.names.internet, scene.own6, 8083),
        ]
        scene.lab.remove("beside")
        gone = who(scene.lab.names.internet, scene.own6, 8083)
        still = who(scene.lab.names.internet, scene.public, 8083)
    scene.lab.remove("apart")

    assert "error" not in answer
    assert seen[1:] == [scene.own, INTERNET, INTERNET6]
    assert gone.startswith("(")
    assert still == INTERNET
    assert who(scene.node(1), scene.own, 8083).startswith("(")


def test_a_port_is_free_again_when_its_pod_is_gone(scene: Scene) -> None:
    before = traces(scene.lab)
    for _ in range(2):
        answer = add(scene.lab, "short", port(8090, 80))
        assert "error" not in answer
        assert "tcp . 8090" in elements(scene.lab)
        scene.lab.remove("short")

    end = time.monotonic() + 10  # the reaper deletes a dead link a second later
    while traces(scene.lab) != before:
        assert time.monotonic() < end
        time.sleep(0.1)


def test_a_client_that_keeps_its_socket_reaches_each_next_pod(scene: Scene) -> None:
    """Conntrack would send it to the node, or to a pod that is gone."""
    with inside(scene.node(2)):
        client = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with client:
        client.settimeout(1)
        client.connect((scene.own, 8095))
        client.send(b"too early")
        with pytest.raises(ConnectionRefusedError):
            client.recv(99)
        for name in ("former", "latter"):
            assert "error" not in add(scene.lab, name, port(8095, 80, "udp"))
            with mirrors(scene.pod(name), 80):
                client.send(b"?")
                assert client.recv(99)
            scene.lab.remove(name)


def test_ports_outlive_a_crash_and_what_is_deleted_meanwhile(scene: Scene) -> None:
    lab = scene.lab
    before = traces(lab)
    for damage in (
        ("nft", "flush", "ruleset"),
        ("nft", "delete element inet eniplug-ports any { tcp . 8080 }"),
    ):
        ask(lab.names, "agent", number=1, do="kill")
        assert who(lab.names.internet, scene.public, 8080) == INTERNET
        lab.inside("node1", *damage)
        ask(lab.names, "agent", number=1, do="start")

        assert who(lab.names.internet, scene.public, 8080) == INTERNET, damage
        assert traces(lab) == before, damage
    assert "not put back" not in lab.log()
    assert "is taken" in add(lab, "late", port(8080, 80))["error"]["msg"]
