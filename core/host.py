"""What the cloud worker asks of the agent: the pool's view, and its changes."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from ipaddress import IPv4Network
from typing import Final

import structlog
from attrs import evolve, frozen

from eniplug.core.chain import Chain
from eniplug.core.ec2 import EniFacts
from eniplug.core.kernel import Kernel
from eniplug.core.memory import ENIS, VPC, written, written_vpc
from eniplug.core.node import NodeScope
from eniplug.core.pool import Quarantined
from eniplug.core.state import State
from eniplug.hooks import (
    Action,
    AssignAddresses,
    AssignPrefixes,
    Block,
    CapacityView,
    CreateEni,
    Eni,
    EniView,
    Targets,
)
from eniplug.hooks.errors import (
    EniLimitError,
    EniplugError,
    NoFreePrefixError,
    PoolEmptyError,
    SubnetFullError,
)

log = structlog.get_logger()

GROWING: Final = (AssignAddresses, AssignPrefixes, CreateEni)


CARD_TARGETS: Final = Targets(warm_ip=1, minimum_ip=1)
"""What is kept ready on each card but 0, as AWS's program has it."""


@frozen(kw_only=True)
class Card:
    """What limits one network card.

    ``max_enis`` counts every ENI, managed or not; ``unmanaged`` those that are there
    and not ours.
    """

    index: int
    max_enis: int
    unmanaged: int


@frozen(kw_only=True)
class Bounds:
    """What limits the pool.

    ``cards`` are those that serve pods, 0 first; ``places`` is how many blocks of IPv4
    and of IPv6 an ENI can have beside its own address.  ``max_pods`` is asked
    each time: Kubernetes may come to say another number.
    """

    instance_type: str
    cards: tuple[Card, ...]
    places: tuple[int, int]
    max_pods: Callable[[], int]


