from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, ip_network

import pytest
from attrs import evolve, frozen

from eniplug.lab import netns, tools
from eniplug.lab.fabric import Fabric, guest_link
from eniplug.lab.facts import EniFacts
from eniplug.lab.names import Names
from eniplug.lab.sweep import clear
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-fabric")
SUBNET = IPv4Network("10.0.1.0/24")


def eni(node: int, device: int = 0, *prefixes: str) -> EniFacts:
    """An ENI of a node with address 10.0.1.<node><device>."""
    return EniFacts(
        id=f"eni-0{node}{device}4567890abcdef",
        mac=f"02:00:00:00:0{node}:0{device}",
        subnet="subnet-1",
        cidr=SUBNET,
        cidr6=None,
        addresses=(IPv4Address(f"10.0.1.{10 * node + device}"),),
        prefixes=tuple(map(IPv4Network, prefixes)),
        device=device,
    )


@frozen
class Vpc:
    fabric: Fabric
    one: netns.Inside
    two: netns.Inside


def start_node(number: int) -> netns.Inside:
    netns.create(NAMES.node(number))
    return netns.Inside(NAMES.node(number))


def boot(inside: netns.Inside, mine: EniFacts) -> None:
    lines = [
        f"link set {guest_link(mine)} up",
        f"addr add {mine.primary}/24 dev {guest_link(mine)}",
        f"route replace default via {SUBNET[1]} dev {guest_link(mine)}",
    ]
    inside.call(tools.ip, lines)
    # The kernel activates a raised link a moment later: wait for packets to flow.
    gateway = ["ping", "-c1", "-w5", str(SUBNET[1])]
    inside.call(subprocess.run, gateway, capture_output=True, check=True)


@pytest.fixture
def vpc() -> Iterator[Vpc]:
    """Two nodes with an ENI each; node 2's holds 10.0.1.200 and a /28 besides."""
    clear(NAMES)
    fabric = Fabric(NAMES)
    nodes: list[netns.Inside] = []
    try:
        fabric.set_vpc([ip_network("10.0.0.0/16")])
        fabric.add_subnet(SUBNET)
        nodes = [start_node(1), start_node(2)]
        ports = [eni(1), eni(2, 0, "10.0.1.200/32", "10.0.1.208/28")]
        for number, (inside, mine) in enumerate(zip(nodes, ports, strict=True), 1):
            fabric.plug(mine, NAMES.node(number))
            boot(inside, mine)
        yield Vpc(fabric, *nodes)
    finally:
        for inside in nodes:
            inside.close()
        fabric.close()
        clear(NAMES)


def ping(inside: netns.Inside, to: str, *options: str) -> bool:
    command = ["ping", "-c1", "-W0.5", *options, to]
    return inside.call(subprocess.run, command, capture_output=True).returncode == 0


def test_nodes_reach_each_other_with_9001_byte_packets(vpc: Vpc) -> None:
    whole = ping(vpc.one, "10.0.1.20", "-M", "do", "-s", str(9001 - 28))
    more = ping(vpc.one, "10.0.1.20", "-M", "do", "-s", str(9001 - 27))

    assert (whole, more) == (True, False)


def test_an_eni_appears_with_its_name_mac_and_mtu_and_down(vpc: Vpc) -> None:
    vpc.fabric.plug(eni(1, 1), NAMES.node(1))

    shown = vpc.one.call(subprocess.check_output, ["ip", "link", "show", "ens6"])
    assert b"02:00:00:00:01:01" in shown
    assert b"mtu 9001" in shown
    assert b"state DOWN" in shown


def test_secondary_addresses_and_prefixes_lead_to_their_eni(vpc: Vpc) -> None:
    held = ["10.0.1.200/32", "10.0.1.213/32"]
    vpc.two.call(tools.ip, [f"addr add {address} dev lo" for address in held])

    assert ping(vpc.one, "10.0.1.200")
    assert ping(vpc.one, "10.0.1.213")


def test_an_address_that_no_eni_holds_is_not_reachable(vpc: Vpc) -> None:
    vpc.two.call(tools.ip, ["addr add 10.0.1.99/32 dev ens5"])

    assert not ping(vpc.one, "10.0.1.99")


def test_an_unassigned_address_is_cut_off(vpc: Vpc) -> None:
    vpc.two.call(tools.ip, ["addr add 10.0.1.200/32 dev lo"])
    before = ping(vpc.one, "10.0.1.200")

    vpc.fabric.change(eni(2))

    assert (before, ping(vpc.one, "10.0.1.200")) == (True, False)


