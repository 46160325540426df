"""The port to the Kubernetes API, by lightkube, which has its home here.

Rights that it needs: ``get`` on ``nodes``, ``create`` on ``events``.
"""

from __future__ import annotations

import time
from collections.abc import Generator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Final

from httpx2 import HTTPError, HTTPStatusError
from lightkube import Client, KubeConfig
from lightkube.models.core_v1 import EventSource, ObjectReference
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.core_v1 import Event, Node

from eniplug.core.kube_api import ApiAwayError, ApiRefusedError, NodeFacts
from eniplug.core.pod_events import PodEvent

TAINT: Final = "node.kubernetes.io/unschedulable"
"""What the control plane puts on a node that was cordoned."""

COME_AGAIN: Final = 429
OUR_FAULT: Final = range(400, 500)
LONGEST_NAME: Final = 253 - 17
"""Characters of an event's name that may be its pod's; the rest is a dot and a time."""

LONGEST_MESSAGE: Final = 1024


class Lightkube:
    """Asks by a kubeconfig, or with the pod's own service account."""

    def __init__(self, kubeconfig: str | None, *, node: str) -> None:
        """Read who to ask; raises ApiAwayError if that cannot be read."""
        self._host = node
        try:
            config = (
                KubeConfig.from_file(kubeconfig)
                if kubeconfig
                else KubeConfig.from_service_account()
            )
            self._client = Client(config)
        except Exception as error:  # lightkube lets through what YAML and TLS raise
            raise ApiAwayError(repr(error)) from error

    def close(self) -> None:
        """Hang up."""
        self._client.close()

    def node(self, name: str) -> NodeFacts:
        """Return what the Node object says."""
        with _asking():
            node = self._client.get(Node, name)
        taints = (node.spec.taints if node.spec else None) or ()
        capacity = (node.status.capacity if node.status else None) or {}
        pods = str(capacity.get("pods", ""))
        return NodeFacts(
            schedulable=not any(
                taint.key == TAINT and taint.effect == "NoSchedule" for taint in taints
            ),
            max_pods=int(pods) if pods.isdecimal() and int(pods) else None,
        )

    def post(self, event: PodEvent) -> None:
        """Put an event on its pod."""
        # A name as client-go makes it: the pod's, and a time that is not had twice.
        name = f"{event.pod[:LONGEST_NAME].rstrip('-.')}.{time.time_ns():x}"
        with _asking():
            self._client.create(
                Event(
                    metadata=ObjectMeta(name=name, namespace=event.namespace),
                    involvedObject=ObjectReference(
                        apiVersion="v1",
                        kind="Pod",
                        namespace=event.namespace,
                        name=event.pod,
                        uid=event.uid or None,
                    ),
                    type="Warning",
                    reason=event.reason,
                    message=event.message[:LONGEST_MESSAGE],
                    source=EventSource(component="eniplug", host=self._host),
                    # Whole seconds, as metav1.Time has them.
                    firstTimestamp=datetime.fromtimestamp(int(event.first), UTC),
                    lastTimestamp=datetime.fromtimestamp(int(event.last), UTC),
                    count=event.count,
                )
            )


@contextmanager
def _asking() -> Generator[None]:
    """Tell an API that is away from one that says no."""
    try:
        yield
    except HTTPStatusError as error:
        code = error.response.status_code
        if code in OUR_FAULT and code != COME_AGAIN:
            raise ApiRefusedError(str(error)) from error
        raise ApiAwayError(str(error)) from error
    except (HTTPError, OSError, LookupError, ValueError) as error:
        raise ApiAwayError(str(error) or repr(error)) from error
