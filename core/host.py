"""What the cloud worker asks of the agent: the pool's view, and its changes."""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Network

import structlog
from attrs import frozen

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


@frozen(kw_only=True)
class Bounds:
    """What limits the pool.

    ``max_enis`` counts every ENI, managed or not; ``unmanaged`` those that are there
    and not ours; ``places`` is how many blocks of IPv4 and of IPv6 an ENI can have
    beside its own address.
    """

    instance_type: str
    max_enis: int
    unmanaged: int
    places: tuple[int, int]
    max_pods: int


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

    def view(self) -> CapacityView:
        """The pool at this moment."""
        enis, waiting = self._state.views()
        attached = len(self._scope.node.enis) + self._bounds.unmanaged
        return CapacityView(
            enis=enis,
            targets=self._targets,
            eni_slots=self._bounds.places[0],
            new_enis=max(0, self._bounds.max_enis - attached),
            waiting=waiting,
            max_pods=self._bounds.max_pods,
        )

    def plan(self, view: CapacityView) -> Sequence[Action]:
        """Ask the chain what to do next; notes it when nothing more can be had."""
        actions = self._chain.plan(view) or ()
        grows = any(
            isinstance(one, AssignAddresses | AssignPrefixes | CreateEni)
            for one in actions
        )
        # A /80 never runs out; beside IPv4 it is the IPv4 that counts.
        six = not view.total and any(eni.prefixes_of(6) for eni in view.enis)
        idle = six or any(eni.free for eni in view.enis)
        why = None if grows or idle else self._limit(view)
        if why is not None:
            self._state.blocked(why)
        elif isinstance(self._state.why_blocked(), EniLimitError | NoFreePrefixError):
            self._state.blocked(None)
        return actions

    def _limit(self, view: CapacityView) -> PoolEmptyError | None:
        """Why nothing can be asked for; None when nothing is known against it."""
        bounds = self._bounds
        if view.total >= view.max_pods:
            msg = f"{view.total} addresses are here for at most {view.max_pods} pods"
            return EniLimitError(msg, "raise ENIPLUG_MAX_PODS, or run fewer pods here")
        roomy = [eni for eni in view.enis if eni.slots]
        if not roomy and not view.new_enis:
            msg = (
                f"all {len(view.enis)} ENIs are full: {bounds.instance_type} may have "
                f"{bounds.max_enis} ENIs with {bounds.places[0]} addresses or prefixes "
                "each"
            )
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
