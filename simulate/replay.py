"""Replays a trace on one node: pods come and go, the real cloud worker keeps up.

Time is moved by hand from one event to the next: a pod's start or end, or the moment at
which the worker would look again.  EC2 answers at once, and a new ENI's link is there
at once.
"""

from __future__ import annotations

import heapq
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Network
from typing import Final, TypeAlias

from attrs import field, frozen

from eniplug.core.cloud import IDLE, CloudWorker
from eniplug.core.discover import eni_of, look
from eniplug.core.ec2 import Limits
from eniplug.core.pace import Pace
from eniplug.core.settings import Settings
from eniplug.hooks.capacity import Kind
from eniplug.hooks.errors import PoolEmptyError
from eniplug.hooks.objects import Ip
from eniplug.plugins.prefix_delegation import PrefixDelegation
from eniplug.plugins.secondary_ip import SecondaryIp
from eniplug.simulate.host import Plan, PoolHost
from eniplug.simulate.measures import CALLS, Levels, Meter, Outcome
from eniplug.simulate.policies import POLICIES
from eniplug.simulate.trace import DAY, PodTime
from eniplug.testing.clock import HandClock
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata

MODES: Final[Mapping[str, tuple[Plan, Kind]]] = {
    "secondary-ip": (SecondaryIp().plan_capacity, "address"),
    "prefix-delegation": (PrefixDelegation().plan_capacity, "prefix"),
}
"""Who plans, and what a pod's address is taken from first, by the plugin's name."""

SUBNET: Final = IPv4Network("10.0.0.0/18")

QUIET: Final = 30.0
"""Seconds between looks of a worker that has nothing due.  The agent's looks each 5 s;
this is coarser for speed, and misses an ENI that is unused for a shorter while."""

Event: TypeAlias = tuple[float, int, int]
"""When, 0 for an end and 1 for a start, and which pod."""


@frozen(kw_only=True)
class Setup:
    """A node and what its agent is told; ``days`` is where a run ends."""

    mode: str
    limits: Limits
    settings: Settings
    seed: int
    days: float


def replay(trace: Sequence[PodTime], policy: str, setup: Setup) -> Outcome:
    """Run a trace under a policy; the same arguments give the same outcome."""
    run = _Run.of(setup, policy)
    return run.through(trace, setup.days * DAY)


@frozen(eq=False, kw_only=True)
class _Run:
    """One run's node, and who is on it."""

    policy: str
    prefer: Kind
    clock: HandClock
    host: PoolHost
    worker: CloudWorker
    meter: Meter = field(factory=Meter)
    running: dict[int, Ip] = field(factory=dict)
    queue: dict[int, None] = field(factory=dict)

    @classmethod
    def of(cls, setup: Setup, policy: str) -> _Run:
        """Start an agent on a new instance."""
        clock = HandClock(0.0)
        plan, prefer = MODES[setup.mode]
        cloud = MemoryCloud(instance_limits=setup.limits, subnets={"subnet-1": SUBNET})
        metadata = MemoryMetadata(cloud=cloud)
        pool = POLICIES[policy](setup.settings.ip_cooldown_period, clock, setup.seed)
        host = PoolHost(cloud, pool, plan, setup.settings)
        facts = look(metadata, cloud, manage_untagged=True)
        host.adopt(eni_of(facts.primary, "ens5", 1), facts.primary.blocks)
        cloud.calls.clear()
        start = datetime(2026, 1, 1, tzinfo=UTC)
        worker = CloudWorker(
            cloud,
            metadata,
            host,
            facts,
            setup.settings,
            clock=clock,
            today=lambda: start + timedelta(seconds=clock()),
            pace=Pace(clock, jitter=lambda: 0.0),
        )
        return cls(policy=policy, prefer=prefer, clock=clock, host=host, worker=worker)

    def through(self, trace: Sequence[PodTime], end: float) -> Outcome:
        """Pass through all events before ``end``, in seconds."""
        began = waited = unserved = 0
        due = self._look()
        for when, starts, number in _events(trace, end):
            while due < when:
                self._advance(due)
                due = self._look()
            self._advance(when)
            if starts:
                began += 1
                self.queue[number] = None
                self._serve()
                waited += number in self.queue
                due = when
            elif number in self.running:
                self.host.pool.release(self.running.pop(number))
            else:
                unserved += 1
                del self.queue[number]
        while due < end:
            self._advance(due)
            due = self._look()
        self._advance(end)
        return Outcome(
            policy=self.policy,
            meter=self.meter,
            calls=Counter(CALLS[str(call[0])] for call in self.host.cloud.calls),
            pods=began,
            waited=waited,
            unserved=unserved,
        )

    def _advance(self, when: float) -> None:
        passed = when - self.clock()
        if passed > 0:
            self.meter.add(Levels.of(self.host.cloud, len(self.running)), passed)
            self.clock.advance(passed)

    def _look(self) -> float:
        """Let the worker make a step; returns when it wants the next."""
        self.host.waiting = len(self.queue)
        pause = self.worker.step()
        self._serve()
        return self.clock() + (QUIET if pause >= IDLE and not self.queue else pause)

    def _serve(self) -> None:
        """Give addresses to the pods that wait, the first first."""
        self.host.pool.expire()
        for number in tuple(self.queue):
            try:
                lease = self.host.pool.take(prefer=self.prefer)
            except PoolEmptyError:
                return
            self.running[number] = lease.address
            del self.queue[number]


def _events(trace: Sequence[PodTime], end: float) -> Iterator[Event]:
    """Starts and ends before ``end``, in order; at one moment ends come first."""
    ends: list[Event] = []
    for number, pod in enumerate(trace):
        while ends and ends[0][0] <= pod.start:
            yield heapq.heappop(ends)
        if pod.start >= end:
            break
        yield pod.start, 1, number
        if pod.end < end:
            heapq.heappush(ends, (pod.end, 0, number))
    while ends:
        yield heapq.heappop(ends)
