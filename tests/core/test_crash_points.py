"""The agent cut off at every store write, every call of EC2 and every netlink send.

A child process does a node's work and dies at the n-th of these points, whichever it
is; then the node is taken up again from its store, the kernel and EC2, as a new agent
does.  n runs from 1 until the child comes to its end.
"""

from __future__ import annotations

import os
import pickle
import sys
import time
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from attrs import define, field

from eniplug.core.attach import Attachments, Request
from eniplug.core.chain import Chain
from eniplug.core.cloud import GATHER, CloudWorker
from eniplug.core.discover import eni_of, look
from eniplug.core.ec2 import EniFacts, Limits
from eniplug.core.kernel import Kernel
from eniplug.core.kernel.netlink import Socket
from eniplug.core.pace import Pace
from eniplug.core.parts import Life
from eniplug.core.pool import AddressPool, Quarantined
from eniplug.core.settings import Settings
from eniplug.core.state import ELASTIC_IPS, State
from eniplug.core.store import Store
from eniplug.hooks import Action, Block, CapacityView, Eni
from eniplug.hooks.errors import EniplugError
from eniplug.plugins.prefix_delegation import PrefixDelegation
from eniplug.plugins.secondary_ip import SecondaryIp
from eniplug.testing.builders import NODE, a_pod
from eniplug.testing.clock import HandClock
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata
from kit.chains import MAIN, Give, Public, Wire, chain
from kit.fleet import Planner
from kit.netns import inside, namespace, picture, pods

pytestmark = pytest.mark.root

LIMITS = Limits(max_enis=3, ipv4_per_eni=4)
SINGLE = chain(give=Give(), wire=Wire(), public=Public())
"""EC2 promises public addresses for single private ones, not for those of prefixes."""

CUT = 42
MOST = 400
"""Points; a run that has more of them hangs."""

COMMITS = [getattr(Store, name).__code__ for name in ("_commit", "_commit_all")]
POINTS: dict[tuple[object, str], str] = {
    **{(code, "call"): "store, before" for code in COMMITS},
    **{(code, "return"): "store, committed" for code in COMMITS},
    (getattr(MemoryCloud, "_begin").__code__, "call"): "EC2, before",  # noqa: B009
    (getattr(MemoryCloud, "_end").__code__, "call"): "EC2, answer lost",  # noqa: B009
    (Socket.send.__code__, "call"): "netlink",
}


@define(eq=False)
class Agent:
    """What the agent is made of, but for its threads and sockets."""

    store: Store
    cloud: MemoryCloud
    kernel: Kernel
    planner: Planner
    clock: HandClock = field(factory=HandClock)
    state: State = field(init=False)
    attachments: Attachments = field(init=False)
    worker: CloudWorker = field(init=False)

    def start(self) -> None:
        """Take the node up, as `eniplug.core.agent` does."""
        settings = Settings(ip_cooldown_period=0)
        metadata = MemoryMetadata(cloud=self.cloud)
        facts = look(metadata, self.cloud, manage_untagged=True)
        for token in self.store.intents():
            self.store.done(token)
        self.state = State(self.store, AddressPool(0, self.clock), lambda: None)
        self.attachments = Attachments(
            self.state, self.kernel, lambda: NODE, lambda: None, patience=0.0
        )
        self.attachments.recover()
        recorded = self.store.blocks()
        for number, found in enumerate(facts.managed):
            mark = self.state.mark_for(found.id, primary=not number)
            eni = eni_of(found, f"ens{number}", mark)
            self.state.add_eni(eni, (LIMITS.eni_slots, 0), recorded.get(found.id, ()))
        host = Host(self)
        self.worker = CloudWorker(
            self.cloud,
            metadata,
            host,
            facts,
            settings,
            clock=self.clock,
            pace=Pace(self.clock, jitter=lambda: 0.0),
            tenants=self.state,
            seek=self.store.fact(ELASTIC_IPS) is not None,
        )

    @property
    def chain(self) -> Chain:
        return SINGLE if isinstance(self.planner, SecondaryIp) else MAIN

    def pass_time(self, seconds: float) -> None:
        """Let the worker do what is due."""
        end = self.clock() + seconds
        while self.clock() < end:
            pause = self.worker.step()
            self.clock.advance(min(max(pause, GATHER), end - self.clock()))

    def request(self, number: int, netns: int) -> Request:
        """Ask for a pod."""
        return Request(
            id=bytes(16),
            pod=a_pod(number),
            chain=self.chain,
            plugins=self.chain.names,
            netns=netns,
            sandbox=f"/run/netns/{number}",
        )


