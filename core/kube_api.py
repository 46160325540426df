"""The port to the Kubernetes API, and what it says of the node."""

from __future__ import annotations

from typing import Protocol

from attrs import frozen

from eniplug.core.pod_events import PodEvent


@frozen(kw_only=True)
class NodeFacts:
    """What the Node object says of this node.

    ``max_pods`` is its capacity, None before kubelet has told it.
    """

    schedulable: bool = True
    max_pods: int | None = None


class ApiAwayError(Exception):
    """No answer, or one that asks to come again later."""


class ApiRefusedError(Exception):
    """An answer that would be the same the next time."""


class Api(Protocol):
    """The port to the Kubernetes API; raises ApiAwayError and ApiRefusedError."""

    def node(self, name: str) -> NodeFacts:
        """Return what the Node object says."""
        ...

    def post(self, event: PodEvent) -> None:
        """Put an event on its pod."""
        ...

    def close(self) -> None:
        """Hang up."""
        ...
