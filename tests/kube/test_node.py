"""A whole agent beside an API server, on a lab's node: cordoned, a pod's event."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

import pytest
from attrs import frozen

from kit.control_plane import a_control_plane
from kit.kube_client import KubeClient
from kit.labs import LabHand, a_lab
from kit.manifests import WITH_KUBERNETES, objects, read
from kit.names import MINE
from kit.netns import inside
from kit.waiting import until

pytestmark = [pytest.mark.root, pytest.mark.lab]

NAME: Final = "ip-10-0-1-2.ec2.internal"


@frozen
class Place:
    """A node whose two ENIs have an address each, and the administrator on it."""

    lab: LabHand
    admin: KubeClient


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    folder = tmp_path_factory.mktemp("plane")
    config = folder / "agent"
    environment = {
        "KUBECONFIG": str(config),
        "MY_NODE_NAME": NAME,
        "WARM_ENI_TARGET": "0",
        "ENIPLUG_ADD_WAIT": "0.5",
    }
    with (
        a_lab(
            f"{MINE}-kube",
            nodes=1,
            instance_type="t3.nano",
            environment=environment,
        ) as lab,
        inside(lab.names.node(1)),
        a_control_plane(folder) as plane,
        plane.client() as admin,
    ):
        admin.apply_all(read(plane.built / "podmonitors.yaml"))
        admin.apply_all(objects(WITH_KUBERNETES))
        admin.create("/api/v1/nodes", {"metadata": {"name": NAME}})
        config.write_text(admin.kubeconfig(token=admin.token("eniplug")))
        yield Place(lab, admin)


def test_a_cordoned_node_refuses_a_pod_with_an_event(place: Place) -> None:
    place.admin.cordon(NAME)
    for do in ("stop", "start"):
        place.lab.run("agent", do, "1")
    until(lambda: "the node has changed" in place.lab.log())
    place.lab.add("first")

    refused = place.lab.run("pod", "add", "second", check=False)

    assert b"unschedulable" in refused.stdout + refused.stderr
    [event] = until(lambda: place.admin.events("default", "second"))
    assert event["reason"] == "unschedulable"
    assert event["involvedObject"]["name"] == "second"
    assert event["source"] == {"component": "eniplug", "host": NAME}
