"""What the cloud worker asks of the agent: the pool's view, and its changes."""

from __future__ import annotations

from collections.abc import Sequence

import structlog
from attrs import frozen

from eniplug.core.chain import Chain
from eniplug.core.kernel import Kernel
from eniplug.core.node import NodeScope
from eniplug.core.state import State
from eniplug.hooks import Action, CapacityView, Eni, Ip, Targets
from eniplug.hooks.errors import EniLimitError, EniplugError

log = structlog.get_logger()


@frozen(kw_only=True)
class Bounds:
    """What limits the pool.

    ``max_enis`` counts every ENI, managed or not; ``unmanaged`` those that are there
    and not ours; ``eni_capacity`` is how many pods one ENI can serve.
    """

    instance_type: str
    max_enis: int
    unmanaged: int
    eni_capacity: int
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
            eni_capacity=self._bounds.eni_capacity,
            new_enis=max(0, self._bounds.max_enis - attached),
            waiting=waiting,
            max_pods=self._bounds.max_pods,
        )

    def plan(self, view: CapacityView) -> Sequence[Action]:
        """Ask the chain what to do next; notes it when nothing more can be had."""
        actions = self._chain.plan(view) or ()
        idle = sum(len(eni.idle) for eni in view.enis)
        full = view.new_enis == 0 and not any(eni.slots for eni in view.enis)
        if full and not idle:
            self._state.blocked(self._limit(view))
        elif isinstance(self._state.why_blocked(), EniLimitError):
            self._state.blocked(None)
        return actions

    def _limit(self, view: CapacityView) -> EniLimitError:
        bounds = self._bounds
        msg = (
            f"all {len(view.enis)} ENIs are full: {bounds.instance_type} may have "
            f"{bounds.max_enis} ENIs with {bounds.eni_capacity} pods each"
        )
        return EniLimitError(msg)

    def link_of(self, mac: str) -> str | None:
        """The name of the node's link with that MAC address, or None yet."""
        with self._kernel.lock:
            links = self._kernel.links()
        return next((name for name, link in links.items() if link.mac == mac), None)

    def mark_for(self, eni_id: str) -> int:
        """A secondary ENI's number, the same each time."""
        return self._state.mark_for(eni_id)

    def adopt(self, eni: Eni, addresses: Sequence[Ip]) -> None:
        """Set an ENI up, then let its addresses be handed out."""
        self._scope.adopt(eni)
        self._state.add_eni(eni, self._bounds.eni_capacity, addresses)
        log.info("ENI in service", eni=eni.id, link=eni.link, addresses=len(addresses))

    def supply(self, eni_id: str, addresses: Sequence[Ip]) -> None:
        """Let more addresses of a known ENI be handed out."""
        self._state.supply(eni_id, addresses)

    def withdraw(self, eni_id: str, addresses: Sequence[Ip]) -> tuple[Ip, ...]:
        """Take idle addresses out of the pool, before EC2 takes them back."""
        return self._state.withdraw(eni_id, addresses)

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
