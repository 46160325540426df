"""What is done for ENIs when there is nothing else to do, one call at a time.

ENIs that serve pods get our tags and the primary ENI's security groups; those that hang
on nothing are found and deleted.
"""

from __future__ import annotations

from collections.abc import Callable, MutableMapping
from datetime import datetime
from typing import Final

import structlog
from attrs import evolve

from eniplug.core.calls import Calls
from eniplug.core.departures import Departures
from eniplug.core.ec2 import EniFacts
from eniplug.core.leftovers import (
    CREATED_TAG,
    DESCRIPTION,
    STAMP,
    is_forsaken,
    is_stamped,
)
from eniplug.core.lookout import Lookout
from eniplug.core.owner import Owner
from eniplug.hooks.errors import DeniedError, EniplugError, ThrottledError

log = structlog.get_logger()

SWEEP_EVERY: Final = 3600.0
"""Seconds between looks for ENIs that were left behind."""


class Upkeep:
    """Looks after ``enis``, which are the worker's, by id.

    With ``others`` it also deletes what dead nodes of the cluster have left.
    """

    def __init__(
        self,
        calls: Calls,
        enis: MutableMapping[str, EniFacts],
        departures: Departures,
        lookout: Lookout,
        owner: Owner,
        *,
        others: bool,
        clock: Callable[[], float],
        today: Callable[[], datetime],
    ) -> None:
        self._calls = calls
        self._enis = enis
        self._departures = departures
        self._lookout = lookout
        self._owner = owner
        self._others = others
        self._clock = clock
        self._today = today
        self._untagged: list[str] = []
        self._swept = float("-inf")

    def meet(self, eni: EniFacts) -> None:
        """Learn of an ENI that serves pods."""
        if self._owner.is_unmarked(eni):
            self._untagged.append(eni.id)

    def sweep_soon(self) -> None:
        """Look for what was left behind, though it is not time."""
        self._swept = float("-inf")

    def step(self, vpc: str) -> bool:
        """Do what is due, with one call; False if nothing is."""
        if self._untagged:
            self._tag()
            return True
        now = self._clock()
        if now - self._swept >= SWEEP_EVERY:
            self._swept = now
            self._sweep(vpc)
            return True
        eni = next(filter(self._lookout.differs, self._enis.values()), None)
        if eni is not None:
            self._regroup(eni)
        return eni is not None

    def _tag(self) -> None:
        """Put our tags on ENIs that somebody else made, as AWS's program does."""
        enis = [eni for eni in self._untagged if eni in self._enis]
        self._untagged = []
        try:
            self._calls.ask().tag(enis, self._owner.tags)
        except DeniedError as error:
            log.warning("ENIs cannot be tagged", error=error.message)

    def _sweep(self, vpc: str) -> None:
        """Find ENIs that hang on nothing: of this instance, and of dead ones."""
        for eni in self._calls.ask().leaked(vpc, self._owner.cluster):
            if eni.id in self._enis or eni.id in self._departures:
                continue
            forsaken = self._others and is_forsaken(eni, self._today())
            if self._owner.made(eni) or forsaken:
                log.info("leaked ENI found", eni=eni.id, description=eni.description)
                self._departures.begin(eni, None)
            elif self._others and not is_stamped(eni) and _is_a_cnis(eni):
                stamp = {CREATED_TAG: self._today().strftime(STAMP)}
                self._calls.ask().tag([eni.id], stamp)

    def _regroup(self, eni: EniFacts) -> None:
        """Give an ENI the primary's security groups."""
        groups = self._lookout.groups
        try:
            self._calls.ask().set_groups(eni.id, groups)
        except ThrottledError:
            raise
        except EniplugError as error:
            log.warning("ENI keeps its groups", eni=eni.id, error=error.message)
            self._lookout.refused(eni.id)
            return
        log.info("ENI has the primary's groups", eni=eni.id, groups=groups)
        self._enis[eni.id] = evolve(eni, groups=groups)


def _is_a_cnis(eni: EniFacts) -> bool:
    return eni.description.startswith(DESCRIPTION)
