"""What of the node may change while the agent runs: IMDS is asked now and then.

The VPC's CIDRs say what pods reach with their own address; the primary ENI's security
groups are also those of the ENIs that pods' addresses are on.  Both change by somebody
else's hand, and only IMDS tells of it without a call of EC2.
"""

from __future__ import annotations

from collections.abc import Callable
from ipaddress import IPv4Network
from typing import Final, Protocol

import structlog

from eniplug.core.beats import BEAT, until_beat
from eniplug.core.discover import Facts
from eniplug.core.ec2 import EniFacts
from eniplug.core.imds import Metadata
from eniplug.hooks.errors import EniplugError

log = structlog.get_logger()

LOOK_EVERY: Final = 3 * BEAT
"""Seconds between looks: two small requests, yet an idle agent's largest work.  The AWS
VPC CNI looks each 30 s."""

AFTER_TROUBLE: Final = 30.0
"""Seconds until the next look when IMDS does not answer, or the node is not settled."""

GROUPS_AGAIN: Final = 60.0
"""Seconds until groups that EC2 refused an ENI are tried on it again."""


class Resident(Protocol):
    """Who lives by what is found."""

    def vpc_is(self, cidrs: tuple[IPv4Network, ...]) -> None:
        """Settle the node for these CIDRs; raises EniplugError if that fails."""
        ...


class Lookout:
    """Remembers what was found last; `groups` are the primary ENI's."""

    def __init__(
        self,
        metadata: Metadata,
        resident: Resident,
        facts: Facts,
        clock: Callable[[], float],
    ) -> None:
        self.groups = facts.primary.groups
        self._metadata = metadata
        self._resident = resident
        self._mac = facts.primary.mac
        self._cidrs = facts.vpc_cidrs
        self._clock = clock
        self._due = clock() + (LOOK_EVERY if facts.fresh else 0.0)
        self._refused: dict[str, float] = {}

    def look(self) -> None:
        """Ask IMDS if it is time; what fails is tried again later."""
        now = self._clock()
        if now < self._due:
            return
        self._due = now + until_beat(now) + LOOK_EVERY - BEAT
        try:
            self._look()
        except EniplugError as error:
            self._due = now + AFTER_TROUBLE
            log.warning("the node's facts are not renewed", error=error.message)

    def _look(self) -> None:
        # An empty answer is IMDS's trouble: each VPC has a CIDR, each ENI a group.
        groups = self._metadata.security_groups(self._mac)
        if groups and set(groups) != set(self.groups):
            log.info("security groups have changed", groups=groups)
            self.groups = groups
            self._refused.clear()
        cidrs = self._metadata.vpc_cidrs(self._mac)
        if cidrs and set(cidrs) != set(self._cidrs):
            log.info("the VPC has changed", cidrs=[str(cidr) for cidr in cidrs])
            self._resident.vpc_is(cidrs)
            self._cidrs = cidrs

    def differs(self, eni: EniFacts) -> bool:
        """Whether an ENI is to be given the primary ENI's groups now."""
        refused = self._refused.get(eni.id, float("-inf"))
        late = self._clock() - refused >= GROUPS_AGAIN
        return not eni.primary and late and set(eni.groups) != set(self.groups)

    def refused(self, eni_id: str) -> None:
        """Let an ENI be for a while that EC2 gives no other groups."""
        self._refused[eni_id] = self._clock()