@define(eq=False)
class Host:
    """What the worker asks of the agent; links come as soon as EC2 attaches."""

    agent: Agent

    def views(self) -> Sequence[CapacityView]:
        enis, waiting = self.agent.state.views()
        view = CapacityView(
            enis=enis,
            targets=Settings().targets,
            eni_slots=LIMITS.eni_slots,
            new_enis=LIMITS.max_enis - len(enis),
            waiting=waiting,
        )
        return (view,)

    def plan(self, views: Sequence[CapacityView]) -> Sequence[Action]:
        (view,) = views
        return self.agent.planner.plan_capacity(view)

    def link_of(self, mac: str) -> str | None:
        enis = self.agent.cloud.all_enis.values()
        there = any(eni.mac == mac and eni.attachment_id for eni in enis)
        return f"ens{mac[-2:]}" if there else None

    def mark_for(self, eni_id: str) -> int:
        return self.agent.state.mark_for(eni_id)

    def adopt(self, eni: Eni, blocks: Sequence[Block]) -> None:
        self.agent.state.add_eni(eni, (LIMITS.eni_slots, 0), blocks)

    def supply(self, eni_id: str, blocks: Sequence[Block]) -> None:
        self.agent.state.supply(eni_id, blocks)

    def withdraw(self, eni_id: str, blocks: Sequence[Block]) -> tuple[Block, ...]:
        return self.agent.state.withdraw(eni_id, blocks)

    def blocks(self, eni_id: str) -> frozenset[Block]:
        return self.agent.state.blocks(eni_id)

    def quarantine(self, eni_id: str, block: Block, reason: str) -> None:
        self.agent.state.quarantine(eni_id, block, reason)

    def quarantined(self) -> tuple[Quarantined, ...]:
        return self.agent.state.quarantined()

    def remember(self, managed: Sequence[EniFacts]) -> None:
        self.agent.store.keep_fact("enis", str(len(managed)))

    def vpc_is(self, cidrs: tuple[IPv4Network, ...]) -> None:
        del cidrs

    def release_eni(self, eni_id: str) -> bool:
        gone = self.agent.state.remove_eni(eni_id)
        if gone:
            self.agent.state.drop_mark(eni_id)
        return gone

    def intend(self, token: str, what: str) -> None:
        self.agent.state.with_store(lambda store: store.intend(token, what))

    def done(self, token: str) -> None:
        self.agent.state.with_store(lambda store: store.done(token))

    def blocked(self, error: EniplugError | None) -> None:
        self.agent.state.blocked(error)


def work(agent: Agent, netns: Sequence[int]) -> None:
    """Start, have pods come and go, get an ENI, and give it back."""
    agent.start()
    agent.pass_time(1)
    for number in range(3):
        agent.attachments.add(agent.request(number, netns[number]))
        agent.pass_time(1)
    agent.attachments.delete(agent.request(0, netns[0]))
    agent.pass_time(1)
    agent.attachments.add(agent.request(3, netns[0]))
    agent.attachments.delete(agent.request(3, netns[0]))
    agent.attachments.delete(agent.request(1, netns[1]))
    agent.pass_time(70)


def dying_at(point: int, die: Callable[[], None]) -> Callable[..., None]:
    """Make a profiler that ends the process when a point is come to."""
    passed = count(1)

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if (frame.f_code, event) in POINTS and next(passed) == point:
            die()

    return profile


def die_at(point: int, agent: Agent, netns: Sequence[int], saved: Path) -> int:
    """Work in a child that dies at a point; returns its exit status."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def die() -> None:
        cloud = agent.cloud
        kept = (cloud.all_enis, cloud.spaces, cloud.on_termination)
        saved.write_bytes(pickle.dumps(kept))
        os._exit(CUT)

    try:
        agent.store = Store(agent.store.path)
        sys.setprofile(dying_at(point, die))
        work(agent, netns)
        sys.setprofile(None)
        os._exit(0)
    finally:
        os._exit(1)


def cloud_of(saved: Path) -> MemoryCloud:
    """EC2 as it was when the agent died."""
    cloud = MemoryCloud(instance_type="c5.large", instance_limits=LIMITS)
    kept = pickle.loads(saved.read_bytes())
    cloud.all_enis, cloud.spaces, cloud.on_termination = kept
    cloud.skip_numbers(1000)
    return cloud


def check(agent: Agent, netns: Sequence[int]) -> None:
    """Hold what the new agent has against EC2, the kernel and the store."""
    cloud, parts = agent.cloud, agent.state.parts()
    addresses = [address for part in parts for address in part.addresses]
    assert len(set(addresses)) == len(addresses), "one address, two pods"
    assert agent.state.counts().assigned == len(addresses)
    assert {part.life for part in parts} <= {Life.LIVE}
    enis, _ = agent.state.views()
    assert {eni.id for eni in enis} == set(cloud.all_enis), "an ENI leaked"
    for eni in cloud.all_enis.values():
        assert agent.state.blocks(eni.id) == set(eni.blocks), "an address leaked"
        assert eni.primary or eni.on_termination
    public = {one.private for one in cloud.all_elastic_ips.values()}
    assert public == (set(addresses) if agent.chain is SINGLE else set())
    assert len(cloud.all_elastic_ips) == len(public), "a public address leaked"
    assert agent.state.quarantined() == ()
    assert agent.store.intents() == {}
    for part in parts:
        number = int(part.pod.container_id.removeprefix(a_pod(0).container_id[:-1]))
        at = 0 if number == 3 else number
        agent.attachments.check(agent.request(number, netns[at]))
        agent.attachments.delete(agent.request(number, netns[at]))


@pytest.mark.parametrize("planner", [SecondaryIp(), PrefixDelegation()])
def test_nothing_is_lost_or_leaked_wherever_the_agent_dies(
    planner: Planner, tmp_path: Path
) -> None:
    kernel, died = Kernel(), 0
    with namespace() as name, pods() as made, inside(name):
        netns = [made.new() for _ in range(3)]
        before = picture(name)
        for point in range(1, MOST):
            path = tmp_path / f"{point}.db"
            Store(path).close()
            cloud = MemoryCloud(instance_type="c5.large", instance_limits=LIMITS)
            agent = Agent(Store(path), cloud, kernel, planner)
            agent.store.close()
            status = die_at(point, agent, netns, tmp_path / "cloud")
            assert status in {0, CUT}, f"point {point}"
            if status == 0:
                break
            died += 1
            agent = Agent(Store(path), cloud_of(tmp_path / "cloud"), kernel, planner)
            agent.start()
            agent.pass_time(200)
            check(agent, netns)
            agent.store.close()
            kernel.reap()
            end = time.monotonic() + 5
            while picture(name) != before:
                assert time.monotonic() < end, f"left at point {point}"
                kernel.reap()
        else:
            pytest.fail("the work does not come to its end")
    print(f"died at {died} points")
    assert died > 60
