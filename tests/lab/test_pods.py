from __future__ import annotations

import threading
from collections.abc import Iterator
from typing import Any

import pytest

from eniplug.lab import netns
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.node import Node
from eniplug.lab.pods import AT_ONCE, ChainError, Pod, Pods
from eniplug.lab.sweep import claim, clear, release, sweep
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-pods")


class Chain:
    """Gives out addresses, refuses pods that are named so, remembers what it saw."""

    def __init__(self) -> None:
        self.added: list[Pod] = []
        self.deleted: list[str] = []
        self.links: list[list[str]] = []
        self.broken = False
        self.meeting: threading.Barrier | None = None

    def add(self, pod: Pod) -> dict[str, Any]:
        if self.meeting:
            self.meeting.wait(5)
        self.added.append(pod)
        if pod.name == "refused":
            raise ChainError({"code": 11, "msg": "no address", "details": "wait"})
        return {"ips": [{"address": f"10.0.0.{len(self.added)}/32"}]}

    def delete(self, pod: Pod) -> None:
        if self.broken:
            raise ChainError({"code": 999, "msg": "broken"})
        self.deleted.append(pod.name)


@pytest.fixture
def chain() -> Chain:
    return Chain()


@pytest.fixture
def pods(chain: Chain) -> Iterator[Pods]:
    clear(NAMES)
    held = claim(NAMES)
    netns.create(NAMES.node(1))
    node = Node(1, NAMES.node(1), NAMES.run / "node1")
    try:
        yield Pods(NAMES, {1: node}.__getitem__, chain)
    finally:
        node.close()
        sweep(NAMES)
        release(NAMES, held)


def test_a_pod_has_a_namespace_and_a_result(pods: Pods) -> None:
    (answer,) = pods.add(["web"])

    assert answer["result"] == {"ips": [{"address": "10.0.0.1/32"}]}
    assert f"{MINE}-pods-pod-web" in netns.names()
    assert pods.get("web").addresses == ["10.0.0.1"]
    assert [pod["name"] for pod in pods.listed()] == ["web"]


def test_the_chain_is_told_what_a_kubelet_tells(pods: Pods, chain: Chain) -> None:
    ports = [{"HostPort": 8080, "ContainerPort": 80}]
    pods.add(["web"], bandwidth=(1000, 0), ports=ports)

    (pod,) = chain.added
    assert len(bytes.fromhex(pod.id)) == 32
    assert pod.args["K8S_POD_NAMESPACE"] == "default"
    assert pod.args["K8S_POD_NAME"] == "web"
    assert pod.args["K8S_POD_INFRA_CONTAINER_ID"] == pod.id
    assert pod.runtime["portMappings"] == ports
    assert pod.runtime["bandwidth"] == {
        "IngressRate": 1000,
        "IngressBurst": 2**32 - 1,
        "EgressRate": 0,
        "EgressBurst": 0,
    }


def test_a_refused_pod_leaves_nothing_and_the_others_stay(pods: Pods) -> None:
    answers = pods.add(["one", "refused", "two"])

    assert ["error" in answer for answer in answers] == [False, True, False]
    assert answers[1]["error"]["msg"] == "no address"
    assert f"{MINE}-pods-pod-refused" not in netns.names()
    assert sorted(pod["name"] for pod in pods.listed()) == ["one", "two"]


def test_a_name_is_given_once(pods: Pods, chain: Chain) -> None:
    pods.add(["web"])

    (second,) = pods.add(["web"])

    assert "there is a pod of that name" in second["error"]["msg"]
    assert len(chain.added) == 1
    assert f"{MINE}-pods-pod-web" in netns.names()


def test_pods_are_added_side_by_side(pods: Pods, chain: Chain) -> None:
    chain.meeting = threading.Barrier(AT_ONCE)

    answers = pods.add([f"p{i}" for i in range(AT_ONCE)])

    assert all("result" in answer for answer in answers)


def test_a_removed_pod_leaves_nothing(pods: Pods, chain: Chain) -> None:
    pods.add(["web"])

    answers = pods.remove(["web", "web"])

    assert answers == [{"name": "web"}]
    assert chain.deleted == ["web"]
    assert f"{MINE}-pods-pod-web" not in netns.names()
    with pytest.raises(LabError, match="there is no pod 'web'"):
        pods.get("web")


def test_a_pod_whose_del_fails_stays_to_be_tried_again(
    pods: Pods, chain: Chain
) -> None:
    pods.add(["web"])
    chain.broken = True

    (failed,) = pods.remove(["web"])
    chain.broken = False

    assert failed["error"]["msg"] == "broken"
    assert pods.get("web").addresses
    assert pods.remove(["web"]) == [{"name": "web"}]


def test_an_unknown_pod_is_refused_and_no_other_removed(
    pods: Pods, chain: Chain
) -> None:
    pods.add(["web"])

    with pytest.raises(LabError, match="there is no pod 'wbe'"):
        pods.remove(["web", "wbe"])

    assert chain.deleted == []
