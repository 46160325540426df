"""Ports of a node that lead to pods: who reaches them, and as whom."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from attrs import frozen

from eniplug.lab.control import ask
from kit.labs import LabHand, a_lab, conflist, entry
from kit.mirrors import Protocol, mirrors, who

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


@pytest.fixture(scope="module")
def scene() -> Iterator[Scene]:
    with a_lab("hp", nodes=2, ipv6=True, conflist=conflist(OURS)) as lab:
        own = lab.status()["nodes"][0]["address"]
        ports = [
            port(8080, 80),
            port(8080, 80, "UDP"),
            port(8081, 80, "TCP", own),
            port(8082, 80, "tcp", "127.0.0.1"),
            port(0, 80),
        ]
        pods = {
            "web": addresses(add(lab, "web", *ports)),
            "cli": addresses(add(lab, "cli")),
            "far": addresses(add(lab, "far", node=2)),
        }
        said = json.loads(lab.inside("node1", "ip", "-j", "-6", "addr", "show", "ens5"))
        (own6,) = (
            a["local"]
            for link in said
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
