"""The scope NODE: what the plugins want on the node once.

Node objects come from the agent's conflist, and from any other chain that a request
names, from its first use on.  When the node's facts change they are declared anew and
the difference is settled.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from contextlib import contextmanager
from threading import Lock

from attrs import evolve

from eniplug.core.chain import Chain, Declaration
from eniplug.core.crew import aside
from eniplug.core.kernel import Kernel
from eniplug.core.parts import Life
from eniplug.core.state import State
from eniplug.core.store import Store
from eniplug.hooks import (
    Eni,
    LinkState,
    Network,
    NftElement,
    Node,
    Object,
    Sysctl,
)
from eniplug.hooks.errors import ForeignObjectError


class NodeScope:
    """Owns the `Node` and its objects.  Safe to call from many threads."""

    def __init__(
        self, node: Node, chains: Iterable[Chain], kernel: Kernel, state: State
    ) -> None:
        self._node = node
        self._chains = list(chains)
        self._kernel = kernel
        self._state = state
        self._lock = Lock()
        self._wanted: tuple[Object, ...] = ()

    def elements(self) -> list[NftElement]:
        """What pods have in nftables; of an ADD under way what is there already."""
        return [
            one
            for part in self._state.parts()
            for one in part.objects
            if isinstance(one, NftElement)
            and (
                part.life is Life.LIVE
                or (part.life is Life.PENDING and not self._kernel.check((one,), None))
            )
        ]

    @property
    def node(self) -> Node:
        """The node as it is now."""
        return self._node

    def settle(self) -> None:
        """Make the node as it is declared; puts back what is missing."""
        with self._lock:
            self._settle(self._node, self._chains)

    @property
    def declared(self) -> tuple[Object, ...]:
        """What was declared last."""
        return self._wanted

    @contextmanager
    def held(self) -> Generator[tuple[Object, ...]]:
        """Give what was declared last; it stays so meanwhile."""
        with self._lock:
            yield self._wanted

    def use(self, chain: Chain) -> None:
        """Settle what a chain wants on the node, at its first use."""
        if chain in self._chains:
            return
        with aside(), self._lock:
            if chain not in self._chains:
                self._settle(self._node, [*self._chains, chain])
                self._chains.append(chain)

    def adopt(self, eni: Eni) -> None:
        """Set an ENI up on the node; it may be known already."""
        with self._lock:
            others = (e for e in self._node.enis if e.id != eni.id)
            enis = sorted((*others, eni), key=lambda e: (not e.primary, e.mark))
            self._change(evolve(self._node, enis=tuple(enis)))

    def leave(self, eni_id: str) -> None:
        """Remove an ENI's objects from the node."""
        with self._lock:
            kept = tuple(e for e in self._node.enis if e.id != eni_id)
            self._change(evolve(self._node, enis=kept))

    def vpc_is(self, cidrs: tuple[Network, ...]) -> None:
        """Take other CIDRs of the VPC."""
        with self._lock:
            self._change(evolve(self._node, vpc_cidrs=cidrs))

    def _change(self, node: Node) -> None:
        self._settle(node, self._chains)
        self._node = node

    def _settle(self, node: Node, chains: Iterable[Chain]) -> None:
        """Commit what may be there, change the kernel, commit what is there."""
        declared = Declaration()
        for chain in chains:
            chain.declare_node(node, declared)
        wanted = declared.objects
        had, earlier = self._state.with_store(Store.node_objects)
        with self._kernel.lock:
            known = {one.key for one in had}
            fresh = [
                one
                for one in wanted
                if one.key not in earlier
                and (isinstance(one, LinkState | Sysctl) or one.key not in known)
            ]
            earlier |= self._kernel.earlier(fresh)
            both: dict[Object, None] = dict.fromkeys((*had, *wanted))
            self._state.with_store(
                lambda store: store.keep_node_objects(tuple(both), earlier)
            )
            try:
                self._kernel.settle(had, wanted, earlier, elements=self.elements())
            except ForeignObjectError:
                # What stands in the way is not ours, at the next try neither.
                lacking = {d.object for d in self._kernel.check(wanted, None)}
                there = [*had, *(one for one in wanted if one not in lacking)]
                self._state.with_store(
                    lambda store: store.keep_node_objects(
                        tuple(dict.fromkeys(there)), earlier
                    )
                )
                raise
            self._state.with_store(
                lambda store: store.keep_node_objects(wanted, earlier)
            )
        self._wanted = wanted
