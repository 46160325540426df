from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface

import pytest
from attrs import evolve

from eniplug.core.kernel import Kernel
from eniplug.hooks import POD, Address, Allocation, Sysctl, Veth
from eniplug.plugins.pod_veth import PodVeth
from eniplug.testing.builders import a_pod, an_allocation
from kit.nodes import World, a_world

NAME = "eni4448cbddedf"
"""eni and the first digits of `printf default.web-3 | sha1sum`."""


@pytest.fixture
def world() -> Iterator[World]:
    with a_world("pt") as world:
        yield world


def with_addresses(*addresses: str) -> Allocation:
    """An allocation of one interface with these addresses."""
    nic = an_allocation(a_pod(3), 2).nics[0]
    every = tuple(ip_interface(address) for address in addresses)
    return Allocation(nics=(evolve(nic, addresses=every),))


def test_pod_gets_a_pair_and_its_address_at_full_length() -> None:
    pod = a_pod(3, mtu=1500)

    declared = list(PodVeth().setup_netns(pod, an_allocation(pod, 2)))

    assert declared == [
        Veth(
            name=NAME,
            peer="eth0",
            mac=pod.mac("host"),
            peer_mac=pod.mac("pod"),
            mtu=1500,
        ),
        Address(link="eth0", address=ip_interface("10.0.0.12/32")),
    ]


def test_every_address_of_the_interface_is_put_on_it() -> None:
    allocation = with_addresses("10.0.0.12/32", "10.0.0.13/32")

    _, *addresses = PodVeth().setup_netns(a_pod(3), allocation)

    assert addresses == [
        Address(link="eth0", address=ip_interface("10.0.0.12/32")),
        Address(link="eth0", address=ip_interface("10.0.0.13/32")),
    ]


def test_ipv6_is_switched_on_before_its_address_is_there() -> None:
    allocation = with_addresses("10.0.0.12/32", "2001:db8::12/128")

    _, *declared = PodVeth().setup_netns(a_pod(3), allocation)

    assert declared == [
        Sysctl(path="net/ipv6/conf/lo/disable_ipv6", value="0", side=POD),
        Sysctl(path="net/ipv6/conf/eth0/disable_ipv6", value="0", side=POD),
        Address(link="eth0", address=ip_interface("10.0.0.12/32")),
        Address(link="eth0", address=ip_interface("2001:db8::12/128")),
    ]
    assert Sysctl.rank < Address.rank


def test_each_interface_of_a_pod_gets_a_pair_of_its_own() -> None:
    nic = an_allocation(a_pod(3)).nics[0]
    second = evolve(nic, index=1, ifname="eth1", host_ifname="eni1")
    allocation = Allocation(nics=(nic, second))

    declared = PodVeth().setup_netns(a_pod(3), allocation)

    pairs = [(o.name, o.peer) for o in declared if isinstance(o, Veth)]
    assert pairs == [(NAME, "eth0"), ("eni1", "eth1")]


@pytest.mark.root
def test_ipv6_address_comes_up_where_the_runtime_had_switched_ipv6_off(
    world: World,
) -> None:
    netns = world.pod("pod")
    world.run("ip", "link", "set", "lo", "up", pod="pod")
    for name in ("all", "default"):
        setting = f"net.ipv6.conf.{name}.disable_ipv6=1"
        world.run("sysctl", "-qw", setting, pod="pod")
    allocation = with_addresses("2001:db8::12/128")

    Kernel().apply(tuple(PodVeth().setup_netns(a_pod(3), allocation)), netns)

    (link,) = world.ip("-6", "addr", "show", "dev", "eth0", pod="pod")
    (address,) = link["addr_info"]
    assert address["local"] == "2001:db8::12"
    assert "tentative" not in address
    (loopback,) = world.ip("-6", "addr", "show", "dev", "lo", pod="pod")
    assert [one["local"] for one in loopback["addr_info"]] == ["::1"]


@pytest.mark.root
def test_pair_is_up_and_has_the_pods_mtu(world: World) -> None:
    netns = world.pod("pod")
    pod = a_pod(3, mtu=8951)
    allocation = an_allocation(pod, 2)

    Kernel().apply(tuple(PodVeth().setup_netns(pod, allocation)), netns)

    ends = [
        *world.ip("link", "show", NAME),
        *world.ip("link", "show", "eth0", pod="pod"),
    ]
    assert [(end["mtu"], "UP" in end["flags"]) for end in ends] == [(8951, True)] * 2
