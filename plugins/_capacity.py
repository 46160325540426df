"""What both address plugins plan alike: what is lacking, and which ENI is first."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from eniplug.hooks import CapacityView, DeleteEni, EniView

SETTLED: Final = 60.0
"""Seconds after which a new ENI may be given back."""


def shortage(view: CapacityView, warm: int) -> int:
    """Addresses that are lacking when ``warm`` should be free."""
    lacking = warm - view.free
    if view.targets.counted:
        lacking = max(lacking, view.targets.minimum_ip - view.total)
    return max(lacking, 0)


def surplus(view: CapacityView, warm: int) -> int:
    """Addresses that could go while ``warm`` stay free, and the minimum is there."""
    over = view.free - warm
    if view.targets.counted:
        over = min(over, view.total - view.targets.minimum_ip)
    return max(over, 0)


def fullest_first(view: CapacityView) -> list[EniView]:
    """The ENIs in the order in which they grow: so that the others drain."""
    return sorted(view.enis, key=lambda eni: (-eni.assigned, not eni.primary))


def emptiest_first(view: CapacityView) -> list[EniView]:
    """The ENIs in the order in which they shrink; the primary ENI must stay."""
    return sorted(view.enis, key=lambda eni: (eni.primary, eni.assigned))


def deletable(view: CapacityView) -> Iterator[EniView]:
    """The ENIs that could go whole, newest first."""
    for eni in reversed(view.enis):
        if eni.unused and not (eni.kept or eni.primary) and eni.age > SETTLED:
            yield eni


def whole_enis(view: CapacityView, spare: int) -> Iterator[DeleteEni]:
    """Give back unused ENIs that hold no more free addresses than can be spared."""
    for eni in deletable(view):
        if eni.free <= spare:
            yield DeleteEni(eni=eni.id)
            spare -= eni.free
