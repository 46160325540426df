"""Where addresses can be had: the subnets, and what each had none left of.

EC2 says that a subnet is full, or that it has no free block for a prefix, only when it
is asked.  What it said is believed for a while, so that nobody asks again and again and
other subnets, or single addresses in place of prefixes, have their turn.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import Final

from attrs import define, evolve, field, frozen

from eniplug.core.ec2 import SubnetFacts
from eniplug.hooks.capacity import CapacityView, Kind

LACKS_FOR: Final = 60.0
"""Seconds for which a subnet is not asked again for what it had none left of."""

LISTED_FOR: Final = 60.0
"""Seconds after which the subnets are listed anew before an ENI is made."""

ROLE_TAG: Final = "kubernetes.io/role/cni"
CLUSTER_PREFIX: Final = "cni.networking.k8s.aws/cluster/"
KINDS: Final[tuple[Kind, Kind]] = ("address", "prefix")


@frozen(kw_only=True)
class SubnetState:
    """One subnet as it is known: ``free`` as listed last, None if it never was."""

    id: str
    free: int | None
    lacks: tuple[Kind, ...]


@define(eq=False)
class _Supply:
    """What is known of one kind in one subnet."""

    most: int | None = None
    lacks_until: float = float("-inf")


@define(eq=False)
class Subnets:
    """The subnets that this node's ENIs are in, or may be made in.

    ``home`` is the primary ENI's.  Where ``discover`` is off, new ENIs are made there
    only.  ``cluster`` is the cluster's name, or empty.  Without ``prefixes`` the
    instance type takes none, as if no subnet ever had one.
    """

    home: str
    cluster: str
    discover: bool
    clock: Callable[[], float]
    prefixes: bool = True
    _listed: tuple[SubnetFacts, ...] = ()
    _listed_at: float = float("-inf")
    _supplies: dict[tuple[str, Kind], _Supply] = field(factory=dict)

    # -- the list ----------------------------------------------------------------------

    @property
    def list_is_due(self) -> bool:
        """Whether the subnets should be listed before an ENI is made."""
        return self.discover and self.clock() - self._listed_at >= LISTED_FOR

    def listed(self, found: Sequence[SubnetFacts]) -> None:
        """Know the zone's subnets; none when they cannot be listed."""
        self._listed, self._listed_at = tuple(found), self.clock()

    def choose(self, kind: Kind) -> str | None:
        """The subnet for a new ENI: the one with most free addresses, or None."""
        able = [one for one in self._candidates() if kind not in self.lacks(one)]
        return able[0] if able else None

    def _candidates(self) -> tuple[str, ...]:
        allowed = [s for s in self._listed if is_allowed(s, self.home, self.cluster)]
        allowed.sort(key=lambda s: (-s.free, s.id != self.home))
        return tuple(s.id for s in allowed) or (self.home,)

    # -- what there is none left of ----------------------------------------------------

    def most(self, subnet: str, kind: Kind, wanted: int) -> int:
        """How many to ask for at once: fewer, after the subnet had not as many."""
        most = self._supply(subnet, kind).most
        return wanted if most is None else min(wanted, most)

    def refused(self, subnet: str, kind: Kind, number: int) -> None:
        """Note that a subnet has not ``number`` left."""
        supply = self._supply(subnet, kind)
        if number > 1:
            supply.most = number // 2
        else:
            supply.most = 1
            supply.lacks_until = self.clock() + LACKS_FOR

    def gave(self, subnet: str, kind: Kind) -> None:
        """Note that a subnet had what was asked for."""
        supply = self._supply(subnet, kind)
        supply.lacks_until = float("-inf")
        if supply.most is not None:
            supply.most = 2 * supply.most if supply.most < MANY else None

    def lacks(self, subnet: str) -> frozenset[Kind]:
        """What a subnet has none left of."""
        now = self.clock()
        return frozenset(
            kind
            for kind in KINDS
            if self._supply(subnet, kind).lacks_until > now
            or (kind == "prefix" and not self.prefixes)
        )

    def _supply(self, subnet: str, kind: Kind) -> _Supply:
        return self._supplies.setdefault((subnet, kind), _Supply())

    # -- looking -----------------------------------------------------------------------

    def told(self, view: CapacityView, homes: Mapping[str, str]) -> CapacityView:
        """Say in a view what the subnets lack; ``homes``: each ENI's subnet."""
        enis = tuple(
            evolve(eni, lacks=self.lacks(homes.get(eni.id, self.home)))
            for eni in view.enis
        )
        all_lack = frozenset.intersection(*map(self.lacks, self._candidates()))
        return evolve(view, enis=enis, lacks=all_lack)

    def states(self, more: Collection[str]) -> tuple[SubnetState, ...]:
        """All subnets that are listed, and ``more``."""
        free = {s.id: s.free for s in self._listed}
        ids: Iterable[str] = dict.fromkeys((*more, *self._candidates()))
        return tuple(
            SubnetState(
                id=one, free=free.get(one), lacks=tuple(sorted(self.lacks(one)))
            )
            for one in ids
        )


MANY: Final = 8
"""Asked-for numbers from here on are no longer reduced."""


def is_allowed(subnet: SubnetFacts, home: str, cluster: str) -> bool:
    """Whether ENIs may be made in a subnet, by AWS's tags.

    The primary ENI's subnet unless it says no; others only when they say so, and to
    this cluster where they name clusters.
    """
    role = subnet.tags.get(ROLE_TAG)
    if role is None:
        return subnet.id == home
    if role == "0":
        return False
    named = [tag for tag in subnet.tags if tag.startswith(CLUSTER_PREFIX)]
    return not (named and cluster) or CLUSTER_PREFIX + cluster in named
