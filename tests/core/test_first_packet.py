"""The first packet after an ADD arrives: nothing has to settle first."""

from __future__ import annotations

import socket
from collections.abc import Iterator

import pytest

from eniplug.core.chain import Chain
from eniplug.core.kernel import Kernel
from eniplug.core.kernel.netlink import inside as visit
from eniplug.core.manager import Catalogue, wanted
from eniplug.testing.builders import ADDRESSES, NODE, a_pod, an_allocation
from kit.netns import Pods, inside, namespace, pods, run

pytestmark = pytest.mark.root

PORT = 9
ROUNDS = 10


@pytest.fixture
def chain() -> Chain:
    return Catalogue().build(wanted(["pod-veth", "flat-routes"]))


@pytest.fixture
def made() -> Iterator[Pods]:
    with namespace() as node, inside(node), pods() as made:
        run("ip", "link", "add", "ens5", "type", "veth", "peer", "name", "p5")
        run("ip", "link", "set", "ens5", "up")
        run("ip", "addr", "add", "10.0.0.4/24", "dev", "ens5")
        run("ip", "rule", "add", "priority", "512", "table", "512")
        yield made


def listener() -> socket.socket:
    heard = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    heard.bind(("0.0.0.0", PORT))
    heard.settimeout(1)
    return heard


def test_a_packet_sent_right_after_the_answer_is_not_lost(
    chain: Chain, made: Pods
) -> None:
    kernel = Kernel()
    arrived: list[bytes] = []
    for turn in range(ROUNDS):
        for number, address in enumerate(ADDRESSES):
            pod = a_pod(10 * turn + number)
            netns = made.new()
            objects = chain.declare(pod, an_allocation(pod, number), NODE)
            with (
                visit(netns, listener) as heard,
                socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as node,
            ):
                kernel.apply(objects, netns)
                node.sendto(b"first", (str(address), PORT))
                arrived.append(heard.recv(9))
            assert kernel.remove(objects, netns) == ()

    assert arrived == [b"first"] * ROUNDS * len(ADDRESSES)
