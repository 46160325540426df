"""What every layout promises, held with packets: by which ENI they leave a node."""

from __future__ import annotations

import json
import os
import socket
import struct
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing
from functools import partial
from ipaddress import IPv4Address, ip_address
from typing import Any, NamedTuple, TypeVar

import pytest
from attrs import define, evolve, field
from pyroute2 import netns

from eniplug.core.kernel import Kernel
from eniplug.hooks import (
    POD,
    Allocation,
    Lease,
    NftTable,
    Node,
    NodeSettings,
    Object,
    Rule,
)
from eniplug.plugins.flat_routes import FlatRoutes
from eniplug.plugins.pod_veth import PodVeth
from eniplug.plugins.policy_routes import PolicyRoutes
from eniplug.plugins.snat import Snat
from eniplug.testing.builders import NODE, PRIMARY, SECOND, a_pod
from kit.nodes import World, a_world

pytestmark = pytest.mark.root

T = TypeVar("T")
Layout = FlatRoutes | PolicyRoutes
LAYOUTS = (FlatRoutes, PolicyRoutes)

PORT, NODE_PORT = 5005, 30000
NODE_ADDRESS = "10.0.0.4"
FIRST, OTHER = "10.0.0.10", "10.0.0.11"
"""Addresses of a pod of the primary ENI, and of a pod of the other one."""

IN_VPC = "10.0.7.7"
OUTSIDE = "203.0.113.10"
CLUSTER_IP = "172.20.0.1"
"""Stands for OUTSIDE: it is translated where kube-proxy does it."""

ROUTER = "02:00:00:00:99:99"

COUNT = f"""\
chain services {{
  type nat hook prerouting priority dstnat; policy accept;
  ip daddr {CLUSTER_IP} dnat ip to {OUTSIDE}
  iifname "ens5" udp dport {NODE_PORT} dnat ip to {OTHER}:{PORT}
}}
chain leaving {{
  type filter hook postrouting priority 300; policy accept;
  oifname "ens5" udp dport {PORT} ip saddr {NODE_ADDRESS} counter comment "ens5 node"
  oifname "ens5" udp dport {PORT} ip saddr {FIRST} counter comment "ens5 first"
  oifname "ens5" udp dport {PORT} ip saddr {OTHER} counter comment "ens5 other"
  oifname "ens6" udp dport {PORT} ip saddr {NODE_ADDRESS} counter comment "ens6 node"
  oifname "ens6" udp dport {PORT} ip saddr {FIRST} counter comment "ens6 first"
  oifname "ens6" udp dport {PORT} ip saddr {OTHER} counter comment "ens6 other"
}}
"""


class Way(NamedTuple):
    """A link out of the node, and whose address the packet bears there."""

    link: str
    source: str


