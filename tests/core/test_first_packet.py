"""The first packet after an ADD arrives: nothing has to settle first."""

from __future__ import annotations

import socket
from collections.abc import Iterator
from functools import partial
from ipaddress import ip_address, ip_interface

import pytest
from attrs import evolve

from eniplug.core.kernel import Kernel
from eniplug.core.kernel.home import Home
from eniplug.core.manager import Catalogue, wanted
from eniplug.hooks import Allocation, Lease
from eniplug.testing.builders import ADDRESSES, NODE, PRIMARY, a_pod, an_allocation
from kit.netns import Pods, inside, namespace, pods, run

pytestmark = pytest.mark.root

PORT = 9
ROUNDS = 10


CHAIN = ["pod-veth", "flat-routes"]
EGRESS = "egress-v4"
SIX = tuple(ip_address(f"2001:db8:0:1:1::{n:x}") for n in range(10, 19))
OWN6 = ip_interface("2001:db8:0:1::4/128")
NODE6 = evolve(NODE, enis=(evolve(PRIMARY, addresses=(*PRIMARY.addresses, OWN6)),))


@pytest.fixture
def made() -> Iterator[Pods]:
    with namespace() as node, inside(node), pods() as made:
        run("ip", "link", "add", "ens5", "type", "veth", "peer", "name", "p5")
        run("ip", "link", "set", "ens5", "up")
        run("ip", "addr", "add", "10.0.0.4/24", "dev", "ens5")
        run("ip", "addr", "add", str(OWN6), "dev", "ens5", "nodad")
        for family in ("-4", "-6"):
            run("ip", family, "rule", "add", "priority", "512", "table", "512")
        yield made


def listener() -> socket.socket:
    heard = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    heard.bind(("::", PORT))
    heard.settimeout(1)
    return heard


def send(address: str) -> None:
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    with socket.socket(family, socket.SOCK_DGRAM) as sock:
        sock.sendto(b"first", (address, PORT))


def test_a_packet_sent_right_after_the_answer_is_not_lost(made: Pods) -> None:
    kernel, chain = Kernel(), Catalogue().build(wanted(CHAIN))
    arrived: list[bytes] = []
    for turn in range(ROUNDS):
        for number, address in enumerate(ADDRESSES):
            pod = a_pod(10 * turn + number)
            netns = made.new()
            objects = chain.declare(pod, an_allocation(pod, number), NODE)
            with Home().visit(netns, listener) as heard:
                kernel.apply(objects, netns)
                send(str(address))
                arrived.append(heard.recv(9))
            assert kernel.remove(objects, netns) == ()

    assert arrived == [b"first"] * ROUNDS * len(ADDRESSES)


def can_bind(address: str) -> bool:
    """Whether an address is usable: it is not while the kernel looks for duplicates."""
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
        sock.bind((address, 0))
        return True


def test_nor_is_one_to_a_pod_with_ipv6_and_its_way_out(made: Pods) -> None:
    kernel, chain = Kernel(), Catalogue().build(wanted([*CHAIN, EGRESS]))
    arrived: list[bytes] = []
    for number, address in enumerate(SIX):
        pod = a_pod(number, slot=number)
        netns = made.new()
        allocation = Allocation.of(pod, Lease(address=address, eni=PRIMARY))
        objects = chain.declare(pod, allocation, NODE6)
        with Home().visit(netns, listener) as heard:
            kernel.apply(objects, netns)
            send(str(address))
            send(f"169.254.172.{number + 2}")
            assert Home().visit(netns, partial(can_bind, str(address)))
            arrived += [heard.recv(9), heard.recv(9)]
        assert kernel.remove(objects, netns) == ()

    assert arrived == [b"first"] * 2 * len(SIX)
