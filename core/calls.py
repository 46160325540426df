"""Calls of EC2: one at a time, paced, each one's intent committed before it is made."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from typing import Protocol
from uuid import uuid4

from eniplug.core.ec2 import Cloud
from eniplug.core.pace import Pace
from eniplug.hooks.errors import CloudError, DeniedError, RetryError


class Journal(Protocol):
    """Where intents are committed."""

    def intend(self, token: str, what: str) -> None:
        """Commit that a call is about to be made."""
        ...

    def done(self, token: str) -> None:
        """Commit that the call's outcome is known."""
        ...


class Calls:
    """The one way to EC2.  ``in_doubt`` says that an answer was lost."""

    def __init__(self, cloud: Cloud, pace: Pace, journal: Journal) -> None:
        self._cloud = cloud
        self._pace = pace
        self._journal = journal
        self._doubts: list[str] = []

    @property
    def in_doubt(self) -> bool:
        """Whether EC2 may have done what we do not know of."""
        return bool(self._doubts)

    def ask(self) -> Cloud:
        """Return the cloud for one call."""
        self._pace.spend()
        return self._cloud

    @contextmanager
    def intent(self, what: str) -> Generator[str]:
        """Commit a call's intent; it is kept while the outcome is in doubt.

        Yields a token that is nobody else's, as EC2's ClientToken wants it.
        """
        token = str(uuid4())
        self._journal.intend(token, what)
        try:
            yield token
        except (DeniedError, RetryError):
            self._journal.done(token)
            raise
        except CloudError:
            self._doubts.append(token)  # it may have happened
            raise
        self._journal.done(token)

    def settled(self) -> None:
        """Forget all doubts: EC2 has told what there is."""
        for token in self._doubts:
            self._journal.done(token)
        self._doubts.clear()
