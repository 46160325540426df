"""The journal of refused ADDs: why a pod did not start, when it is asked later."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Mapping
from typing import Any, Final

from attrs import asdict, frozen

from eniplug.hooks.errors import EniplugError

KEPT: Final = 256
"""Refusals that are remembered; the oldest goes first.  None outlives the agent."""


@frozen(kw_only=True)
class Refusal:
    """One refused ADD.

    ``when`` is in seconds since the epoch.  ``namespace``, ``name`` and ``uid`` may be
    empty.
    ``facts`` are lines on the node as it was at that moment.
    """

    when: float
    namespace: str
    name: str
    container_id: str
    reason: str
    message: str
    remedy: str
    uid: str = ""
    facts: tuple[str, ...] = ()

    @classmethod
    def of(
        cls,
        error: EniplugError,
        *,
        when: float,
        container_id: str,
        args: Mapping[str, str],
        facts: tuple[str, ...] = (),
    ) -> Refusal:
        """Describe what refused an ADD with these CNI_ARGS."""
        return cls(
            when=when,
            namespace=args.get("K8S_POD_NAMESPACE", ""),
            name=args.get("K8S_POD_NAME", ""),
            uid=args.get("K8S_POD_UID", ""),
            container_id=container_id,
            reason=error.reason,
            message=error.message,
            remedy=error.details,
            facts=facts,
        )

    def told(self) -> dict[str, Any]:
        """Say it in what JSON can hold."""
        return asdict(self) | {"facts": list(self.facts)}


class Refusals:
    """The last refusals.  Safe to use from many threads: deques are.

    ``heard`` is told each one, in the thread of its ADD: it must return at once.
    """

    def __init__(self, heard: Callable[[Refusal], None] = lambda _: None) -> None:
        self._heard = heard
        self._kept: deque[Refusal] = deque(maxlen=KEPT)

    def note(self, refusal: Refusal) -> None:
        """Remember one."""
        self._kept.append(refusal)
        self._heard(refusal)

    def latest(self) -> tuple[Refusal, ...]:
        """Return those that are remembered, the newest first."""
        return tuple(reversed(self._kept.copy()))
