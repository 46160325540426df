"""The pods that were refused last, and what was so at that moment."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from threading import Lock
from typing import Final

from attrs import frozen

from eniplug.hooks import Pod
from eniplug.hooks.errors import EniplugError

KEPT: Final = 256


@frozen(kw_only=True)
class Refusal:
    """One refused ADD; ``at`` in seconds since the epoch, ``facts`` from pod to API."""

    at: float
    namespace: str
    name: str
    container_id: str
    reason: str
    message: str
    remedy: str
    facts: tuple[str, ...]


class Refusals:
    """The last `KEPT` of them.  Safe to call from many threads."""

    def __init__(self) -> None:
        self._all: deque[Refusal] = deque(maxlen=KEPT)
        self._lock = Lock()

    def note(
        self, pod: Pod, error: EniplugError, facts: tuple[str, ...], at: float
    ) -> None:
        """Remember one."""
        refusal = Refusal(
            at=at,
            namespace=pod.namespace,
            name=pod.name,
            container_id=pod.container_id,
            reason=error.reason,
            message=error.message,
            remedy=error.details,
            facts=facts,
        )
        with self._lock:
            self._all.append(refusal)

    def newest_first(self) -> Iterator[Refusal]:
        """All of them."""
        with self._lock:
            return reversed(tuple(self._all))
