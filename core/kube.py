"""What the agent asks of Kubernetes: its own Node object, and to post pods' events.

Rules of this file:

- Nobody waits for Kubernetes.  Others read what it said last; at first that is what the
  store has of an earlier life of the agent, and on a new node nothing.
- While its API is away all stays as it was said last, and events wait.
- The client is imported in the thread, and only where there is somebody to ask.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from threading import Event, Thread
from typing import Final

import structlog

from eniplug.core.kube_api import Api, ApiAwayError, ApiRefusedError, NodeFacts
from eniplug.core.pod_events import PodEvents
from eniplug.core.refusals import Refusal
from eniplug.core.settings import Settings
from eniplug.hooks.errors import EniplugError, UnschedulableError

log = structlog.get_logger()

LOOK_EVERY: Final = 30.0
"""Seconds between looks at the Node object: one small GET."""

AFTER_TROUBLE: Final = 10.0
"""Seconds for which the API is let be when it did not answer."""

NEVER: Final = float("-inf")


class Kube:
    """Remembers what Kubernetes said, and asks again in a thread of its own.

    ``connect`` raises as `Api` does, and ImportError where the client is not installed;
    None means that there is nobody to ask, or nothing.  ``changed`` is called in the
    thread with other facts than before; it may raise EniplugError.
    """

    def __init__(
        self,
        connect: Callable[[], Api] | None,
        settings: Settings,
        changed: Callable[[NodeFacts], None],
        facts: NodeFacts | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        # What was said before counts until it is asked again, if it is asked at all.
        self.facts = NodeFacts() if facts is None or connect is None else facts
        self._connect = connect
        self._settings = settings
        self._changed = changed
        self._clock = clock
        self._api: Api | None = None
        self._events = PodEvents(clock)
        self._looked = self._failed = NEVER
        self._trouble: dict[str, str] = {}
        self._waker = Event()
        self._ending = Event()

    # -- from any thread ---------------------------------------------------------------

    def held(self) -> UnschedulableError | None:
        """Why the node's ENIs and addresses are to stay; None if they may change."""
        if self.facts.schedulable or self._settings.manage_enis_non_schedulable:
            return None
        msg = (
            f"node {self._settings.node_name} is unschedulable: no more addresses are"
            " asked for"
        )
        return UnschedulableError(msg)

    def note(self, refusal: Refusal) -> None:
        """Let a refused pod have an event, some time; returns at once."""
        if self._connect is not None and self._settings.pod_events:
            self._events.note(refusal)
            self._waker.set()

    def start(self) -> None:
        """Begin to ask, if there is anybody; returns at once."""
        if self._connect is not None:
            Thread(target=self._run, name="kube", daemon=True).start()

    def stop(self) -> None:
        """Let the thread end after the call it is in; returns at once."""
        self._ending.set()
        self._waker.set()

    # -- the thread --------------------------------------------------------------------

    def _run(self) -> None:
        try:
            self._go_on()
        finally:
            self.close()

    def close(self) -> None:
        """Hang up, as the thread does at its end."""
        if self._api is not None:
            self._api.close()

    def _go_on(self) -> None:
        while not self._ending.is_set():
            self._waker.clear()
            try:
                pause = self.step()
            except ImportError as error:
                remedy = "install eniplug[kube] for them"
                log.warning("no pod events", error=str(error), remedy=remedy)
                self.facts = NodeFacts()
                return
            except Exception:  # the thread must outlive any bug
                log.exception("asking Kubernetes failed")
                self._ending.wait(AFTER_TROUBLE)
                continue
            self._waker.wait(pause)

    def step(self) -> float:
        """Look at the node and post events, what is due of it.

        Returns the seconds until there is something to do.
        """
        pause = self._failed + AFTER_TROUBLE - self._clock()
        if pause > 0:
            return pause
        try:
            self._look()
            self._post()
        except ApiAwayError as error:
            self._failed = self._clock()
            self._tell("api", f"Kubernetes does not answer: {error}")
            return AFTER_TROUBLE
        self._tell("api", "")
        wait = self._looked + LOOK_EVERY - self._clock()
        return max(0.0, min(wait, self._events.wait()))

    def _look(self) -> None:
        if self._clock() - self._looked < LOOK_EVERY:
            return
        try:
            found = self._reach().node(self._settings.node_name)
        except ApiRefusedError as error:
            self._tell("node", f"the Node object is not shown: {error}")
        else:
            self._tell("node", "")
            self._take(found)
        self._looked = self._clock()

    def _take(self, found: NodeFacts) -> None:
        if found == self.facts:
            return
        self.facts = found
        log.info(
            "the node has changed",
            schedulable=found.schedulable,
            max_pods=found.max_pods,
        )
        try:
            self._changed(found)
        except EniplugError as error:
            log.warning("the node's facts are not kept", error=error.message)

    def _post(self) -> None:
        while not self._ending.is_set():
            event = self._events.next()
            if event is None:
                return
            try:
                self._reach().post(event)
            except ApiRefusedError as error:
                # Its namespace may be gone, or the right to post is lacking.
                self._tell("events", f"an event was refused: {error}")
            except ApiAwayError:
                self._events.put_back(event)
                raise
            else:
                self._tell("events", "")

    def _reach(self) -> Api:
        if self._api is None:
            assert self._connect is not None
            self._api = self._connect()
        return self._api

    def _tell(self, what: str, trouble: str) -> None:
        """Log trouble when it begins and when it ends, not each time."""
        before = self._trouble.get(what, "")
        self._trouble[what] = trouble
        if trouble and not before:
            log.warning("kubernetes", trouble=trouble)
        elif before and not trouble:
            log.info("kubernetes", over=before)


def connector(
    environ: Mapping[str, str], settings: Settings
) -> Callable[[], Api] | None:
    """Return how to reach the API; None if there is nobody to ask, or nothing.

    Pods have KUBERNETES_SERVICE_HOST (Kubernetes: "Accessing the API from a Pod");
    KUBECONFIG goes before it.
    """
    kubeconfig = environ.get("KUBECONFIG")
    if not kubeconfig and "KUBERNETES_SERVICE_HOST" not in environ:
        return None
    if not settings.node_name:
        log.info("Kubernetes is not asked: MY_NODE_NAME is not set")
        return None
    asks_node = not settings.manage_enis_non_schedulable or settings.max_pods is None
    if not asks_node and not settings.pod_events:
        return None

    def connect() -> Api:
        from eniplug.core.kube_lightkube import Lightkube  # noqa: PLC0415 - 8 MB, 0.4 s

        return Lightkube(kubeconfig, node=settings.node_name)

    return connect
