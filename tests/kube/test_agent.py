"""What the agent asks of Kubernetes it gets from an API server, by its own account."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import pytest
from structlog.testing import capture_logs

from eniplug.core.kube import LOOK_EVERY, Kube, connector
from eniplug.core.kube_api import ApiRefusedError, NodeFacts
from eniplug.core.kube_lightkube import Lightkube
from eniplug.core.pod_events import AGAIN_AFTER
from eniplug.core.refusals import Refusal
from eniplug.core.settings import Settings
from eniplug.hooks.errors import EniLimitError
from eniplug.testing.clock import HandClock
from kit.control_plane import ControlPlane
from kit.kube_client import KUBE_SYSTEM, KubeClient
from kit.manifests import WITH_KUBERNETES, objects, read
from kit.waiting import until

NAME: Final = "ip-10-0-1-2.ec2.internal"
POD: Final = {
    "metadata": {"name": "agent"},
    "spec": {
        "serviceAccountName": "eniplug",
        "containers": [{"name": "agent", "image": "eniplug"}],
    },
}

AS_A_POD: Final = """
set -eu
mount -t tmpfs none /run
mkdir -p /run/secrets/kubernetes.io
ln -s "$1" /run/secrets/kubernetes.io/serviceaccount
exec "$2" -c '
from eniplug.core.kube_lightkube import Lightkube
api = Lightkube(None, node="any")
print(api.node("'$3'"))
'
"""


@pytest.fixture(scope="module", autouse=True)
def _applied(plane: ControlPlane, admin: KubeClient) -> None:
    admin.apply_all(read(plane.built / "podmonitors.yaml"))
    admin.apply_all(objects(WITH_KUBERNETES))
    admin.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    capacity = {"status": {"capacity": {"cpu": "2", "memory": "8G", "pods": "29"}}}
    admin.create("/api/v1/nodes", {"metadata": {"name": NAME}, **capacity})


@pytest.fixture
def token(admin: KubeClient, tmp_path: Path) -> Path:
    """The file that kubelet writes an account's token into."""
    path = tmp_path / "token"
    path.write_text(admin.token("eniplug"))
    return path


@pytest.fixture
def kubeconfig(admin: KubeClient, tmp_path: Path, token: Path) -> str:
    path = tmp_path / "kubeconfig"
    path.write_text(admin.kubeconfig(tokenFile=str(token)))
    return str(path)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def kube(kubeconfig: str, clock: HandClock) -> Iterator[Kube]:
    """What asks in the agent; its thread's steps are taken by hand."""
    settings = Settings.from_environ({"MY_NODE_NAME": NAME})
    connect = connector({"KUBECONFIG": kubeconfig}, settings)
    kube = Kube(connect, settings, lambda _: None, clock=clock)
    yield kube
    kube.close()


def refusal(
    pod: str = "web-0", namespace: str = "shop", uid: str = "8f1c", when: float = 0
) -> Refusal:
    args = {
        "K8S_POD_NAMESPACE": namespace,
        "K8S_POD_NAME": pod,
        "K8S_POD_UID": uid,
    }
    error = EniLimitError("all 3 ENIs are full")
    return Refusal.of(error, when=when or time.time(), container_id="c", args=args)


# -- the node --------------------------------------------------------------------------


def test_a_cordoned_node_is_seen_by_the_control_planes_taint(
    admin: KubeClient, kube: Kube, clock: HandClock
) -> None:
    kube.step()
    assert kube.facts == NodeFacts(schedulable=True, max_pods=29)
    assert kube.held() is None

    admin.cordon(NAME)
    clock.advance(LOOK_EVERY)
    kube.step()
    held = kube.held()
    assert held is not None
    assert NAME in held.message

    admin.cordon(NAME, on=False)
    clock.advance(LOOK_EVERY)
    kube.step()
    assert kube.held() is None


def test_a_node_that_is_not_there_is_told_and_asked_for_again(
    kubeconfig: str, clock: HandClock
) -> None:
    settings = Settings.from_environ({"MY_NODE_NAME": "gone"})
    connect = connector({"KUBECONFIG": kubeconfig}, settings)
    kube = Kube(connect, settings, lambda _: None, clock=clock)

    with capture_logs() as logs:
        pause = kube.step()
    kube.close()

    assert pause == LOOK_EVERY
    assert kube.facts == NodeFacts()
    [log] = logs
    assert 'nodes "gone" not found' in log["trouble"]