@define
class Machine:
    """A node with two ENIs and a pod of each; nobody answers behind the ENIs."""

    world: World
    layout: Layout
    node: Node = NODE
    kernel: Kernel = field(factory=Kernel)

    def up(self) -> None:
        """Lay the ENIs, and apply the node's objects."""
        run = self.world.run
        for eni in self.node.enis:
            far = f"{eni.link}-far"
            run("ip", "link", "add", eni.link, "type", "veth", "peer", far)
            for link in (eni.link, far):
                run("ip", "link", "set", link, "addrgenmode", "none", "up")
            router = ("10.0.0.1", "lladdr", ROUTER, "dev", eni.link)
            run("ip", "neigh", "add", *router, "nud", "permanent")
        run("ip", "addr", "add", f"{NODE_ADDRESS}/24", "dev", "ens5")
        run("ip", "route", "add", "default", "via", "10.0.0.1")
        objects: list[Object] = [
            *self.layout.node_objects(self.node),
            *Snat().node_objects(self.node),
            NftTable(family="inet", name="count", text=COUNT),
        ]
        self.kernel.settle((), sorted(objects, key=lambda one: one.rank), {})

    def add_two(self) -> None:
        """Add a pod of each ENI."""
        self.add("first", FIRST)
        self.add("other", OTHER)

    def add(self, name: str, *addresses: str) -> Sequence[Object]:
        """Add a pod with an interface for each address; returns its objects."""
        pod = a_pod(name=name, container_id=name)
        first, second = self.node.enis
        enis = {FIRST: first, OTHER: second}
        leases = [Lease(address=ip_address(one), eni=enis[one]) for one in addresses]
        allocation = Allocation.of_cards(pod, leases)
        objects: list[Object] = [*PodVeth().setup_netns(pod, allocation)]
        match self.layout:
            case FlatRoutes():
                objects += self.layout.program_routes(allocation, self.node)
            case PolicyRoutes():
                objects += self.layout.program_routes(allocation)
        self.kernel.apply(objects, self.world.pod(name))
        # The kernel lets the pod's end send a moment after the host's end came up.
        for nic in allocation.nics:
            look = partial(self.world.ip, "link", "show", nic.ifname, pod=name)
            wait_until(look, _is_up)
        return objects

    def socket(self, pod: str, address: str) -> socket.socket:
        """Open a pod's UDP socket on PORT."""
        home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
        netns.setns(self.world.pods[pod])
        try:
            made = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        finally:
            netns.setns(home)
            os.close(home)
        made.settimeout(5)
        made.bind((address, PORT))
        return made

    def send(self, pod: str, to: str, times: int = 1, *, source: str = "") -> None:
        """Send datagrams of one connection from a pod."""
        source = source or {"first": FIRST, "other": OTHER}[pod]
        with closing(self.socket(pod, source)) as one:
            for _ in range(times):
                one.sendto(b"?", (to, PORT))

    def arrive(self, link: str, to: str, port: int) -> None:
        """Let a datagram from OUTSIDE come in by an ENI."""
        frame = bytes.fromhex(self._mac(link) + ROUTER.replace(":", "") + "0800")
        frame += _datagram(OUTSIDE, to, port)
        with closing(socket.socket(socket.AF_PACKET, socket.SOCK_RAW)) as wire:
            wire.sendto(frame, (f"{link}-far", 0))

    def _mac(self, link: str) -> str:
        (found,) = self.world.ip("link", "show", link)
        return str(found["address"]).replace(":", "")

    def left(self, count: int = 1) -> list[Way]:
        """Wait for so many datagrams to have left the node; tell by which way."""
        return wait_until(self._counted, lambda ways: len(ways) >= count)

    def _counted(self) -> list[Way]:
        listed = self.world.run(
            "nft", "-j", "list", "chain", "inet", "count", "leaving"
        )
        ways: list[Way] = []
        for item in json.loads(listed)["nftables"]:
            rule = item.get("rule")
            if rule is None:
                continue
            packets = next(
                e["counter"]["packets"] for e in rule["expr"] if "counter" in e
            )
            ways += [Way(*rule["comment"].split())] * packets
        return ways


def wait_until(look: Callable[[], T], enough: Callable[[T], bool]) -> T:
    """Look until it is enough, for 5 s at most; return what was seen last."""
    deadline = time.monotonic() + 5
    while not enough(seen := look()) and time.monotonic() < deadline:
        time.sleep(0.01)
    return seen


def _is_up(links: Any) -> bool:
    return bool(links[0]["operstate"] == "UP")


def _datagram(source: str, to: str, port: int) -> bytes:
    """An IPv4 packet (RFC 791) with a UDP datagram (RFC 768) without a checksum."""
    udp = struct.pack("!HHHH", PORT, port, 9, 0) + b"?"
    ends = IPv4Address(source).packed + IPv4Address(to).packed
    head = struct.pack("!BBHHHBBH", 0x45, 0, 20 + len(udp), 1, 0, 64, 17, 0) + ends
    total = sum(struct.unpack("!10H", head))
    total = (total & 0xFFFF) + (total >> 16)
    check = struct.pack("!H", ~(total + (total >> 16)) & 0xFFFF)
    return head[:10] + check + head[12:] + udp


@pytest.fixture(params=LAYOUTS)
def machine(request: pytest.FixtureRequest) -> Iterator[Machine]:
    with a_world("pt") as world:
        machine = Machine(world, request.param())
        machine.up()
        machine.add_two()
        yield machine


@pytest.mark.parametrize(
    ("pod", "to", "way"),
    [
        ("first", IN_VPC, Way("ens5", "first")),
        ("first", OUTSIDE, Way("ens5", "node")),
        ("first", CLUSTER_IP, Way("ens5", "node")),
        ("other", IN_VPC, Way("ens6", "other")),
        ("other", OUTSIDE, Way("ens5", "node")),
        ("other", CLUSTER_IP, Way("ens5", "node")),
    ],
)
def test_every_packet_of_a_connection_leaves_by_the_right_eni(
    machine: Machine, pod: str, to: str, way: Way
) -> None:
    machine.send(pod, to, times=3)

    assert machine.left(3) == [way] * 3


