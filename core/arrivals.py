"""Blocks between EC2's answer and the pool.

EC2 gives an address or a prefix before IMDS shows it, and attaches an ENI before its
link is there.  A block is let in when EC2, IMDS and the link agree on it.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Final, Protocol

import structlog

from eniplug.core.discover import eni_of
from eniplug.core.ec2 import EniFacts
from eniplug.core.imds import Metadata
from eniplug.core.transit import Arrival
from eniplug.hooks.capacity import Block
from eniplug.hooks.errors import EniplugError, StaleMetadataError
from eniplug.hooks.values import Eni

log = structlog.get_logger()

STALE_AFTER: Final = 10.0
"""Seconds after which an arrival that is not seen is told as the cause."""

LOST_AFTER: Final = 120.0
"""Seconds after which an arrival is given up."""


class Receiver(Protocol):
    """Who takes arrivals in; safe to call from the cloud worker's thread."""

    def link_of(self, mac: str) -> str | None:
        """Return the name of the node's link with that MAC, or None yet."""
        ...

    def mark_for(self, eni_id: str) -> int:
        """Return an ENI's own mark, the same each time."""
        ...

    def adopt(self, eni: Eni, blocks: Sequence[Block]) -> None:
        """Set an ENI up on the node, then let its blocks into the pool."""
        ...

    def supply(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Let blocks of a known ENI into the pool; some may be there already."""
        ...

    def blocked(self, error: EniplugError | None) -> None:
        """Note why no more addresses can be had now; None: nothing is wrong."""
        ...


class Arrivals:
    """All that is expected, at most one `Arrival` for each ENI."""

    def __init__(
        self, metadata: Metadata, receiver: Receiver, clock: Callable[[], float]
    ) -> None:
        self._metadata = metadata
        self._receiver = receiver
        self._clock = clock
        self._all: dict[str, Arrival] = {}

    def __contains__(self, eni_id: str) -> bool:
        return eni_id in self._all

    def all(self) -> tuple[Arrival, ...]:
        """Return what is expected."""
        return tuple(self._all.values())

    def expect(
        self, eni: EniFacts, blocks: Iterable[Block], *, new: bool = False
    ) -> None:
        """Expect blocks of an ENI; ``new``: the ENI itself is not in the pool."""
        now, coming = self._clock(), set(blocks)
        there = self._all.get(eni.id)
        if there is not None:
            if coming - there.blocks:
                there.blocks |= coming
                there.due = there.since = now
        elif coming or new:
            self._all[eni.id] = Arrival(
                eni=eni, blocks=coming, new=new, since=now, due=now
            )

    def forget(self, eni_id: str) -> None:
        """Expect nothing more of an ENI."""
        self._all.pop(eni_id, None)

    def look(self) -> tuple[Arrival, ...]:
        """Let in what is seen now, and return what is given up."""
        now = self._clock()
        due = [arrival for arrival in self._all.values() if arrival.due <= now]
        return tuple(arrival for arrival in due if not self._settled(arrival))

    def _settled(self, arrival: Arrival) -> bool:
        """Let in what is seen; False when it was waited for too long."""
        eni_id = arrival.eni.id
        trouble: EniplugError | None = None
        try:
            seen = self._let_in(arrival)
        except EniplugError as error:
            log.warning("arrival", eni=eni_id, error=error.message)
            seen, trouble = False, error
        now = self._clock()
        if seen:
            arrival.since = now
        late = now - arrival.since
        if late > LOST_AFTER:
            log.warning("arrival never seen", eni=eni_id, new=arrival.new)
            self.forget(eni_id)
            return False
        if late > STALE_AFTER and trouble is None:
            msg = f"EC2 gave blocks of {eni_id} that IMDS or the link does not show"
            trouble = StaleMetadataError(msg)
        if seen or trouble is not None:
            self._receiver.blocked(trouble)
        if arrival.new or arrival.blocks:
            arrival.later(now)
        else:
            self.forget(eni_id)
        return True

    def _let_in(self, arrival: Arrival) -> bool:
        """Let in what all agree on; tell whether that was anything."""
        eni = arrival.eni
        if self._metadata.interface_id(eni.mac) != eni.id:
            return False
        shown = self._metadata.blocks(eni.mac)
        here = sorted(arrival.blocks & shown, key=str)
        if arrival.new:
            link = self._receiver.link_of(eni.mac)
            if link is None or (arrival.blocks and not here):
                return False
            mark = self._receiver.mark_for(eni.id)
            self._receiver.adopt(eni_of(eni, link, mark), here)
            arrival.new = False
        elif here:
            self._receiver.supply(eni.id, here)
        else:
            return False
        arrival.blocks.difference_update(here)
        return True