# -- events ----------------------------------------------------------------------------


def test_a_refused_pod_has_its_event_and_later_how_often(
    admin: KubeClient, kube: Kube, clock: HandClock
) -> None:
    kube.note(refusal(when=1_764_000_000.5))
    kube.step()
    for _ in range(3):
        kube.note(refusal(when=1_764_000_300.5))
    clock.advance(AGAIN_AFTER)
    kube.step()

    first, later = admin.events("shop", "web-0")
    assert first["involvedObject"] == {
        "kind": "Pod",
        "apiVersion": "v1",
        "namespace": "shop",
        "name": "web-0",
        "uid": "8f1c",
    }
    assert first["type"] == "Warning"
    assert first["source"] == {"component": "eniplug", "host": NAME}
    assert first["message"].startswith("all 3 ENIs are full; ")
    assert (first["firstTimestamp"], first["count"]) == ("2025-11-24T16:00:00Z", 1)
    assert (later["lastTimestamp"], later["count"]) == ("2025-11-24T16:05:00Z", 3)


@pytest.mark.parametrize(
    "pod", ["a" * 253, f"{'a' * 235}-{'b' * 17}", "a." * 126 + "a"]
)
def test_any_name_of_a_pod_makes_an_events_name(
    admin: KubeClient, kube: Kube, pod: str
) -> None:
    kube.note(refusal(pod))
    kube.step()

    assert len(admin.events("shop", pod)) == 1


def test_an_event_without_a_home_holds_up_no_other(
    admin: KubeClient, kube: Kube
) -> None:
    kube.note(refusal("lost", namespace="gone"))
    kube.note(refusal("found"))

    with capture_logs() as logs:
        kube.step()

    assert len(admin.events("shop", "found")) == 1
    troubles = [one["trouble"] for one in logs if "trouble" in one]
    assert ["gone" in one for one in troubles] == [True]


# -- who asks --------------------------------------------------------------------------


def test_a_token_that_is_renewed_is_read_again(
    admin: KubeClient, kubeconfig: str, token: Path
) -> None:
    """A token is good for an hour; kubelet writes another into the same file."""
    pod = admin.create(f"{KUBE_SYSTEM}/pods", POD)
    token.write_text(admin.token("eniplug", pod))
    api = Lightkube(kubeconfig, node=NAME)
    assert api.node(NAME).max_pods == 29

    admin.ask("DELETE", f"{KUBE_SYSTEM}/pods/agent?gracePeriodSeconds=0")
    until(lambda: refused(api))
    token.write_text(admin.token("eniplug"))

    assert api.node(NAME).max_pods == 29
    api.close()


def refused(api: Lightkube) -> bool:
    try:
        api.node(NAME)
    except ApiRefusedError as error:
        return "Unauthorized" in str(error)
    return False


@pytest.mark.root
def test_a_pod_asks_with_the_account_that_is_mounted(
    plane: ControlPlane, admin: KubeClient, token: Path
) -> None:
    (token.parent / "ca.crt").write_bytes(plane.authority.read_bytes())
    (token.parent / "namespace").write_text("kube-system")
    host, _, port = plane.url.removeprefix("https://").partition(":")
    there = {"KUBERNETES_SERVICE_HOST": host, "KUBERNETES_SERVICE_PORT": port}
    words = (str(token.parent), sys.executable, NAME)

    done = subprocess.run(
        ("unshare", "--mount", "sh", "-c", AS_A_POD, "pod", *words),
        env={**os.environ, **there},
        capture_output=True,
        text=True,
        timeout=30,
    )

    assert done.stdout == f"{NodeFacts(schedulable=True, max_pods=29)}\n", done.stderr


def test_an_account_without_rights_is_told_which_it_lacks(
    admin: KubeClient, kube: Kube, token: Path
) -> None:
    other: dict[str, Any] = {"metadata": {"name": "other"}}
    admin.create(f"{KUBE_SYSTEM}/serviceaccounts", other)
    token.write_text(admin.token("other"))
    kube.note(refusal("unheard"))

    with capture_logs() as logs:
        kube.step()

    node, event = (one["trouble"] for one in logs)
    assert 'cannot get resource "nodes"' in node
    assert 'cannot create resource "events"' in event
    assert admin.events("shop", "unheard") == []
