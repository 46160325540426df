"""ENIs on their way out: detached, then deleted, as often tried as it takes."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final

import structlog

from eniplug.core.calls import Calls
from eniplug.core.ec2 import EniFacts
from eniplug.core.transit import Departure
from eniplug.hooks.errors import EniplugError, RetryError, ThrottledError

log = structlog.get_logger()

LATEST_TRY: Final = 60.0
"""Seconds between tries to be rid of an ENI that EC2 will not let go."""


class Departures:
    """All ENIs that leave.  ``unsure`` says that one hangs on what nobody knows."""

    def __init__(self, calls: Calls, clock: Callable[[], float]) -> None:
        self.unsure = False
        self._calls = calls
        self._clock = clock
        self._all: dict[str, Departure] = {}

    def __contains__(self, eni_id: str) -> bool:
        return eni_id in self._all

    def __iter__(self) -> Iterator[Departure]:
        return iter(self._all.values())

    def __len__(self) -> int:
        return len(self._all)

    def begin(
        self,
        eni: EniFacts,
        attachment: str | None,
        *,
        device: int | None = None,
        detached: bool = False,
    ) -> None:
        """Let an ENI leave, by the next `step`."""
        now = self._clock()
        self._all[eni.id] = Departure(
            eni_id=eni.id,
            attachment=attachment,
            device=device,
            card=eni.card,
            detached=detached,
            since=now,
            due=now,
        )

    def learn(self, eni_id: str, attachment: str | None) -> None:
        """Take what EC2 says of how an ENI is attached."""
        self._all[eni_id].attachment = attachment

    def step(self) -> bool:
        """Go one step further with the ENI that is due first; False if none is."""
        now = self._clock()
        due = [one for one in self._all.values() if one.due <= now]
        if not due:
            return False
        self.part_with(min(due, key=lambda one: one.due).eni_id)
        return True

    def part_with(self, eni_id: str) -> None:
        """Detach an ENI, or delete it; what fails is tried again, ever less often.

        Raises ThrottledError.
        """
        leaving, now = self._all[eni_id], self._clock()
        try:
            if leaving.attachment is not None and not leaving.detached:
                with self._calls.intent(f"detach {eni_id}"):
                    self._calls.ask().detach(leaving.attachment)
                leaving.detached = True
                leaving.later(now)
                return
            with self._calls.intent(f"delete {eni_id}"):
                self._calls.ask().delete_eni(eni_id)
        except ThrottledError:
            raise
        except RetryError:
            # It is attached still.  If nobody knows how, EC2 does.
            self.unsure = self.unsure or leaving.attachment is None
            leaving.later(now)
            return
        except EniplugError as error:
            log.warning("ENI stays", eni=eni_id, error=error.message)
            leaving.later(now, LATEST_TRY)
            return
        del self._all[eni_id]
        log.info("ENI deleted", eni=eni_id)
