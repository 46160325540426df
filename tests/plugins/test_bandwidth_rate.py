"""What is asked for against what arrives, frame by frame, with the burst spent."""

from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_address

import pytest
from attrs import frozen

from eniplug.core.kernel import Kernel
from eniplug.hooks import Allocation, Lease, Object, Pod
from eniplug.plugins.bandwidth import Bandwidth
from eniplug.plugins.flat_routes import FlatRoutes
from eniplug.plugins.pod_veth import PodVeth
from eniplug.testing.builders import NODE, PRIMARY, a_pod
from kit.nodes import World, a_world
from kit.streams import Counted, Stream, streaming

pytestmark = pytest.mark.root

WITHIN = 0.05
SPEND = 1.0
"""Seconds that a stream has to spend the burst and to find its speed."""

MEASURE = 4.0
"""Seconds: 55 frames of 9001 bytes at 1 Mbit/s."""

TRIES = 3
"""How often one is measured that does not fit: a machine may be too busy to send."""


@frozen(kw_only=True)
class Case:
    """One pod and its limit in Mbit/s; ``made`` is what it really got, if that."""

    way: str
    mbit: float
    mtu: int
    family: int
    made: float | None = None

    def pod(self, number: int) -> Pod:
        """The shaped pod."""
        asked = {
            f"{self.way}Rate": int((self.made or self.mbit) * 1e6),
            f"{self.way}Burst": 2**32 - 1,
        }
        return a_pod(number, mtu=self.mtu, runtime={"bandwidth": asked})


RIGHT = (
    Case(way="ingress", mbit=1, mtu=9001, family=4),
    Case(way="egress", mbit=1, mtu=1500, family=6),
    Case(way="ingress", mbit=10, mtu=1500, family=4),
    Case(way="egress", mbit=10, mtu=9001, family=6),
    Case(way="ingress", mbit=100, mtu=1500, family=6),
    Case(way="egress", mbit=100, mtu=9001, family=4),
    Case(way="ingress", mbit=300, mtu=9001, family=6),
    Case(way="egress", mbit=300, mtu=1500, family=4),
)
WRONG = (
    Case(way="ingress", mbit=10, mtu=1500, family=4, made=11),
    Case(way="egress", mbit=10, mtu=1500, family=4, made=9),
)


@pytest.fixture
def world() -> Iterator[World]:
    with a_world("br") as world:
        for setting in ("ipv4.ip_forward", "ipv6.conf.all.forwarding"):
            world.run("sysctl", "-qw", f"net.{setting}=1")
        world.run("ip", "addr", "add", str(PRIMARY.addresses[0]), "dev", "lo")
        for family in ("-4", "-6"):
            world.run("ip", family, "rule", "add", "pref", "512", "lookup", "512")
        yield world


def attach(world: World, pod: Pod, number: int) -> tuple[int, dict[int, str]]:
    """Attach a pod; returns its namespace and its address of each family."""
    addresses = {4: f"10.0.1.{number}", 6: f"2001:db8::{number:x}"}
    leases = [Lease(address=ip_address(a), eni=PRIMARY) for a in addresses.values()]
    allocation = Allocation.of(pod, *leases)
    objects: tuple[Object, ...] = (
        *PodVeth().setup_netns(pod, allocation),
        *Bandwidth().setup_netns(pod, allocation),
        *FlatRoutes().program_routes(allocation, NODE),
    )
    netns = world.pod(str(number))
    Kernel().apply(objects, netns)
    return netns, addresses


def measured(world: World, cases: tuple[Case, ...], first: int) -> dict[Case, float]:
    """Measure all at the same time, in Mbit/s."""
    streams: list[Stream] = []
    for number, case in enumerate(cases, first):
        pod, inside = attach(world, case.pod(2 * number), 2 * number)
        plain = a_pod(2 * number + 1, mtu=case.mtu)
        other, outside = attach(world, plain, 2 * number + 1)
        inwards = case.way == "ingress"
        stream = Stream(
            source=other if inwards else pod,
            sink=pod if inwards else other,
            address=(inside if inwards else outside)[case.family],
            mbit=case.mbit,
            mtu=case.mtu,
        )
        streams.append(stream)
    with streaming(streams):
        time.sleep(SPEND)
        before = [Counted.at(stream.sink) for stream in streams]
        time.sleep(MEASURE)
        after = [Counted.at(stream.sink) for stream in streams]
    return {
        case: stream.rate(then, now)
        for case, stream, then, now in zip(cases, streams, before, after, strict=True)
    }


def fits(case: Case, mbit: float) -> bool:
    return abs(mbit / case.mbit - 1) <= WITHIN


def test_a_pod_receives_and_sends_at_the_rate_that_was_asked(world: World) -> None:
    found = measured(world, (*RIGHT, *WRONG), 1)
    first = 1 + len(found)
    for _ in range(TRIES - 1):
        missed = tuple(case for case in RIGHT if not fits(case, found[case]))
        if missed:
            found |= measured(world, missed, first)
            first += len(missed)

    assert [(c, found[c]) for c in RIGHT if not fits(c, found[c])] == []
    assert [(c, found[c]) for c in WRONG if fits(c, found[c])] == []
