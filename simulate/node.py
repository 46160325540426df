"""One node, simulated: the real pool, planner and cloud worker; EC2 in memory.

Time is moved by hand, from one event to the next, so a month takes seconds.
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from random import Random
from typing import Final, Literal, Protocol

from attrs import define, field, frozen

from eniplug.core.cloud import GATHER, CloudWorker
from eniplug.core.discover import eni_of, look
from eniplug.core.ec2 import EniFacts, Limits
from eniplug.core.pace import Pace
from eniplug.core.pool import AddressPool, Quarantined
from eniplug.core.settings import Settings
from eniplug.core.shelf import Prefix, Shelf
from eniplug.hooks import Action, Block, CapacityView, Eni, Family, Ip, Kind
from eniplug.hooks.errors import EniplugError, PoolEmptyError
from eniplug.simulate.trace import Life, events
from eniplug.testing.clock import HandClock
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata

Policy = Literal["packing", "random"]
POLICIES: Final[tuple[Policy, ...]] = ("packing", "random")


class RandomPool(AddressPool):
    """Takes any ENI and any prefix, as the AWS VPC CNI does (Go's order of maps)."""

    def __init__(
        self, cooldown: float, clock: Callable[[], float], random: Random
    ) -> None:
        super().__init__(cooldown, clock)
        self._random = random

    def _choose_eni(self, able: Sequence[Shelf]) -> Shelf:
        return self._random.choice(able)

    def _choose_prefix(self, shelf: Shelf, family: Family) -> Prefix:
        return self._random.choice(shelf.open_prefixes(family))


class Planner(Protocol):
    """A plugin that plans."""

    def plan_capacity(self, view: CapacityView) -> tuple[Action, ...]:
        """Say what the pool does next."""
        ...


@frozen(kw_only=True)
class Sample:
    """The node at one moment; ``at`` in seconds, ``calls`` since the beginning."""

    at: float
    used: int
    held: int
    prefixes: int
    enis: int
    calls: int


@define(eq=False, kw_only=True)
class Outcome:
    """What a trace took; waits in seconds."""

    policy: Policy
    samples: list[Sample] = field(factory=list)
    calls: Counter[str] = field(factory=Counter)
    pods: int = 0
    waited: int = 0
    longest_wait: float = 0.0


@define(eq=False)
class Host:
    """What the worker asks of an agent (`eniplug.core.cloud.Host`)."""

    pool: AddressPool
    planner: Planner
    settings: Settings
    limits: Limits
    max_pods: int
    waiting: int = 0
    marks: dict[str, int] = field(factory=dict)

    def view(self) -> CapacityView:
        """The pool at this moment."""
        enis = self.pool.views()
        most = min(self.limits.max_enis, self.settings.max_eni or self.limits.max_enis)
        return CapacityView(
            enis=enis,
            targets=self.settings.targets,
            eni_slots=self.limits.eni_slots,
            new_enis=max(most - len(enis), 0),
            waiting=self.waiting,
            max_pods=self.max_pods,
        )

    def plan(self, view: CapacityView) -> Sequence[Action]:
        """Ask the plugin."""
        return self.planner.plan_capacity(view)

    def link_of(self, mac: str) -> str | None:
        """Links are there at once."""
        return f"ens{mac}"

    def mark_for(self, eni_id: str) -> int:
        """A number for each ENI."""
        return self.marks.setdefault(eni_id, len(self.marks) + 2)

    def adopt(self, eni: Eni, blocks: Sequence[Block]) -> None:
        """Take an ENI in."""
        self.pool.add_eni(eni, self.limits.eni_slots)
        self.pool.add(eni.id, blocks)

    def supply(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Take blocks in."""
        self.pool.add(eni_id, blocks)

    def withdraw(self, eni_id: str, blocks: Sequence[Block]) -> tuple[Block, ...]:
        """Take unused blocks out."""
        return () if self.waiting else self.pool.withdraw(eni_id, blocks)

    def blocks(self, eni_id: str) -> frozenset[Block]:
        """All that the pool has of an ENI."""
        return self.pool.blocks(eni_id)

    def quarantine(self, eni_id: str, block: Block, reason: str) -> None:
        """Hand out no more of a block."""
        self.pool.quarantine(eni_id, block, reason)

    def quarantined(self) -> tuple[Quarantined, ...]:
        """What is in quarantine."""
        return self.pool.quarantined()

    def remember(self, managed: Sequence[EniFacts]) -> None:
        """There is no second life."""

    def release_eni(self, eni_id: str) -> bool:
        """Take a whole ENI out, if it serves nobody."""
        try:
            self.pool.remove_eni(eni_id)
        except ValueError:
            return False
        return True

    def intend(self, token: str, what: str) -> None:
        """There is no second life."""

    def done(self, token: str) -> None:
        """There is no second life."""

    def blocked(self, error: EniplugError | None) -> None:
        """Nobody asks."""


class Simulation:
    """Replays one trace under one policy."""

    def __init__(
        self,
        planner: Planner,
        settings: Settings,
        limits: Limits,
        policy: Policy,
        *,
        max_pods: int,
        prefer: Kind,
        seed: int,
    ) -> None:
        self.clock = HandClock(0.0)
        cooldown = settings.ip_cooldown_period
        self.pool = (
            AddressPool(cooldown, self.clock)
            if policy == "packing"
            else RandomPool(cooldown, self.clock, Random(seed))
        )
        self.cloud = MemoryCloud(
            instance_type="simulated",
            instance_limits=limits,
            subnets={"subnet-1": IPv4Network("10.0.0.0/16")},
        )
        self.host = Host(self.pool, planner, settings, limits, max_pods)
        metadata = MemoryMetadata(cloud=self.cloud)
        facts = look(metadata, self.cloud, manage_untagged=True)
        self.host.adopt(eni_of(facts.primary, "ens5", 1), ())
        self.cloud.calls.clear()
        self.worker = CloudWorker(
            self.cloud,
            metadata,
            self.host,
            facts,
            settings,
            clock=self.clock,
            pace=Pace(self.clock, jitter=lambda: 0.0),
        )
        self._prefer = prefer
        self._outcome = Outcome(policy=policy)
        self._due = 0.0
        self._addresses: dict[int, Ip] = {}
        self._line: deque[tuple[int, float]] = deque()

    def run(self, lives: Sequence[Life], sample_every: float) -> Outcome:
        """Replay a trace; ``sample_every`` in seconds."""
        plan = events(lives)
        self._outcome.pods = len(lives)
        end, sample = plan[-1][0], 0.0
        for at, starts, number in plan:
            while sample <= at:
                self._advance(sample)
                self._sample()
                sample += sample_every
            self._advance(at)
            if starts:
                self._line.append((number, at))
            else:
                self._end(number)
            self._serve()
            self._due = self.clock()
        self._advance(end)
        self._sample()
        self._outcome.calls = Counter(str(call[0]) for call in self.cloud.calls)
        return self._outcome

    def _advance(self, to: float) -> None:
        """Let the worker do what is due until then."""
        while self._due <= to:
            self.clock.advance(max(self._due - self.clock(), 0.0))
            self._serve()
            self.host.waiting = len(self._line)
            pause = self.worker.step()
            cooled = self.pool.next_due()
            later = self.clock() + max(pause, GATHER if pause else 0.0)
            self._due = min(later, cooled) if self._line and cooled else later
        self.clock.advance(max(to - self.clock(), 0.0))

    def _serve(self) -> None:
        """Give addresses to those who wait, in their order."""
        self.pool.expire()
        while self._line:
            number, since = self._line[0]
            try:
                lease = self.pool.take(prefer=self._prefer)
            except PoolEmptyError:
                break
            self._line.popleft()
            self._addresses[number] = lease.address
            wait = self.clock() - since
            if wait > 0:
                self._outcome.waited += 1
                self._outcome.longest_wait = max(self._outcome.longest_wait, wait)
        self.host.waiting = len(self._line)

    def _end(self, number: int) -> None:
        address = self._addresses.pop(number, None)
        if address is not None:
            self.pool.release(address)
        else:
            self._line = deque(one for one in self._line if one[0] != number)

    def _sample(self) -> None:
        views = self.pool.views()
        self._outcome.samples.append(
            Sample(
                at=self.clock(),
                used=len(self._addresses),
                held=self.pool.counts(4).total,
                prefixes=sum(len(eni.prefixes_of(4)) for eni in views),
                enis=len(views),
                calls=len(self.cloud.calls),
            )
        )
