from __future__ import annotations

import subprocess
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network

import pytest
from attrs import evolve

from eniplug.lab import netns
from eniplug.lab.errors import LabError
from eniplug.lab.fabric import Fabric
from eniplug.lab.facts import EniFacts, NodeFacts
from eniplug.lab.names import Names
from eniplug.lab.sweep import claim, clear, release, sweep
from eniplug.lab.wiring import Wiring
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-wiring")


def eni(node: int, device: int = 0) -> EniFacts:
    return EniFacts(
        id=f"eni-{node}{device}",
        mac=f"02:00:00:00:0{node}:0{device}",
        subnet="subnet-1",
        cidr=IPv4Network("10.0.1.0/24"),
        cidr6=IPv6Network("2001:db8::/64"),
        addresses=(IPv4Address(f"10.0.1.{10 * node + device}"),),
        addresses6=() if device else (IPv6Address(f"2001:db8::{node}"),),
        instance=f"i-{node}",
        device=device,
        attachment="attached",
    )


def instance(number: int) -> NodeFacts:
    return NodeFacts(
        instance_id=f"i-{number}",
        instance_type="m5.large",
        image="ami-1",
        account="1",
        region="us-east-1",
        zone="us-east-1a",
        zone_id="use1-az1",
        vpc="vpc-1",
        vpc_cidrs=(IPv4Network("10.0.0.0/16"),),
        vpc_cidrs6=(IPv6Network("2001:db8::/56"),),
        enis=(eni(number),),
    )


def settle(wiring: Wiring, *numbers: int) -> None:
    """Wait for packets to flow: the kernel activates a raised link a moment later."""
    for number in numbers:
        for gateway in ("10.0.1.1", "fe80:ec2::1%ens5"):
            command = ["ping", "-c1", "-w5", gateway]
            inside = wiring.node(number).inside
            inside.call(subprocess.run, command, capture_output=True, check=True)


@pytest.fixture
def wiring() -> Iterator[Wiring]:
    clear(NAMES)
    held = claim(NAMES)
    fabric = Fabric(NAMES)
    made = Wiring(NAMES, fabric)
    try:
        made.instance(instance(1))
        made.instance(instance(2))
        settle(made, 1, 2)
        yield made
    finally:
        for _, node in made.nodes():
            node.close()
        fabric.close()
        sweep(NAMES)
        release(NAMES, held)


def ping(wiring: Wiring, number: int, to: str) -> bool:
    command = ["ping", "-c1", "-W0.5", to]
    inside = wiring.node(number).inside
    return inside.call(subprocess.run, command, capture_output=True).returncode == 0


def links(wiring: Wiring, number: int) -> str:
    inside = wiring.node(number).inside
    return inside.call(subprocess.check_output, ["ip", "-br", "link"], text=True)


def test_instances_become_nodes_that_reach_each_other(wiring: Wiring) -> None:
    assert [node.namespace for _, node in wiring.nodes()] == [
        f"{MINE}-wiring-node1",
        f"{MINE}-wiring-node2",
    ]
    assert ping(wiring, 1, "10.0.1.20")
    assert ping(wiring, 1, "2001:db8::2")


def test_an_eni_comes_and_goes(wiring: Wiring) -> None:
    wiring.attached(eni(1, 1))
    with_it = links(wiring, 1)
    wiring.detached(eni(1, 1))
    wiring.detached(eni(1, 1))

    assert "ens6" in with_it
    assert "ens6" not in links(wiring, 1)
    assert [each.id for each in wiring.enis("i-1")] == ["eni-10"]


def test_what_is_told_of_an_eni_elsewhere_changes_nothing(wiring: Wiring) -> None:
    wiring.addresses(evolve(eni(9), instance=""))
    wiring.attribute(evolve(eni(9), instance=""))

    assert wiring.enis("") == []


def test_a_public_address_is_known(wiring: Wiring) -> None:
    private, public = IPv4Address("10.0.1.10"), IPv4Address("198.51.100.1")

    wiring.public_ip({private: public})

    assert wiring.public(private) == public


def test_a_terminated_instance_takes_its_node_along(wiring: Wiring) -> None:
    wiring.instance_gone(instance(2))

    assert [node.number for _, node in wiring.nodes()] == [1]
    assert NAMES.node(2) not in netns.names()
    assert not ping(wiring, 1, "10.0.1.20")
    with pytest.raises(LabError, match="there is no node 2"):
        wiring.node(2)


def test_a_later_instance_is_another_node(wiring: Wiring) -> None:
    wiring.instance_gone(instance(2))

    wiring.instance(instance(3))
    settle(wiring, 3)

    assert [node.number for _, node in wiring.nodes()] == [1, 3]
    assert ping(wiring, 1, "10.0.1.30")
