"""The agent's side of the cloud worker, without a kernel and without a store."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from typing import TypeAlias

from attrs import define

from eniplug.core.ec2 import EniFacts
from eniplug.core.pool import AddressPool, Quarantined
from eniplug.core.settings import Settings
from eniplug.hooks.capacity import Action, Block, CapacityView
from eniplug.hooks.errors import EniplugError
from eniplug.hooks.values import Eni
from eniplug.testing.cloud import MemoryCloud

Plan: TypeAlias = Callable[[CapacityView], Sequence[Action]]


@define(eq=False)
class PoolHost:
    """Implements `eniplug.core.cloud.Host` on a pool; links are there at once."""

    cloud: MemoryCloud
    pool: AddressPool
    plan_capacity: Plan
    settings: Settings
    waiting: int = 0

    def views(self) -> Sequence[CapacityView]:
        """The pool at this moment."""
        self.pool.expire()
        limits = self.cloud.instance_limits
        view = CapacityView(
            enis=self.pool.views(),
            targets=self.settings.targets,
            eni_slots=limits.eni_slots,
            new_enis=limits.max_enis - len(self.pool.enis()),
            waiting=self.waiting,
            max_pods=limits.max_pods,
        )
        return (view,)

    def plan(self, views: Sequence[CapacityView]) -> Sequence[Action]:
        """Ask the plugin."""
        (view,) = views
        return self.plan_capacity(view)

    def link_of(self, mac: str) -> str | None:
        """A link, as soon as the ENI is attached."""
        enis = self.cloud.all_enis.values()
        there = any(eni.mac == mac and eni.attachment_id for eni in enis)
        return f"ens{mac}" if there else None

    def mark_for(self, eni_id: str) -> int:
        """A number that no other ENI has."""
        return int(eni_id.removeprefix("eni-"), 16)

    def adopt(self, eni: Eni, blocks: Sequence[Block], *, kept: bool = False) -> None:
        """Let an ENI serve."""
        self.pool.add_eni(eni, self.cloud.instance_limits.eni_slots, kept=kept)
        self.pool.add(eni.id, blocks)

    def supply(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Let more blocks be handed out."""
        self.pool.add(eni_id, blocks)

    def withdraw(self, eni_id: str, blocks: Sequence[Block]) -> tuple[Block, ...]:
        """Take unused blocks out of the pool."""
        return self.pool.withdraw(eni_id, blocks)

    def blocks(self, eni_id: str) -> frozenset[Block]:
        """All that the pool has of an ENI."""
        return self.pool.blocks(eni_id) if self.pool.eni(eni_id) else frozenset()

    def quarantine(self, eni_id: str, block: Block, reason: str) -> None:
        """Hand out no more of a block."""
        self.pool.quarantine(eni_id, block, reason)

    def quarantined(self) -> tuple[Quarantined, ...]:
        """What is in quarantine."""
        return self.pool.quarantined()

    def release_eni(self, eni_id: str) -> bool:
        """Take an ENI out of the pool; False if it is in use."""
        try:
            self.pool.remove_eni(eni_id)
        except ValueError:
            return False
        return True

    def remember(self, managed: Sequence[EniFacts]) -> None:
        """Nothing: a simulated agent has one life."""

    def vpc_is(self, cidrs: tuple[IPv4Network, ...]) -> None:
        """Nothing: no packet is simulated."""

    def intend(self, token: str, what: str) -> None:
        """Nothing: no answer is lost."""

    def done(self, token: str) -> None:
        """Nothing: no answer is lost."""

    def blocked(self, error: EniplugError | None) -> None:
        """Nothing: pods that wait are counted where they wait."""
