"""An ADD and a DEL are the same work however many pods there are.

Counted, not timed: calls of functions, Python's and C's, among them every netlink
datagram, statement of the store and system call that the agent makes.
"""

from __future__ import annotations

import gc
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from ipaddress import ip_address
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from attrs import define, evolve

from eniplug.core.attach import Attachments, Request
from eniplug.core.chain import Chain
from eniplug.core.kernel import Kernel
from eniplug.core.manager import Catalogue, wanted
from eniplug.core.parts import Part
from eniplug.core.pool import AddressPool
from eniplug.core.state import Desk, State
from eniplug.lab import tools
from eniplug.testing.builders import NODE, PRIMARY, SECOND, a_pod
from kit.netns import Pods, inside, namespace, pods
from kit.stores import stores

pytestmark = pytest.mark.root

MANY = 200
FIRST = ip_address("10.0.4.0")


def calls(work: Callable[[], object]) -> Counter[str]:
    """Count what a piece of work calls, by name."""
    counted: Counter[str] = Counter()

    def profile(frame: FrameType, event: str, what: Any) -> None:
        if event == "call":
            counted[frame.f_code.co_qualname] += 1
        elif event == "c_call":
            counted[what.__qualname__] += 1

    gc.disable()  # it calls what others left behind, whenever it likes
    sys.setprofile(profile)
    try:
        work()
    finally:
        sys.setprofile(None)
        gc.enable()
    return counted


@define
class World:
    """A node's namespace, a pod's, and a pool that has room for many more."""

    state: State
    attachments: Attachments
    chain: Chain
    netns: Pods

    def request(self, number: int) -> Request:
        return Request(
            id=number.to_bytes(16, "big"),
            pod=a_pod(number),
            chain=self.chain,
            plugins=self.chain.names,
            netns=self.netns.new(),
            sandbox=f"/run/netns/{number}",
        )

    def fill(self) -> None:
        """Bring in many pods: all that the agent knows, and links and routes."""
        for number in range(MANY):
            pod = evolve(a_pod(1000 + number), slot=self.state.open_slot())
            allocation = self.chain.allocate(pod, Desk(self.state, None))
            assert allocation is not None
            part = Part(
                pod=pod,
                plugins=self.chain.names,
                allocation=allocation,
                leased=True,
                objects=self.chain.declare(pod, allocation, NODE),
                request="0" * 32,
                made=time.time(),
            )
            self.state.live(self.state.begin(part), {})
        links = [f"link add p{n} up type veth peer q{n}" for n in range(MANY)]
        routes = [f"route add 10.9.0.{n} dev p{n} table 512" for n in range(MANY)]
        rules = [f"rule add to 10.9.0.{n} priority 512 table 512" for n in range(MANY)]
        tools.ip([*links, *routes, *rules])


@pytest.fixture(params=["flat-routes", "policy-routes"])
def world(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[World]:
    with namespace() as name, pods() as made, inside(name), stores(tmp_path) as kept:
        for eni in (PRIMARY, SECOND):
            add = f"link add {eni.link} up type veth peer far-{eni.link}"
            tools.ip([add, f"addr add {eni.addresses[0]} dev {eni.link}"])
        state = State(kept.open(), AddressPool(0, time.monotonic), lambda: None)
        every = [FIRST + number for number in range(2 * MANY)]
        state.add_eni(PRIMARY, (len(every), 0), every)
        plugins = wanted(["secondary-ip", "pod-veth", request.param])
        chain = Catalogue.from_environ({}).build(plugins)
        attachments = Attachments(state, Kernel(), lambda: NODE, lambda: None)
        yield World(state, attachments, chain, made)


def test_an_add_and_a_del_call_as_much_with_many_pods_as_with_none(
    world: World,
) -> None:
    # Pods of no other test: their links' names are remembered for none of them.
    first, alone, amid = (world.request(number) for number in range(7000, 7003))
    world.attachments.add(first)  # what is made once

    add = calls(lambda: world.attachments.add(alone))
    delete = calls(lambda: world.attachments.delete(alone))
    world.fill()
    add_amid = calls(lambda: world.attachments.add(amid))
    delete_amid = calls(lambda: world.attachments.delete(amid))

    assert add["socket.send"] == 3  # the host's links, the pod's side, the rest
    assert add["Store._commit"] == 1  # what it is has to stand there before it begins
    assert {**add_amid - add, **delete_amid - delete} == {}
