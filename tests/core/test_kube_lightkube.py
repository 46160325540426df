from __future__ import annotations

from collections.abc import Generator
from pathlib import Path

import pytest
from attrs import evolve

from eniplug.core.kube_api import ApiAwayError, ApiRefusedError, NodeFacts
from eniplug.core.kube_lightkube import LONGEST_MESSAGE, Lightkube
from eniplug.core.pod_events import PodEvent
from kit.api_servers import NAME, TAINT, ApiServer, api_server, kubeconfig

EVENT = PodEvent(
    namespace="shop",
    pod="web-0",
    uid="8f1c",
    reason="eni-limit",
    message="all 3 ENIs are full",
    first=1_764_000_000.25,
    last=1_764_000_060.0,
    count=7,
)


@pytest.fixture
def server() -> Generator[ApiServer]:
    with api_server() as server:
        yield server


@pytest.fixture
def api(server: ApiServer, tmp_path: Path) -> Generator[Lightkube]:
    api = Lightkube(server.kubeconfig(tmp_path), node=NAME)
    yield api
    api.close()


def test_a_node_tells_its_capacity_and_that_pods_may_come(api: Lightkube) -> None:
    assert api.node(NAME) == NodeFacts(schedulable=True, max_pods=29)


def test_a_cordoned_node_has_the_taint(server: ApiServer, api: Lightkube) -> None:
    server.taints = [TAINT]

    assert api.node(NAME) == NodeFacts(schedulable=False, max_pods=29)


def test_the_taint_counts_with_its_effect_alone(
    server: ApiServer, api: Lightkube
) -> None:
    server.taints = [TAINT | {"effect": "PreferNoSchedule"}]

    assert api.node(NAME).schedulable


@pytest.mark.parametrize("pods", [None, "0", "110k"])
def test_a_capacity_that_is_not_told_yet_is_none(
    server: ApiServer, api: Lightkube, pods: str | None
) -> None:
    server.pods = pods

    assert api.node(NAME).max_pods is None


def test_an_event_is_on_its_pod_with_reason_message_and_count(
    server: ApiServer, api: Lightkube
) -> None:
    api.post(EVENT)

    [event] = server.events
    name = event["metadata"].pop("name")
    assert name.startswith("web-0.")
    assert event == {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"namespace": "shop"},
        "involvedObject": {
            "apiVersion": "v1",
            "kind": "Pod",
            "namespace": "shop",
            "name": "web-0",
            "uid": "8f1c",
        },
        "type": "Warning",
        "reason": "eni-limit",
        "message": "all 3 ENIs are full",
        "source": {"component": "eniplug", "host": NAME},
        "firstTimestamp": "2025-11-24T16:00:00Z",
        "lastTimestamp": "2025-11-24T16:01:00Z",
        "count": 7,
    }


def test_events_of_one_pod_have_names_of_their_own(
    server: ApiServer, api: Lightkube
) -> None:
    api.post(EVENT)
    api.post(EVENT)

    assert len(server.events) == 2


@pytest.mark.parametrize(
    "pod", ["a" * 253, f"{'a' * 235}-{'b' * 17}", "a." * 126 + "a"]
)
def test_the_longest_name_of_a_pod_makes_an_events_name(
    server: ApiServer, api: Lightkube, pod: str
) -> None:
    api.post(evolve(EVENT, pod=pod, message="x" * 5000))

    [event] = server.events
    assert event["involvedObject"]["name"] == pod
    assert len(event["message"]) == LONGEST_MESSAGE


@pytest.mark.parametrize("code", [401, 403, 404, 422])
def test_a_no_is_told_with_the_servers_words(
    server: ApiServer, api: Lightkube, code: int
) -> None:
    server.refuses = {"GET": code}

    with pytest.raises(ApiRefusedError, match="GET is refused"):
        api.node(NAME)


@pytest.mark.parametrize("code", [429, 500, 503])
def test_a_server_in_trouble_counts_as_away(
    server: ApiServer, api: Lightkube, code: int
) -> None:
    server.refuses = {"POST": code}

    with pytest.raises(ApiAwayError, match="POST is refused"):
        api.post(EVENT)


def test_a_server_that_hangs_up_counts_as_away(
    server: ApiServer, api: Lightkube
) -> None:
    server.away = True

    with pytest.raises(ApiAwayError):
        api.node(NAME)


def test_a_server_that_is_not_there_counts_as_away(tmp_path: Path) -> None:
    with api_server() as server:
        gone = server.url
    api = Lightkube(kubeconfig(tmp_path, gone), node=NAME)

    with pytest.raises(ApiAwayError):
        api.node(NAME)
    api.close()


@pytest.mark.parametrize("text", ["", "{", "clusters: []", "- 1"])
def test_a_kubeconfig_that_cannot_be_used_is_told(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config"
    path.write_text(text)

    with pytest.raises(ApiAwayError):
        Lightkube(str(path), node=NAME)
