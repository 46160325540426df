"""An agent beside a Kubernetes API that comes later, and says: cordoned."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator
from contextlib import ExitStack

import pytest

from kit.api_servers import NAME, TAINT, ApiServer, api_server, kubeconfig
from kit.labs import LabHand, a_lab
from kit.netns import inside

pytestmark = [pytest.mark.root, pytest.mark.lab]

PORT = 16443
WITHIN = 20.0


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Generator[LabHand]:
    """A node whose two ENIs have an address each; it keeps one."""
    config = kubeconfig(tmp_path_factory.mktemp("kube"), f"http://127.0.0.1:{PORT}")
    with a_lab(
        "kube",
        nodes=1,
        instance_type="t3.nano",
        environment={
            "KUBECONFIG": config,
            "MY_NODE_NAME": NAME,
            "WARM_ENI_TARGET": "0",
            "ENIPLUG_ADD_WAIT": "0.5",
        },
    ) as lab:
        yield lab


@pytest.fixture(scope="module")
def api(lab: LabHand) -> Generator[ApiServer]:
    """An API server that comes after the agent; the next one finds a cordoned node."""
    with ExitStack() as stack:
        with inside(lab.names.node(1)):
            server = stack.enter_context(api_server(PORT))
        server.taints = [TAINT]
        lab.run("agent", "stop", "1")
        lab.run("agent", "start", "1")
        wait_for(lambda: "the node has changed" in lab.log())
        yield server


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + WITHIN
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.05)


def test_the_agent_is_ready_though_the_api_is_away(lab: LabHand) -> None:
    wait_for(lambda: "Kubernetes does not answer" in lab.log())


def test_a_cordoned_node_gives_what_it_has_and_refuses_more_with_an_event(
    lab: LabHand, api: ApiServer
) -> None:
    lab.add("first")

    refused = lab.run("pod", "add", "second", check=False)

    assert b"unschedulable" in refused.stdout + refused.stderr
    wait_for(lambda: api.events)
    [event] = api.events
    assert event["reason"] == "unschedulable"
    assert event["involvedObject"]["name"] == "second"
    assert event["involvedObject"]["uid"]
    assert "set AWS_MANAGE_ENIS_NON_SCHEDULABLE=true" in event["message"]
