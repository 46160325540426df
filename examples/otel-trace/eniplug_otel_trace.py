"""otel-trace: an OpenTelemetry span around each call of a plugin's hook.

It wraps what the other plugins of its entry do, and changes nothing of it.  A pod's
spans have the runtime's own as their parent, if it sent one (TRACEPARENT).
"""

from __future__ import annotations

from collections.abc import Generator
from functools import cache
from importlib.metadata import entry_points
from typing import Any

from attrs import frozen
from opentelemetry.propagate import extract
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import Tracer

from eniplug.hooks import Pod, hookimpl

Wrapper = Generator[None, Any, Any]


@frozen(eq=False, kw_only=True)
class OtelTrace:
    """Traces the hooks of the plugins beside it."""

    exporter: str = "console"
    """The exporter, by the name that OTEL_TRACES_EXPORTER would have."""

    @hookimpl(wrapper=True)
    def node_objects(self) -> Wrapper:
        """Trace what the node gets."""
        return (yield from self._objects("node_objects"))

    @hookimpl(wrapper=True)
    def plan_capacity(self) -> Wrapper:
        """Trace what the pool does next."""
        return (yield from self._span("plan_capacity"))

    @hookimpl(wrapper=True)
    def allocate_ip(self, pod: Pod) -> Wrapper:
        """Trace the pod's addresses."""
        return (yield from self._span("allocate_ip", pod))

    @hookimpl(wrapper=True)
    def setup_netns(self, pod: Pod) -> Wrapper:
        """Trace the pod's interface."""
        return (yield from self._objects("setup_netns", pod))

    @hookimpl(wrapper=True)
    def program_routes(self, pod: Pod) -> Wrapper:
        """Trace the pod's routes."""
        return (yield from self._objects("program_routes", pod))

    @hookimpl(wrapper=True)
    def egress(self, pod: Pod) -> Wrapper:
        """Trace the pod's ways out."""
        return (yield from self._objects("egress", pod))

    @hookimpl(wrapper=True)
    def release_ip(self, pod: Pod) -> Wrapper:
        """Trace the pod's end."""
        return (yield from self._span("release_ip", pod))

    @hookimpl
    def attached(self, pod: Pod) -> None:
        """Say that the pod is there."""
        with self._started("attached", pod):
            pass

    def _objects(self, hook: str, pod: Pod | None = None) -> Wrapper:
        """Run generators inside the span: each plugin's objects become a tuple."""
        found = yield from self._span(hook, pod, each=tuple)
        return found

    def _span(self, hook: str, pod: Pod | None = None, each: Any = None) -> Wrapper:
        with self._started(hook, pod):
            found = yield
            return found if each is None else [each(one) for one in found]

    def _started(self, hook: str, pod: Pod | None) -> Any:
        tracer = _tracer(self.exporter)
        if pod is None:
            return tracer.start_as_current_span(f"eniplug.{hook}")
        attributes = {
            "k8s.namespace.name": pod.namespace,
            "k8s.pod.name": pod.name,
            "container.id": pod.container_id,
        }
        return tracer.start_as_current_span(
            f"eniplug.{hook}", context=extract(pod.trace), attributes=attributes
        )


@cache
def _tracer(exporter: str) -> Tracer:
    """Make the one tracer of this process; it sends in a thread of its own."""
    (point,) = entry_points(group="opentelemetry_traces_exporter", name=exporter)
    provider = TracerProvider()
    provider.add_span_processor(
        BatchSpanProcessor(point.load()(), schedule_delay_millis=1000)
    )
    return provider.get_tracer("eniplug")
