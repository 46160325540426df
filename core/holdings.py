"""What attachments have on the node's side, so that no two have the same.

An object there is in a *slot*, which is one attachment's, and is or stands on a link.
What the kernel tells of names one or the other, and so whose it is is known by both.
"""

from __future__ import annotations

from collections.abc import Iterable

from attrs import define, field

from eniplug.core.kernel.changes import slot
from eniplug.core.kernel.compare import link_of
from eniplug.core.parts import AttachmentKey, Part
from eniplug.hooks import Object, StaleFlows
from eniplug.hooks.errors import ConflictError
from eniplug.hooks.objects import HOST, Key


@define
class Holding:
    """What one part has: objects with their slots, and links."""

    key: AttachmentKey
    slots: list[tuple[Key, Object]] = field(factory=list)
    links: set[str] = field(factory=set)


def holding_of(part: Part) -> Holding:
    """Find what a part has on the node's side; StaleFlows are nobody's."""
    holding = Holding(part.key)
    for one in part.objects:
        if one.side is HOST and not isinstance(one, StaleFlows):
            holding.slots.append((slot(one), one))
            link = link_of(one)
            if link is not None:
                holding.links.add(link)
    return holding


class Holdings:
    """What all parts have; not safe for several threads."""

    def __init__(self) -> None:
        self._slots: dict[Key, AttachmentKey] = {}
        self._links: dict[str, AttachmentKey] = {}
        self._held: dict[int, Holding] = {}

    def check(self, holding: Holding) -> None:
        """Hold that nobody has any of it.  Raises ConflictError."""
        for place, one in holding.slots:
            owner = self._slots.get(place)
            if owner is not None:
                msg = f"{one} belongs to container {owner.container_id} already"
                raise ConflictError(msg, "delete that pod first")

    def add(self, number: int, holding: Holding) -> None:
        """Note what a part has, by the part's id."""
        for place, _ in holding.slots:
            self._slots[place] = holding.key
        for link in holding.links:
            self._links[link] = holding.key
        self._held[number] = holding

    def remove(self, number: int, siblings: Iterable[int]) -> None:
        """Free what a part has; links that its siblings are on, too, stay theirs."""
        holding = self._held.pop(number)
        for place, _ in holding.slots:
            self._slots.pop(place, None)
        for link in holding.links:
            self._links.pop(link, None)
        for other in siblings:
            for link in self._held[other].links:
                self._links[link] = holding.key

    def owners(
        self, slots: Iterable[Key], links: Iterable[str]
    ) -> frozenset[AttachmentKey]:
        """The attachments that have something in these slots, or on these links."""
        by_slot = [self._slots.get(one) for one in slots]
        by_link = [self._links.get(one) for one in links]
        return frozenset(key for key in (*by_slot, *by_link) if key is not None)
