"""Plugins that hang, hold the interpreter or reach too far, in a real agent."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from eniplug.lab.control import ask
from kit.dists import install_plugins
from kit.labs import LabHand, a_lab, conflist, entry

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLUGINS = """
import re
import time

from attrs import frozen
from eniplug.hooks import LinkState, Sysctl, hookimpl


@frozen(eq=False, kw_only=True)
class Moody:
    api = "1.0"

    @hookimpl
    def egress(self, pod):
        match pod.name.partition("-")[0]:
            case "hangs":
                time.sleep(3600)
            case "raises":
                raise RuntimeError("no luck today")
            case "reaches":
                yield Sysctl(path="net/ipv4/ip_forward", value="0")


@frozen(eq=False, kw_only=True)
class Holder:
    @hookimpl
    def egress(self, pod):
        if pod.name == "holds":
            re.match("(a*)*b", "a" * 64)


@frozen(eq=False, kw_only=True)
class Weak:
    @hookimpl
    def setup_netns(self, pod):
        yield LinkState(link=pod.host_ifname, setting="mtu", value=1400)
        if pod.name.startswith("weak"):
            raise RuntimeError("half-way")
"""
ENIPLUG = (sys.executable, "-m", "eniplug.core.cli")
GOOD = ("secondary-ip", "pod-veth", "flat-routes")
OURS = entry(*GOOD, "holder", "moody", {"name": "weak", "on_error": "skip"})


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHand]:
    site = tmp_path_factory.mktemp("site")
    points = {"moody": "Moody", "holder": "Holder", "weak": "Weak"}
    install_plugins(site, "moody-plugins", points, PLUGINS)
    settings = {"PYTHONPATH": str(site), "WARM_IP_TARGET": "4"}
    with a_lab("fp", nodes=1, conflist=conflist(OURS), environment=settings) as lab:
        lab.add("calm")
        yield lab


def refused(lab: LabHand, pod: str) -> str:
    (answer,) = ask(lab.names, "pod-add", pods=[pod], node=1)
    return str(answer["error"])


def status(lab: LabHand) -> dict[str, Any]:
    said = json.loads(lab.inside("node1", *ENIPLUG, "status", "--json"))
    return {one["plugin"]: one for one in said["plugins"]}


def why(lab: LabHand, pod: str) -> str:
    return lab.inside("node1", *ENIPLUG, "why", pod)


def test_what_reaches_too_far_or_raises_is_refused_by_name(lab: LabHand) -> None:
    assert "plugin 'moody': egress raised RuntimeError" in refused(lab, "raises-1")
    assert "plugin 'moody': egress declared Sysctl" in refused(lab, "reaches-1")

    assert "plugin 'moody': egress raised" in why(lab, "raises-1")
    assert "not-the-pods" in why(lab, "reaches-1")
    assert status(lab)["moody"]["errors"] == 2
    assert "RuntimeError: no luck today" in lab.log()
    pages = lab.inside("node1", "curl", "-sf", "http://127.0.0.1:61678/metrics")
    assert 'eniplug_plugin_errors_total{plugin="moody"} 2.0' in pages


def test_a_pod_starts_without_a_plugin_that_may_be_skipped(lab: LabHand) -> None:
    lab.add("weak-1", "strong-1")

    assert "goes without: plugin 'weak': setup_netns raised" in why(lab, "weak-1")
    assert "goes without" not in why(lab, "strong-1")
    links = lab.inside("node1", "ip", "link")
    assert links.count("mtu 1400") == len(("calm", "strong-1"))
    lab.remove("weak-1", "strong-1")


def test_a_plugin_that_hangs_holds_nobody_up_and_is_shut(lab: LabHand) -> None:
    for number in range(3):
        error = refused(lab, f"hangs-{number}")
        assert "plugin 'moody': egress did not end within 1 s" in error

    assert "'moody' hung 3 times in a row" in refused(lab, "fine-1")

    told = status(lab)["moody"]
    assert (told["timeouts"], told["worst_ms"]) == (3, 1000.0)
    assert 0 < told["shut_for"] <= 60
    assert "plugin-shut" in why(lab, "fine-1")
    assert status(lab)["flat-routes"]["timeouts"] == 0


def test_an_agent_whose_interpreter_is_held_ends_and_pods_stay(lab: LabHand) -> None:
    environ = {**os.environ, "ENIPLUG_LAB": lab.names.lab}
    words = (*ENIPLUG, "lab", "pod", "add", "holds")

    # Nobody waits for its answer: the executable looks for the agent for 10 s.
    with subprocess.Popen(words, env=environ, stderr=subprocess.DEVNULL) as asking:
        wait_for(lambda: "exited with 1" in condition(lab))
        asking.kill()
    assert "re/__init__.py" in lab.log()
    [address] = lab.inside("calm", "hostname", "-I").split()
    lab.inside("node1", "ping", "-c", "1", "-W", "2", address)


def condition(lab: LabHand) -> str:
    return str(lab.status()["nodes"][0])


def wait_for(there: Callable[[], bool]) -> None:
    end = time.monotonic() + 30
    while not there():
        assert time.monotonic() < end
        time.sleep(0.1)
