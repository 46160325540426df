"""What plan_capacity sees, and what it may ask for.

EC2 gives an ENI single addresses and prefixes; either takes one of the places that an
ENI has in its family.  All addresses of a prefix serve pods.
"""

from __future__ import annotations

from typing import Literal, TypeAlias

from attrs import frozen

from eniplug.hooks.objects import Family, Ip, Network

Block: TypeAlias = Ip | Network
"""What EC2 gives an ENI in one piece: an address, or a prefix of /28 or /80."""

Kind: TypeAlias = Literal["address", "prefix"]
"""What a block is."""


@frozen(kw_only=True)
class Targets:
    """How many addresses to keep ready, with the AWS names and meaning.

    When ``warm_ip`` or ``minimum_ip`` is set, ``warm_eni`` and ``warm_prefix`` do not
    count.
    """

    warm_eni: int = 1
    """[WARM_ENI_TARGET] whole ENIs' worth of free addresses."""

    warm_ip: int = 0
    """[WARM_IP_TARGET] free addresses; 0: not set."""

    minimum_ip: int = 0
    """[MINIMUM_IP_TARGET] floor of all addresses, free or not; 0: not set."""

    warm_prefix: int = 1
    """[WARM_PREFIX_TARGET] whole prefixes' worth of free addresses."""

    @property
    def counted(self) -> bool:
        """Whether addresses are counted one by one, and not in ENIs or prefixes."""
        return self.warm_ip > 0 or self.minimum_ip > 0


@frozen(kw_only=True)
class PrefixView:
    """One prefix of an ENI: how many of its addresses pods have, and how many cool."""

    prefix: Network
    assigned: int = 0
    cooling: int = 0

    @property
    def idle(self) -> int:
        """Addresses that can be handed out now."""
        return self.prefix.num_addresses - self.assigned - self.cooling

    @property
    def unused(self) -> bool:
        """Whether it could be given back whole."""
        return not (self.assigned or self.cooling)


@frozen(kw_only=True)
class EniView:
    """One ENI as plan_capacity sees it.

    ``assigned`` and ``cooling`` count its IPv4 addresses, those of prefixes among them;
    ``idle`` are the single addresses that nobody has and that are not cooling down.
    ``slots`` is how many more IPv4 addresses or prefixes EC2 allows on it, ``slots6``
    the same of IPv6.  ``lacks`` is what its subnet had none left of when EC2 was asked
    last.  ``age`` is in seconds since it was attached or found.  One that is to be
    ``kept`` is never deleted: the primary ENI, and what was not made for pods.
    ``card`` is the network card that it is on.
    """

    id: str
    primary: bool
    assigned: int
    cooling: int
    idle: tuple[Ip, ...]
    slots: int
    age: float
    prefixes: tuple[PrefixView, ...] = ()
    slots6: int = 0
    lacks: frozenset[Kind] = frozenset()
    kept: bool = False
    card: int = 0

    def prefixes_of(self, family: Family) -> tuple[PrefixView, ...]:
        """Its prefixes of one family."""
        return tuple(p for p in self.prefixes if p.prefix.version == family)

    @property
    def free(self) -> int:
        """IPv4 addresses of it that can be handed out now."""
        return len(self.idle) + sum(p.idle for p in self.prefixes_of(4))

    @property
    def total(self) -> int:
        """All IPv4 addresses of it that pods may have."""
        return self.assigned + self.cooling + self.free

    @property
    def unused(self) -> bool:
        """Whether no pod has an address of it, and none cools down."""
        return not (
            self.assigned or self.cooling or any(not p.unused for p in self.prefixes)
        )


@frozen(kw_only=True)
class CapacityView:
    """The pool at one moment, as far as it is on one network card.

    ``waiting`` is the number of ADDs that wait for an address, ``new_enis`` how many
    more ENIs may be attached.  ``eni_slots`` is how many addresses or prefixes an ENI
    can have beside its own address.  ``lacks`` is what every subnet in which a new ENI
    could be made had none left of.  ``card`` is the network card; cards other than 0
    are planned, each by itself, where ENABLE_MULTI_NIC is on.
    """

    enis: tuple[EniView, ...]
    targets: Targets
    eni_slots: int
    new_enis: int
    waiting: int = 0
    max_pods: int = 110
    lacks: frozenset[Kind] = frozenset()
    card: int = 0

    @property
    def free(self) -> int:
        """IPv4 addresses that are left once all that wait have theirs; may be < 0."""
        return sum(eni.free for eni in self.enis) - self.waiting

    @property
    def total(self) -> int:
        """All IPv4 addresses that pods may have."""
        return sum(eni.total for eni in self.enis)

    @property
    def assigned(self) -> int:
        """IPv4 addresses that pods have."""
        return sum(eni.assigned for eni in self.enis)


@frozen(kw_only=True)
class AssignAddresses:
    """Ask EC2 for more secondary IPv4 addresses on an ENI."""

    eni: str
    count: int


@frozen(kw_only=True)
class AssignPrefixes:
    """Ask EC2 for more prefixes on an ENI: /28 for IPv4, /80 for IPv6."""

    eni: str
    count: int
    family: Family = 4


@frozen(kw_only=True)
class CreateEni:
    """Attach a new ENI that is born with addresses, or with prefixes.

    EC2 takes either ``addresses`` or ``prefixes``, and ``prefixes6`` beside them.  A
    plan need not heed ``card``: the core puts in the view's.
    """

    addresses: int = 0
    prefixes: int = 0
    prefixes6: int = 0
    card: int = 0


@frozen(kw_only=True)
class Unassign:
    """Give idle addresses and unused prefixes back to the subnet."""

    eni: str
    blocks: tuple[Block, ...]


@frozen(kw_only=True)
class DeleteEni:
    """Detach and delete an ENI that serves nobody."""

    eni: str


Action: TypeAlias = AssignAddresses | AssignPrefixes | CreateEni | Unassign | DeleteEni