def test_a_source_that_the_eni_does_not_hold_is_dropped_and_counted(vpc: Vpc) -> None:
    vpc.one.call(tools.ip, ["addr add 10.0.1.200/32 dev lo"])
    before = vpc.fabric.counters()["spoofed_source"]

    answered = ping(vpc.one, "10.0.1.20", "-I", "10.0.1.200")

    assert not answered
    assert vpc.fabric.counters()["spoofed_source"] > before


def test_another_enis_address_of_the_same_node_is_a_spoofed_source(vpc: Vpc) -> None:
    vpc.fabric.plug(eni(1, 1), NAMES.node(1))
    vpc.one.call(tools.ip, ["addr add 10.0.1.11/32 dev lo"])
    before = vpc.fabric.counters()["spoofed_source"]

    ping(vpc.one, "10.0.1.20", "-I", "10.0.1.11")

    assert vpc.fabric.counters()["spoofed_source"] > before


def test_without_the_source_check_a_foreign_source_passes(vpc: Vpc) -> None:
    vpc.one.call(tools.ip, ["addr add 10.0.1.99/32 dev lo"])
    vpc.fabric.change(evolve(eni(1), source_check=False))

    ping(vpc.one, "10.0.1.20", "-I", "10.0.1.99")

    assert vpc.fabric.counters()["spoofed_source"] == 0


def test_a_frame_with_a_foreign_mac_is_dropped_and_counted(vpc: Vpc) -> None:
    vpc.one.call(tools.ip, ["link set ens5 address 02:00:00:00:00:99"])

    answered = ping(vpc.one, "10.0.1.20")

    assert not answered
    assert vpc.fabric.counters()["spoofed_mac"] > 0


def test_an_unplugged_eni_leaves_node_and_router(vpc: Vpc) -> None:
    vpc.fabric.plug(eni(1, 1), NAMES.node(1))
    vpc.fabric.unplug(eni(1, 1).id)
    vpc.fabric.unplug(eni(1, 1).id)

    links = vpc.one.call(subprocess.check_output, ["ip", "-o", "link"]).decode()
    routes = vpc.fabric.inside.call(subprocess.check_output, ["ip", "route"]).decode()
    assert "ens6" not in links
    assert "10.0.1.11 " not in routes


def test_plugging_twice_changes_nothing(vpc: Vpc) -> None:
    vpc.fabric.plug(eni(1), NAMES.node(1))

    assert ping(vpc.one, "10.0.1.20")


def test_a_second_range_of_the_vpc_is_reachable(vpc: Vpc) -> None:
    subnet = IPv4Network("100.64.2.0/24")
    second = evolve(
        eni(2, 1),
        cidr=subnet,
        addresses=(IPv4Address("100.64.2.9"),),
    )
    vpc.fabric.set_vpc([ip_network("10.0.0.0/16"), ip_network("100.64.0.0/16")])
    vpc.fabric.add_subnet(subnet)

    vpc.fabric.plug(second, NAMES.node(2))
    up = ["link set ens6 up", "addr add 100.64.2.9/32 dev ens6"]
    policy = ["rule add from 100.64.2.9 lookup 2"]
    way = ["route add 100.64.2.1 dev ens6", "route add default via 100.64.2.1 table 2"]
    vpc.two.call(tools.ip, [*up, *way, *policy])

    assert ping(vpc.one, "100.64.2.9")


def test_ipv6_prefixes_are_routed_and_checked(vpc: Vpc) -> None:
    for number, inside in ((1, vpc.one), (2, vpc.two)):
        address = f"2001:db8:1::{number}"
        vpc.fabric.change(evolve(eni(number), addresses6=(IPv6Address(address),)))
        lines = [
            f"addr add {address}/128 dev ens5 nodad",
            "route add fe80:ec2::1 dev ens5",
            "route add ::/0 via fe80:ec2::1 dev ens5",
        ]
        inside.call(tools.ip, lines)
    vpc.one.call(tools.ip, ["addr add 2001:db8:1::66/128 dev lo"])

    assert ping(vpc.one, "2001:db8:1::2", "-w5", "-c2")
    assert not ping(vpc.one, "2001:db8:1::2", "-I", "2001:db8:1::66")
