"""What the agent counts for Prometheus, and how that is written down.

Requests and EC2's calls are counted as they end, the first only when their answer is
out, and by nothing but additions.  All else is looked up when somebody asks for it.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Iterable, Mapping
from importlib.metadata import version
from itertools import accumulate
from threading import Lock
from typing import Any, Final

from attrs import asdict, define, field
from prometheus_client import (
    CollectorRegistry,
    Counter,
    ProcessCollector,
    disable_created_metrics,
    generate_latest,
)
from prometheus_client.core import (
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
)
from prometheus_client.registry import Collector
from prometheus_client.utils import floatToGoString

from eniplug.core.state import State
from eniplug.hooks import Family
from eniplug.hooks.errors import EniplugError

BUCKETS: Final = (
    *(0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5),
    *(1.0, 2.5, 5.0, 10.0, 30.0, float("inf")),
)
"""Seconds; above half a second an ADD has waited for EC2."""

_BUCKET_NAMES: Final = tuple(map(floatToGoString, BUCKETS))

COMMANDS: Final = frozenset({"ADD", "DEL", "CHECK", "GC", "STATUS", "VERSION"})
OTHER: Final = "other"
"""Any other command, whatever its name: callers must not make up series."""

FAMILIES: Final[tuple[Family, Family]] = (4, 6)


class Metrics:
    """The agent's counters.  Safe to use from many threads."""

    def __init__(self) -> None:
        # A series more for each, which nobody asks for.
        disable_created_metrics()  # type: ignore[no-untyped-call]
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)
        requests = _RequestCollector()
        self._registry.register(requests)
        self.answered = requests.answered
        self._calls = Counter(
            "eniplug_ec2_calls",
            "Calls of EC2, each page of an answer by itself.",
            ["action"],
            registry=self._registry,
        )
        self._errors = Counter(
            "eniplug_ec2_errors",
            "Calls of EC2 that failed.",
            ["action", "reason"],
            registry=self._registry,
        )

    def watch(self, state: State, why_not_ready: Callable[[], object | None]) -> None:
        """Show a node's addresses too, as they are when somebody asks."""
        self._registry.register(_NodeCollector(state, why_not_ready))

    def watch_plugins(self, told: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        """Show how each plugin has behaved, as `Guard.told` says it."""
        self._registry.register(_PluginCollector(told))

    def called(self, action: str, error: EniplugError | None) -> None:
        """Count a call of EC2."""
        self._calls.labels(action).inc()
        if error is not None:
            self._errors.labels(action, error.reason).inc()

    def text(self) -> bytes:
        """Write it all down (Prometheus, "Text-based format")."""
        return generate_latest(self._registry)


@define(eq=False)
class _Took:
    """How long ADDs took: how many fit each bucket and none before, and the sum."""

    counts: list[int] = field(factory=lambda: [0] * len(BUCKETS))
    seconds: float = 0.0


class _RequestCollector(Collector):
    """Counts requests; what Prometheus wants of that is made when it asks."""

    def __init__(self) -> None:
        self._mutex = Lock()
        self._requests: dict[tuple[str, str, str], int] = {}
        self._adds: dict[str, _Took] = {}

    def answered(self, command: str, reason: str, seconds: float) -> None:
        """Count a request; ``reason`` is empty if it was carried out."""
        outcome = "refused" if reason else "done"
        known = command if command in COMMANDS else OTHER
        labels = known, outcome, reason
        with self._mutex:
            self._requests[labels] = self._requests.get(labels, 0) + 1
            if command == "ADD":
                took = self._adds.get(outcome)
                if took is None:
                    took = self._adds[outcome] = _Took()
                took.counts[bisect_left(BUCKETS, seconds)] += 1
                took.seconds += seconds

    def collect(self) -> Iterable[Metric]:
        """Write down what was counted until now."""
        requests = CounterMetricFamily(
            "eniplug_requests",
            "CNI requests; reason is empty where they were carried out.",
            labels=("command", "outcome", "reason"),
        )
        adds = HistogramMetricFamily(
            "eniplug_add_seconds",
            "Seconds that an ADD took inside the agent.",
            labels=("outcome",),
        )
        with self._mutex:
            for labels, count in self._requests.items():
                requests.add_metric(labels, count)
            for outcome, took in self._adds.items():
                buckets = zip(_BUCKET_NAMES, accumulate(took.counts), strict=True)
                adds.add_metric((outcome,), list(buckets), took.seconds)
        return requests, adds


class _PluginCollector(Collector):
    """Looks up how plugins have behaved."""

    def __init__(self, told: Callable[[], Iterable[Mapping[str, Any]]]) -> None:
        self._told = told

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand: plugins come with the conflist's entries."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Look."""
        counted = {
            "calls": "Calls of a plugin's hooks.",
            "errors": "Those whose answer could not be used.",
            "timeouts": "Those that did not end in time.",
        }
        plugins = tuple(self._told())
        for what, words in counted.items():
            family = CounterMetricFamily(
                f"eniplug_plugin_{what}", words, labels=("plugin",)
            )
            for one in plugins:
                family.add_metric((one["plugin"],), one[what])
            yield family


class _NodeCollector(Collector):
    """Looks the node's addresses up."""

    def __init__(
        self, state: State, why_not_ready: Callable[[], object | None]
    ) -> None:
        self._state = state
        self._why_not_ready = why_not_ready

    def describe(self) -> Iterable[Metric]:
        """Name nothing beforehand, so that nothing is looked up at the start."""
        return ()

    def collect(self) -> Iterable[Metric]:
        """Look."""
        views, waiting = self._state.views()
        addresses = GaugeMetricFamily(
            "eniplug_addresses",
            "Addresses for pods; those held are in quarantine.",
            labels=("family", "state"),
        )
        for family in FAMILIES:
            counts = asdict(self._state.counts(family))
            for state in ("assigned", "cooling", "idle", "held"):
                addresses.add_metric((f"ipv{family}", state), counts[state])
        of_eni = GaugeMetricFamily(
            "eniplug_eni_addresses",
            "IPv4 addresses for pods of one ENI.",
            labels=("eni", "state"),
        )
        elastic_ips = GaugeMetricFamily(
            "eniplug_elastic_ips",
            "Public addresses of pods; those leaving have none any more.",
            labels=("state",),
        )
        for state, count in self._state.elastic_ips.counts().items():
            elastic_ips.add_metric((state,), count)
        prefixes = GaugeMetricFamily(
            "eniplug_prefixes",
            "Prefixes, those with pods and those without.",
            labels=("family", "state"),
        )
        kept = [(p.prefix.version, p.unused) for v in views for p in v.prefixes]
        for family in FAMILIES:
            for state, unused in (("used", False), ("unused", True)):
                count = kept.count((family, unused))
                prefixes.add_metric((f"ipv{family}", state), count)
        for one in views:
            of_eni.add_metric((one.id, "assigned"), one.assigned)
            of_eni.add_metric((one.id, "cooling"), one.cooling)
            of_eni.add_metric((one.id, "idle"), one.free)
        yield from (addresses, of_eni, prefixes, elastic_ips)
        yield _gauge("enis", "ENIs that serve pods.", len(views))
        yield _gauge("waiting_pods", "Pods that wait for an address.", waiting)
        held = len(self._state.quarantined())
        yield _gauge("quarantined", "Addresses and prefixes in quarantine.", held)
        ready = self._why_not_ready() is None
        yield _gauge("ready", "1: an ADD can succeed; 0: none can now.", ready)
        info = GaugeMetricFamily("eniplug_build_info", "1.", labels=("version",))
        info.add_metric((version("eniplug"),), 1)
        yield info


def _gauge(name: str, help_: str, value: float) -> Metric:
    return GaugeMetricFamily(f"eniplug_{name}", help_, value=value)
