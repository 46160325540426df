from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator
from typing import Any

import pluggy
import pytest
from attrs import frozen
from eniplug_otel_trace import OtelTrace

from eniplug.core.chain import Chain
from eniplug.hooks import PROJECT, Object, Side, Sysctl, hookimpl, specs
from eniplug.hooks.errors import PluginError
from eniplug.testing.builders import NODE, a_pod, a_pool, an_allocation
from eniplug.testing.conformance import conformance

TestConformance = conformance(OtelTrace)

TRACE = "0af7651916cd43dd8448eb211c80319c"
PARENT = "b7ad6b7169203331"
POD = a_pod(trace={"traceparent": f"00-{TRACE}-{PARENT}-01"})
TTL = Sysctl(path="net/ipv4/ip_default_ttl", value="9", side=Side.POD)


@frozen(eq=False)
class Beside:
    """Declares one thing, and fails at another."""

    @hookimpl
    def allocate_ip(self) -> None:
        msg = "nothing to give"
        raise ValueError(msg)

    @hookimpl
    def setup_netns(self) -> Iterator[Object]:
        yield TTL


def a_chain() -> Chain:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    manager.register(Beside(), "beside")
    manager.register(OtelTrace(), "otel-trace")
    return Chain(manager, ("otel-trace", "beside"))


def work() -> None:
    """Call the hooks of one pod; its spans are printed when the process ends."""
    chain = a_chain()
    with pytest.raises(PluginError, match="nothing to give"):
        chain.allocate(POD, a_pool())
    assert chain.declare(POD, an_allocation(POD), NODE) == (TTL,)
    chain.observe("attached", pod=POD, allocation=an_allocation(POD))


@pytest.fixture(scope="module")
def spans() -> dict[str, Any]:
    done = subprocess.run(
        [sys.executable, __file__], capture_output=True, text=True, check=True
    )
    texts = re.findall(r"^{$.*?^}$", done.stdout, re.M | re.S)  # the log is there, too
    spans = [json.loads(text) for text in texts]
    return {span["name"]: span for span in spans}


def test_each_call_of_a_hook_is_a_span_below_the_runtimes_own(
    spans: dict[str, Any],
) -> None:
    assert {*spans} == {
        "eniplug.allocate_ip",
        "eniplug.setup_netns",
        "eniplug.attached",
    }
    for span in spans.values():
        assert span["context"]["trace_id"] == f"0x{TRACE}"
        assert span["parent_id"] == f"0x{PARENT}"
        assert span["attributes"]["k8s.pod.name"] == "web-0"


def test_a_hook_that_fails_is_told(spans: dict[str, Any]) -> None:
    failed, fine = spans["eniplug.allocate_ip"], spans["eniplug.setup_netns"]

    assert failed["status"]["status_code"] == "ERROR"
    assert "nothing to give" in failed["status"]["description"]
    assert fine["status"]["status_code"] == "UNSET"


def test_what_is_wrapped_is_no_plugin_of_its_own() -> None:
    assert a_chain().address_plugins == ("beside",)


if __name__ == "__main__":
    work()