class AgentHost:
    """Implements `eniplug.core.cloud.Host` on the agent's state, kernel and chain."""

    def __init__(
        self,
        *,
        state: State,
        scope: NodeScope,
        kernel: Kernel,
        chain: Chain,
        targets: Targets,
        bounds: Bounds,
    ) -> None:
        self._state = state
        self._scope = scope
        self._kernel = kernel
        self._chain = chain
        self._targets = targets
        self._bounds = bounds

    def views(self) -> Sequence[CapacityView]:
        """The pool at this moment: a view of each card.

        A pod that wants an address of every card waits on each; any other on card 0.
        """
        enis, waiting = self._state.views()
        everywhere = self._state.waiting_for_all() if self._bounds.cards[1:] else 0
        return [
            self._view(card, enis, everywhere if card.index else waiting)
            for card in self._bounds.cards
        ]

    def _view(self, card: Card, enis: Sequence[EniView], waiting: int) -> CapacityView:
        there = sum(eni.card == card.index for eni in self._scope.node.enis)
        return CapacityView(
            enis=tuple(eni for eni in enis if eni.card == card.index),
            targets=CARD_TARGETS if card.index else self._targets,
            eni_slots=self._bounds.places[0],
            new_enis=max(0, card.max_enis - there - card.unmanaged),
            waiting=waiting,
            max_pods=self._bounds.max_pods(),
            card=card.index,
        )

    def plan(self, views: Sequence[CapacityView]) -> Sequence[Action]:
        """Ask the chain what to do next; notes it when nothing more can be had.

        Pods for which a card will have no address wait on the next one, unless they
        want one of every card.
        """
        growing: list[Action] = []
        rest: list[Action] = []
        reasons: list[PoolEmptyError | None] = []
        everywhere = views[-1].waiting if views[1:] else 0
        anywhere, left = views[0].waiting - everywhere, 0
        for one in views:
            view = evolve(one, waiting=one.waiting + left)
            actions = [
                on_card(view.card, action) for action in self._chain.plan(view) or ()
            ]
            grows = any(isinstance(action, GROWING) for action in actions)
            # Whole: what a plan gives back may make way for what it asks for.
            (growing if grows else rest).extend(actions)
            left = 0 if grows else min(max(-view.free, 0), anywhere)
            reasons.append(None if grows else self._why_none(view))
        # A pod that wants one of every card is held up by any, the others by all.
        held_up = any(reasons) if everywhere else all(reasons)
        if held_up:
            self._state.blocked(next(why for why in reasons if why is not None))
        elif isinstance(self._state.why_blocked(), EniLimitError | NoFreePrefixError):
            self._state.blocked(None)
        return [*growing, *rest]

    def _why_none(self, view: CapacityView) -> PoolEmptyError | None:
        """Why a card that does not grow has no address; None when it has one."""
        # A /80 never runs out; beside IPv4 it is the IPv4 that counts.
        six = not view.total and any(eni.prefixes_of(6) for eni in view.enis)
        idle = six or any(eni.free for eni in view.enis)
        return None if idle else self._limit(view)

    def _limit(self, view: CapacityView) -> PoolEmptyError | None:
        """Why nothing can be asked for; None when nothing is known against it."""
        bounds = self._bounds
        most = next(c.max_enis for c in bounds.cards if c.index == view.card)
        if view.total >= view.max_pods:
            msg = f"{view.total} addresses are here for at most {view.max_pods} pods"
            return EniLimitError(msg, "raise ENIPLUG_MAX_PODS, or run fewer pods here")
        roomy = [eni for eni in view.enis if eni.slots]
        if not roomy and not view.new_enis:
            msg = (
                f"all {len(view.enis)} ENIs are full: {bounds.instance_type} may have "
                f"{most} ENIs with {bounds.places[0]} addresses or prefixes each"
            )
            if view.card:
                msg += f" on network card {view.card}"
            if any("prefix" in eni.lacks for eni in view.enis):
                msg += ", and their subnet has no free prefix"
                return NoFreePrefixError(msg)
            return EniLimitError(msg)
        lacking = all("address" in eni.lacks for eni in roomy)
        if lacking and (not view.new_enis or "address" in view.lacks):
            return SubnetFullError("no subnet of this node has a free address left")
        return None

    def link_of(self, mac: str) -> str | None:
        """The name of the node's link with that MAC address, or None yet."""
        with self._kernel.lock:
            links = self._kernel.links()
        return next((name for name, link in links.items() if link.mac == mac), None)

    def mark_for(self, eni_id: str) -> int:
        """A secondary ENI's number, the same each time."""
        return self._state.mark_for(eni_id)

    def adopt(self, eni: Eni, blocks: Sequence[Block]) -> None:
        """Set an ENI up, then let its blocks be handed out."""
        self._scope.adopt(eni)
        self._state.add_eni(eni, self._bounds.places, blocks)
        log.info("ENI in service", eni=eni.id, link=eni.link, blocks=len(blocks))

    def supply(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Let more blocks of a known ENI be handed out."""
        self._state.supply(eni_id, blocks)

    def withdraw(self, eni_id: str, blocks: Sequence[Block]) -> tuple[Block, ...]:
        """Take unused blocks out of the pool, before EC2 takes them back."""
        return self._state.withdraw(eni_id, blocks)

    def blocks(self, eni_id: str) -> frozenset[Block]:
        """All that the pool has of an ENI."""
        return self._state.blocks(eni_id)

    def quarantine(self, eni_id: str, block: Block, reason: str) -> None:
        """Give no more pods an address of a block."""
        self._state.quarantine(eni_id, block, reason)

    def quarantined(self) -> tuple[Quarantined, ...]:
        """What gets no new pods, and why."""
        return self._state.quarantined()

    def remember(self, managed: Sequence[EniFacts]) -> None:
        """Keep what EC2 said of the ENIs, for a start without EC2."""
        record = written(tuple(managed))
        self._state.with_store(lambda store: store.keep_fact(ENIS, record))

    def vpc_is(self, cidrs: tuple[IPv4Network, ...]) -> None:
        """Settle the node for other CIDRs of the VPC, and keep them."""
        self._scope.vpc_is(cidrs)
        record = written_vpc(cidrs)
        self._state.with_store(lambda store: store.keep_fact(VPC, record))

    def release_eni(self, eni_id: str) -> bool:
        """Take a whole idle ENI out of the pool and off the node."""
        if not self._state.remove_eni(eni_id):
            return False
        self._scope.leave(eni_id)
        self._state.drop_mark(eni_id)
        return True

    def intend(self, token: str, what: str) -> None:
        """Commit a call's intent, before the call."""
        self._state.with_store(lambda store: store.intend(token, what))

    def done(self, token: str) -> None:
        """Forget an intent that was followed up."""
        self._state.with_store(lambda store: store.done(token))

    def blocked(self, error: EniplugError | None) -> None:
        """Note why no more addresses can be had now."""
        self._state.blocked(error)


def on_card(card: int, action: Action) -> Action:
    """Say on which card a new ENI is to be; a plan knows only of one."""
    return evolve(action, card=card) if isinstance(action, CreateEni) else action
