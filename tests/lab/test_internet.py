from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, ip_network

import pytest
from attrs import frozen

from eniplug.lab import netns, tools
from eniplug.lab.fabric import Fabric
from eniplug.lab.facts import EniFacts
from eniplug.lab.internet import ADDRESS, Internet
from eniplug.lab.names import Names
from eniplug.lab.sweep import clear
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-inet")
PRIVATE, PUBLIC = IPv4Address("10.0.1.10"), IPv4Address("198.51.100.7")


@frozen
class World:
    fabric: Fabric
    node: netns.Inside


@pytest.fixture
def world() -> Iterator[World]:
    """A node with a public address, and the internet."""
    clear(NAMES)
    fabric = Fabric(NAMES)
    internet = Internet(NAMES, fabric)
    netns.create(NAMES.node(1))
    node = netns.Inside(NAMES.node(1))
    subnet = IPv4Network("10.0.1.0/24")
    eni = EniFacts(
        id="eni-01",
        mac="02:00:00:00:00:01",
        subnet="subnet-1",
        cidr=subnet,
        cidr6=None,
        addresses=(PRIVATE, IPv4Address("10.0.1.200")),
        device=0,
    )
    try:
        fabric.set_vpc([ip_network("10.0.0.0/16")])
        fabric.add_subnet(subnet)
        fabric.plug(eni, NAMES.node(1))
        fabric.publish({PRIVATE: PUBLIC})
        boot = [f"addr add {PRIVATE}/24 dev ens5", "addr add 10.0.1.200/32 dev lo"]
        way = ["route add default via 10.0.1.1 dev ens5"]
        node.call(tools.ip, ["link set ens5 up", *boot, *way])
        # The kernel activates a raised link a moment later: wait for packets to flow.
        gateway = ["ping", "-c1", "-w5", "10.0.1.1"]
        node.call(subprocess.run, gateway, capture_output=True, check=True)
        yield World(fabric, node)
    finally:
        node.close()
        internet.close()
        fabric.close()
        clear(NAMES)


def fetch(source: str = "") -> str:
    """Ask the internet for the address that it sees; empty if there is no answer."""
    options = ["--interface", source] if source else []
    command = ["curl", "-s", "-m2", "--noproxy", "*", *options, f"http://{ADDRESS}/"]
    return subprocess.run(command, capture_output=True, text=True).stdout


def test_the_internet_sees_the_nodes_public_address(world: World) -> None:
    seen = world.node.call(fetch)

    assert seen == f"{PUBLIC}\n"


def test_a_private_address_without_a_public_one_does_not_pass(world: World) -> None:
    seen = world.node.call(fetch, "10.0.1.200")

    assert seen == ""
    assert world.fabric.counters()["igw_private"] > 0


def test_the_internet_reaches_the_public_address_and_no_private_one(
    world: World,
) -> None:
    def reach(address: IPv4Address) -> int:
        command = ["ping", "-c1", "-W0.5", str(address)]
        return subprocess.run(command, capture_output=True).returncode

    outside = netns.Inside(NAMES.internet)
    try:
        found = [outside.call(reach, address) for address in (PUBLIC, PRIVATE)]
    finally:
        outside.close()

    assert found == [0, 1]


def test_a_withdrawn_public_address_is_gone(world: World) -> None:
    before = world.node.call(fetch)
    world.fabric.publish({})

    assert (before, world.node.call(fetch)) == (f"{PUBLIC}\n", "")


@pytest.mark.parametrize("kind", [socket.SOCK_STREAM, socket.SOCK_DGRAM])
def test_port_7_echoes(world: World, kind: socket.SocketKind) -> None:
    def echo() -> bytes:
        with socket.socket(socket.AF_INET, kind) as sock:
            sock.settimeout(2)
            sock.connect((str(ADDRESS), 7))
            sock.send(b"there and back")
            return sock.recv(100)

    assert world.node.call(echo) == b"there and back"
