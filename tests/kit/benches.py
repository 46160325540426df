"""A cloud worker whose steps a test makes, with a real pool and a real plan."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from ipaddress import IPv4Network

import pytest
from attrs import define, field

from eniplug.core.cloud import GATHER, CloudWorker
from eniplug.core.discover import Facts, eni_of, look
from eniplug.core.ec2 import INSTANCE_TAG, EniFacts, Limits
from eniplug.core.elastic_ips import Tenants
from eniplug.core.host import CARD_TARGETS, on_card
from eniplug.core.pace import Pace
from eniplug.core.pool import AddressPool, Quarantined
from eniplug.core.settings import Settings
from eniplug.hooks.capacity import Action, Block, CapacityView, CreateEni
from eniplug.hooks.errors import (
    EniplugError,
)
from eniplug.hooks.values import Eni
from eniplug.plugins.secondary_ip import SecondaryIp
from eniplug.testing.clock import HandClock
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata
from kit.fleet import Planner

C5_LARGE = Limits(max_enis=3, ipv4_per_eni=10)


@define(eq=False)
class Node:
    """The agent's side: a real pool, a real plan, and links that a test may delay."""

    cloud: MemoryCloud
    settings: Settings
    clock: HandClock
    pool: AddressPool
    planner: Planner = field(factory=SecondaryIp)
    waiting: int = 0
    links: bool = True
    why: EniplugError | None = None
    bugs: list[Exception] = field(factory=list)
    intents: dict[str, str] = field(factory=dict)
    history: list[str] = field(factory=list)
    marks: dict[str, int] = field(factory=dict)
    remembered: tuple[EniFacts, ...] = ()
    vpc: tuple[IPv4Network, ...] = ()
    unsettled: list[EniplugError] = field(factory=list)

    def views(self) -> Sequence[CapacityView]:
        limits = self.cloud.instance_limits
        views: list[CapacityView] = []
        for card in limits.cards or (0,):
            enis = tuple(eni for eni in self.pool.views() if eni.card == card)
            views.append(
                CapacityView(
                    enis=enis,
                    targets=CARD_TARGETS if card else self.settings.targets,
                    eni_slots=limits.eni_slots,
                    new_enis=limits.max_enis_of(card) - len(enis),
                    waiting=0 if card else self.waiting,
                    card=card,
                )
            )
        return views

    def plan(self, views: Sequence[CapacityView]) -> Sequence[Action]:
        if self.bugs:
            raise self.bugs.pop()
        return [
            on_card(view.card, action)
            for view in views
            for action in self.planner.plan_capacity(view)
        ]

    def link_of(self, mac: str) -> str | None:
        enis = self.cloud.all_enis.values()
        there = any(eni.mac == mac and eni.attachment_id for eni in enis)
        return f"ens{mac[-1]}" if there and self.links else None

    def mark_for(self, eni_id: str) -> int:
        return self.marks.setdefault(eni_id, len(self.marks) + 2)

    def adopt(self, eni: Eni, blocks: Sequence[Block], *, kept: bool = False) -> None:
        limits = self.cloud.instance_limits
        places = (limits.eni_slots, limits.ipv6_per_eni)
        self.pool.add_eni(eni, *places, kept=kept)
        self.pool.add(eni.id, blocks)

    def supply(self, eni_id: str, blocks: Sequence[Block]) -> None:
        self.pool.add(eni_id, blocks)

    def withdraw(self, eni_id: str, blocks: Sequence[Block]) -> tuple[Block, ...]:
        return self.pool.withdraw(eni_id, blocks)

    def blocks(self, eni_id: str) -> frozenset[Block]:
        return self.pool.blocks(eni_id) if self.pool.eni(eni_id) else frozenset()

    def quarantine(self, eni_id: str, block: Block, reason: str) -> None:
        self.pool.quarantine(eni_id, block, reason)

    def quarantined(self) -> tuple[Quarantined, ...]:
        return self.pool.quarantined()

    def remember(self, managed: Sequence[EniFacts]) -> None:
        self.remembered = tuple(managed)

    def vpc_is(self, cidrs: tuple[IPv4Network, ...]) -> None:
        if self.unsettled:
            raise self.unsettled.pop()
        self.vpc = cidrs

    def release_eni(self, eni_id: str) -> bool:
        try:
            self.pool.remove_eni(eni_id)
        except ValueError:
            return False
        return True

    def intend(self, token: str, what: str) -> None:
        self.intents[token] = what
        self.history.append(what)

    def done(self, token: str) -> None:
        del self.intents[token]

    def blocked(self, error: EniplugError | None) -> None:
        self.why = error


@define(eq=False)
class Bench:
    """A node, its cloud, and a worker whose steps a test makes."""

    cloud: MemoryCloud
    metadata: MemoryMetadata
    node: Node
    worker: CloudWorker
    clock: HandClock
    facts: Facts

    def settle(self, most: int = 200) -> None:
        """Step while there is something to do at once."""
        for _ in range(most):
            pause = self.worker.step()
            if pause > GATHER:
                return
            # A burst of pods is let come together.
            self.clock.advance(pause)
        pytest.fail("the worker finds no rest")

    def pass_time(self, seconds: float) -> None:
        """Let time pass as the thread would: step, wait, step."""
        end = self.clock() + seconds
        for _ in range(10_000):
            pause = self.worker.step()
            if self.clock() + pause >= end:
                self.clock.advance(end - self.clock())
                self.settle()
                return
            self.clock.advance(pause)
        pytest.fail("the worker spins")

    @property
    def total(self) -> int:
        return self.node.pool.counts().total

    def has(self, device: int) -> EniFacts | None:
        enis = self.cloud.all_enis.values()
        return next((eni for eni in enis if eni.device == device), None)


def bench(
    limits: Limits = C5_LARGE,
    cidr: str = "10.0.0.0/24",
    cloud: MemoryCloud | None = None,
    held: Callable[[], EniplugError | None] = lambda: None,
    tenants: Tenants | None = None,
    **environ: str,
) -> Bench:
    clock = HandClock()
    cloud = cloud or MemoryCloud(
        instance_type="c5.large",
        instance_limits=limits,
        subnets={"subnet-1": IPv4Network(cidr)},
    )
    metadata = MemoryMetadata(cloud=cloud)
    settings = Settings.from_environ(environ)
    node = Node(cloud, settings, clock, AddressPool(30, clock))
    multi_nic = len(cloud.instance_limits.cards) > 1
    facts = look(metadata, cloud, manage_untagged=True, multi_nic=multi_nic)
    # The agent adopts the primary ENI before it starts the worker.
    node.adopt(eni_of(facts.primary, "ens1", 1), facts.primary.secondary)
    cloud.calls.clear()
    worker = CloudWorker(
        cloud,
        metadata,
        node,
        facts,
        settings,
        clock=clock,
        today=lambda: datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        pace=Pace(clock, jitter=lambda: 0.0),
        held=held,
        tenants=tenants,
    )
    return Bench(cloud, metadata, node, worker, clock, facts)


def make(cloud: MemoryCloud, device: int, **tags: str) -> EniFacts:
    """An attached ENI such as the worker makes."""
    made = cloud.create_eni(
        "subnet-1",
        cloud.groups,
        CreateEni(addresses=9),
        token=f"earlier-{device}",
        description=f"aws-K8S-{cloud.instance_id}",
        tags={INSTANCE_TAG: cloud.instance_id, **tags},
    )
    cloud.attach(made.id, cloud.instance_id, device, 0)
    return cloud.all_enis[made.id]
