"""A node that a test drives: a real pool, a planner, and EC2 as far as a plan needs it.

Every action is carried out at once; what no EC2 would do fails the test.
"""

from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Protocol

from attrs import define, evolve, field

from eniplug.core.pool import AddressPool
from eniplug.hooks import (
    Action,
    AssignAddresses,
    AssignPrefixes,
    Block,
    CapacityView,
    CreateEni,
    DeleteEni,
    Eni,
    Ip,
    Kind,
    Targets,
    Unassign,
)
from eniplug.hooks.errors import PoolEmptyError
from eniplug.testing.clock import HandClock


class Planner(Protocol):
    """A plugin that plans."""

    def plan_capacity(self, view: CapacityView) -> tuple[Action, ...]:
        """Say what the pool does next."""
        ...


@define(eq=False, kw_only=True)
class Fleet:
    """One node's ENIs.  ``lacks`` is what the one subnet has none left of."""

    planner: Planner
    slots: int
    max_enis: int
    targets: Targets = field(factory=Targets)
    max_pods: int = 1000
    prefer: Kind = "prefix"
    lacks: frozenset[Kind] = frozenset()
    waiting: int = 0
    calls: int = 0
    pods: list[Ip] = field(factory=list)
    clock: HandClock = field(factory=HandClock)
    pool: AddressPool = field(init=False)
    made: int = 0
    given: int = 0

    def __attrs_post_init__(self) -> None:
        """Begin with the primary ENI."""
        self.pool = AddressPool(0, self.clock)
        self._new_eni()

    # -- looking -----------------------------------------------------------------------

    def view(self) -> CapacityView:
        """What plan_capacity sees."""
        enis = tuple(evolve(eni, lacks=self.lacks) for eni in self.pool.views())
        return CapacityView(
            enis=enis,
            targets=self.targets,
            eni_slots=self.slots,
            new_enis=self.max_enis - len(enis),
            waiting=self.waiting,
            max_pods=self.max_pods,
            lacks=self.lacks,
        )

    @property
    def enis(self) -> int:
        """How many ENIs there are."""
        return len(self.pool.enis())

    @property
    def prefixes(self) -> int:
        """How many /28s there are."""
        return sum(len(eni.prefixes_of(4)) for eni in self.pool.views())

    @property
    def unused_prefixes(self) -> int:
        """How many /28s serve nobody."""
        views = self.pool.views()
        return sum(one.unused for eni in views for one in eni.prefixes_of(4))

    @property
    def free(self) -> int:
        """IPv4 addresses that can be handed out."""
        return sum(eni.free for eni in self.pool.views())

    # -- acting ------------------------------------------------------------------------

    def settle(self, rounds: int = 60) -> None:
        """Carry out plans until nothing is planned; growing never follows shrinking."""
        shrunk = False
        for _ in range(rounds):
            actions = self.planner.plan_capacity(self.view())
            if not actions:
                return
            assert not (shrunk and grows(actions)), "gave back and fetched again"
            shrunk = shrunk or not grows(actions)
            self.act(actions[0])
        msg = f"no rest after {rounds} rounds"
        raise AssertionError(msg)

    def run(self, pods: int) -> None:
        """Have just so many pods; each that comes waits for what it lacks."""
        while len(self.pods) > pods:
            self.pool.release(self.pods.pop())
        while len(self.pods) < pods:
            try:
                self.pods.append(self.pool.take(prefer=self.prefer).address)
            except PoolEmptyError:
                self.waiting = 1
                self.settle()
                self.waiting = 0
                self.pods.append(self.pool.take(prefer=self.prefer).address)
        self.settle()

    def drop(self, *, singles: bool) -> None:
        """End the pods with a single address, or those with one of a prefix."""
        for address in tuple(self.pods):
            lease = self.pool.lease_of(address)
            if lease is not None and (lease.prefix is None) is singles:
                self.pool.release(address)
                self.pods.remove(address)

    def act(self, action: Action) -> None:
        """Carry one action out, as EC2 would."""
        self.calls += 1
        match action:
            case AssignAddresses():
                self._check("address", action.count)
                self.pool.add(action.eni, self._addresses(action.count))
            case AssignPrefixes(family=6):
                self.pool.add(action.eni, self._wide(action.count))
            case AssignPrefixes():
                self._check("prefix", action.count)
                self.pool.add(action.eni, self._prefixes(action.count))
            case CreateEni():
                assert self.enis < self.max_enis
                assert not (action.addresses and action.prefixes)
                kind: Kind = "address" if action.addresses else "prefix"
                self._check(kind, action.addresses or action.prefixes)
                name = self._new_eni()
                self.pool.add(name, self._addresses(action.addresses))
                self.pool.add(name, self._prefixes(action.prefixes))
                self.pool.add(name, self._wide(action.prefixes6))
            case Unassign():
                assert action.blocks
                gone = self.pool.withdraw(action.eni, action.blocks)
                assert gone == action.blocks, "gave back what is in use"
            case DeleteEni():
                eni = self.pool.eni(action.eni)
                assert eni is not None
                assert not eni.primary
                self.pool.remove_eni(action.eni)
        for view in self.pool.views():
            held = len(self.pool.blocks(view.id)) - len(view.prefixes_of(6))
            assert held <= self.slots, "more than an ENI can have"

    def _check(self, kind: Kind, count: int) -> None:
        assert count > 0
        assert kind not in self.lacks, "asked for what there is none of"

    def _new_eni(self) -> str:
        device, self.made = self.made, self.made + 1
        eni = Eni(id=f"eni-{device}", link="l", mac=f"m{device}", device=device)
        self.pool.add_eni(eni, slots=self.slots, slots6=10)
        return eni.id

    def _prefixes(self, count: int) -> Sequence[Block]:
        first, self.given = self.given, self.given + count
        base = int(IPv4Address("10.64.0.0"))
        return [IPv4Network((base + 16 * (first + n), 28)) for n in range(count)]

    def _addresses(self, count: int) -> Sequence[Block]:
        first, self.given = self.given, self.given + count
        return [IPv4Address("10.32.0.0") + first + n for n in range(count)]

    def _wide(self, count: int) -> Sequence[Block]:
        first, self.given = self.given, self.given + count
        base = int(IPv6Network("2001:db8::/64").network_address)
        return [IPv6Network((base + ((first + n) << 48), 80)) for n in range(count)]


def grows(actions: Sequence[Action]) -> bool:
    """Whether a plan asks for anything."""
    return any(
        isinstance(one, AssignAddresses | AssignPrefixes | CreateEni) for one in actions
    )
