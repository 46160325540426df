"""Whether the pool and EC2 still agree, and what becomes of what is in doubt.

The worst faults of VPC CNIs come from believing one view: a metadata service that lags,
a cache, a file.  Here IMDS only gives reason to ask EC2.  A block that EC2 does not
show in two answers ten seconds apart goes into quarantine: pods keep their addresses,
no new pod gets one.  When EC2 shows it again it is let in as anything new; when it does
not and nobody uses it, it is forgotten.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import Final, Protocol

import structlog
from attrs import define, field

from eniplug.core.pool import Quarantined
from eniplug.hooks.capacity import Block

log = structlog.get_logger()

APART: Final = 10.0
"""Seconds between two answers that contradict the pool, until it is believed."""

FORGET_AFTER: Final = 60.0
"""Seconds in quarantine after which what nobody uses is forgotten."""

NOT_SHOWN: Final = "EC2 does not show it as this ENI's"


class Ward(Protocol):
    """The pool, as far as an audit changes it."""

    def blocks(self, eni_id: str) -> frozenset[Block]:
        """Return all that the pool has of an ENI."""
        ...

    def quarantine(self, eni_id: str, block: Block, reason: str) -> None:
        """Give no more pods an address of a block."""
        ...

    def quarantined(self) -> tuple[Quarantined, ...]:
        """Return what gets no new pods, and why."""
        ...

    def withdraw(self, eni_id: str, blocks: tuple[Block, ...]) -> tuple[Block, ...]:
        """Forget those that nobody uses, and return them."""
        ...


@define(eq=False)
class Audit:
    """Remembers since when EC2 contradicts the pool, by ENI and block."""

    ward: Ward
    _since: dict[tuple[str, Block], float] = field(factory=dict)

    def compare(self, eni_id: str, shown: Collection[Block], now: float) -> set[Block]:
        """Hold an ENI's blocks against an answer of EC2; return what is to be let in.

        ``shown`` is empty for an ENI that EC2 does not show at all.
        """
        here = self.ward.blocks(eni_id)
        # What went in the meantime is in doubt no more.
        self._since = {
            place: since
            for place, since in self._since.items()
            if place[0] != eni_id or place[1] in here
        }
        held = {q.block for q in self.ward.quarantined() if q.eni == eni_id}
        for block in here:
            place = (eni_id, block)
            if block in shown:
                self._since.pop(place, None)
                continue
            age = now - self._since.setdefault(place, now)
            if block in held:
                if age >= FORGET_AFTER and self.ward.withdraw(eni_id, (block,)):
                    log.info("forgotten", eni=eni_id, block=str(block))
                    del self._since[place]
            elif age >= APART:
                log.warning("quarantine", eni=eni_id, block=str(block), why=NOT_SHOWN)
                self.ward.quarantine(eni_id, block, NOT_SHOWN)
        return {b for b in shown if b not in here or b in held}

    @property
    def again_in(self) -> float | None:
        """Seconds until EC2 should be asked again; None: nothing is in doubt."""
        held = {(q.eni, q.block) for q in self.ward.quarantined()}
        if self._since.keys() - held:
            return APART
        return FORGET_AFTER if held else None

    def forget(self, eni_id: str) -> None:
        """Know nothing more of an ENI."""
        self._since = {k: v for k, v in self._since.items() if k[0] != eni_id}