@pytest.mark.parametrize(("pod", "to"), [("first", OTHER), ("other", FIRST)])
def test_pods_of_different_enis_reach_each_other_inside_the_node(
    machine: Machine, pod: str, to: str
) -> None:
    peer = "other" if pod == "first" else "first"
    with closing(machine.socket(peer, to)) as receiver:
        machine.send(pod, to)

        _, (source, _) = receiver.recvfrom(16)

    assert source == {"first": FIRST, "other": OTHER}[pod]
    assert machine.left(0) == []


def test_reply_to_a_node_port_leaves_by_the_eni_where_the_request_came_in(
    machine: Machine,
) -> None:
    with closing(machine.socket("other", OTHER)) as server:
        machine.arrive("ens5", NODE_ADDRESS, NODE_PORT)
        _, client = server.recvfrom(16)
        server.sendto(b"!", client)

    assert client == (OUTSIDE, PORT)
    assert machine.left() == [Way("ens5", "node")]


def test_client_that_came_straight_to_a_pod_is_answered_by_the_pods_eni(
    machine: Machine,
) -> None:
    with closing(machine.socket("other", OTHER)) as server:
        machine.arrive("ens6", OTHER, PORT)
        _, client = server.recvfrom(16)
        server.sendto(b"!", client)

    assert machine.left() == [Way("ens6", "other")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_with_external_snat_each_pod_leaves_by_its_own_eni(
    layout: type[Layout],
) -> None:
    node = evolve(NODE, settings=NodeSettings(external_snat=True))
    with a_world("pt") as world:
        machine = Machine(world, layout(), node)
        machine.up()
        machine.add_two()

        for pod in ("first", "other"):
            machine.send(pod, OUTSIDE)

        assert machine.left(2) == [Way("ens5", "first"), Way("ens6", "other")]


def test_flat_routes_let_no_pod_send_with_another_pods_address() -> None:
    with a_world("pt") as world:
        machine = Machine(world, FlatRoutes())
        machine.up()
        machine.add_two()
        world.run("ip", "addr", "add", FIRST, "dev", "lo", pod="other")
        with closing(machine.socket("other", FIRST)) as forger:
            forger.sendto(b"?", (IN_VPC, PORT))

        machine.send("other", IN_VPC)

        assert machine.left() == [Way("ens6", "other")]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_each_interface_of_a_pod_is_a_way_of_its_own(layout: type[Layout]) -> None:
    other = evolve(SECOND, card=1, table=10101)
    with a_world("pt") as world:
        machine = Machine(world, layout(), evolve(NODE, enis=(PRIMARY, other)))
        machine.up()
        world.pod("empty")
        before = world.snapshot()
        pod = machine.add("both", FIRST, OTHER)
        assert machine.kernel.check(pod, world.pods["both"]) == ()

        for source in (FIRST, OTHER):
            machine.send("both", IN_VPC, source=source)
            machine.send("both", OUTSIDE, source=source)

        assert sorted(machine.left(4)) == sorted(
            [
                Way("ens5", "first"),
                Way("ens6", "other"),
                Way("ens5", "node"),
                Way("ens5", "node"),
            ]
        )
        rule = next(o for o in pod if isinstance(o, Rule) and o.side is POD)
        world.run("ip", "rule", "del", "priority", "1", pod="both")
        (lost,) = machine.kernel.check(pod, world.pods["both"])
        assert lost.object == rule

        assert machine.kernel.remove(pod, world.pods["both"]) == ()
        machine.kernel.reap()
        assert world.snapshot() == before
        assert world.snapshot("both") == world.snapshot("empty")


@pytest.mark.parametrize("layout", LAYOUTS)
def test_node_is_left_as_it_was_found(layout: type[Layout]) -> None:
    with a_world("pt") as world:
        for eni in NODE.enis:
            far = f"{eni.link}-far"
            world.run("ip", "link", "add", eni.link, "type", "veth", "peer", far)
            for link in (eni.link, far):
                world.run("ip", "link", "set", link, "addrgenmode", "none", "up")
        world.run("ip", "addr", "add", f"{NODE_ADDRESS}/24", "dev", "ens5")
        before = world.snapshot(), world.run("nft", "list", "ruleset")
        kernel = Kernel()
        objects = sorted(
            (*layout().node_objects(NODE), *Snat().node_objects(NODE)),
            key=lambda one: one.rank,
        )
        earlier = kernel.earlier(objects)
        kernel.settle((), objects, earlier)
        assert (world.snapshot(), world.run("nft", "list", "ruleset")) != before

        kernel.settle(objects, (), earlier)

        assert (world.snapshot(), world.run("nft", "list", "ruleset")) == before
