"""What EC2 has begun and the node does not see finished: arrivals and departures.

They are looked at again by a timer, 50 ms after the call (a departure: 1 s, since each
look is a call) and then twice as late each time up to 2 s, so that nothing else ever
waits for them.
"""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import IPv4Address, IPv6Address
from typing import Final

from attrs import define, evolve

from eniplug.core.ec2 import EniFacts
from eniplug.hooks.capacity import Block, CapacityView, EniView, PrefixView

FIRST_LOOK: Final = 0.05

FIRST_DELETE: Final = 1.0
"""Seconds that EC2 is given to detach an ENI before it is asked to delete it."""

LATEST_LOOK: Final = 2.0


@define(eq=False, kw_only=True)
class _Timer:
    """When something is looked at next; in seconds of the worker's clock."""

    since: float
    due: float
    pause: float = FIRST_LOOK

    def later(self, now: float, latest: float = LATEST_LOOK) -> None:
        """Look again, after a longer while."""
        self.due = now + self.pause
        self.pause = min(2 * self.pause, latest)


@define(eq=False, kw_only=True)
class Arrival(_Timer):
    """Blocks that EC2 gave, and that IMDS or the link does not show yet.

    ``new`` says that their ENI is not in the pool either.
    """

    eni: EniFacts
    blocks: set[Block]
    new: bool


@define(eq=False, kw_only=True)
class Departure(_Timer):
    """An ENI on its way out: to be detached, if it is attached, and deleted."""

    eni_id: str
    attachment: str | None
    pause: float = FIRST_DELETE
    device: int | None = None
    detached: bool = False
    card: int = 0


def with_transit(
    view: CapacityView, arrivals: Iterable[Arrival], departures: int
) -> CapacityView:
    """Count what arrives as if it were here, and what leaves as if it stayed.

    Otherwise each plan would ask once more for what is on its way, or for the place of
    an ENI that has not left it.  ``arrivals`` and ``departures`` are of the view's
    network card.
    """
    enis = {eni.id: eni for eni in view.enis}
    new = 0
    for arrival in arrivals:
        there = enis.get(arrival.eni.id)
        if there is None:
            new += 1
            there = EniView(
                id=arrival.eni.id,
                primary=arrival.eni.primary,
                assigned=0,
                cooling=0,
                idle=(),
                slots=view.eni_slots,
                age=0.0,
                card=view.card,
            )
        enis[there.id] = _with_blocks(there, arrival.blocks)
    return evolve(
        view,
        enis=tuple(enis.values()),
        new_enis=max(view.new_enis - new - departures, 0),
    )


def _with_blocks(eni: EniView, blocks: Iterable[Block]) -> EniView:
    """Add blocks that are not there yet."""
    here = {*eni.idle, *(view.prefix for view in eni.prefixes)}
    coming = sorted((b for b in blocks if b not in here), key=str)
    singles = [b for b in coming if isinstance(b, IPv4Address | IPv6Address)]
    prefixes = [b for b in coming if not isinstance(b, IPv4Address | IPv6Address)]
    of4 = sum(block.version == 4 for block in coming)  # noqa: PLR2004
    return evolve(
        eni,
        idle=(*eni.idle, *singles),
        prefixes=(*eni.prefixes, *(PrefixView(prefix=one) for one in prefixes)),
        slots=max(eni.slots - of4, 0),
        slots6=max(eni.slots6 - (len(coming) - of4), 0),
    )
