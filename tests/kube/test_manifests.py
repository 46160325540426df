"""An API server takes the manifests as they are, and makes of them what it should.

Its dry runs validate, admit and default as always, and only do not store.
"""

from __future__ import annotations

import copy
from typing import Any, Final

import pytest

from kit.control_plane import ControlPlane
from kit.kube_client import KubeClient, Object
from kit.manifests import NAMES, WITH_KUBERNETES, objects, read
from kit.waiting import until

PODS: Final = "/api/v1/namespaces/kube-system/pods"
DAEMONSET: Final = "/apis/apps/v1/namespaces/kube-system/daemonsets/eniplug"
ENICONFIGS: Final = "/apis/crd.k8s.amazonaws.com/v1alpha1/eniconfigs"

LINUX: Final = {"kubernetes.io/os": "linux", "kubernetes.io/arch": "amd64"}
NODES: Final[dict[str, dict[str, str]]] = {
    "plain": LINUX,
    "arm": LINUX | {"kubernetes.io/arch": "arm64"},
    "chosen": LINUX | {"eniplug": "true"},
    "fargate": LINUX | {"eks.amazonaws.com/compute-type": "fargate"},
    "windows": LINUX | {"kubernetes.io/os": "windows"},
}
SYSTEM_NODE_CRITICAL: Final = 2_000_001_000


@pytest.fixture(scope="module")
def operator(plane: ControlPlane, admin: KubeClient) -> None:
    """The Prometheus Operator's CRD, without which there are no PodMonitors."""
    admin.apply_all(read(plane.built / "podmonitors.yaml"))


@pytest.fixture(scope="module")
def nodes(admin: KubeClient) -> None:
    for name, labels in NODES.items():
        admin.create("/api/v1/nodes", {"metadata": {"name": name, "labels": labels}})


@pytest.fixture
def eniconfigs(admin: KubeClient) -> None:
    [crd] = [one for one in objects("default") if one["kind"].startswith("Custom")]
    admin.apply_all([crd])


def found(name: str, kind: str) -> Object:
    [one] = [one for one in objects(name) if one["kind"] == kind]
    return one


# -- what is written -------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("operator")
def test_a_manifest_is_taken_without_a_warning(admin: KubeClient, name: str) -> None:
    answers = [admin.apply(one, dry_run=True) for one in objects(name)]

    assert [one.message for one in answers if not one.taken] == []
    assert [one.warnings for one in answers if one.warnings] == []


def test_a_dry_run_stores_nothing(admin: KubeClient) -> None:
    answers = [admin.apply(one, dry_run=True) for one in objects("default")]

    assert all(one.taken for one in answers)
    assert admin.ask("GET", DAEMONSET).status == 404


POD: Final = ("spec", "template", "spec")
AGENT: Final = (*POD, "containers", 0)


@pytest.mark.parametrize(
    ("kind", "path", "value", "why"),
    [
        ("DaemonSet", (*POD, "hostNetwrk"), True, "field not declared in schema"),
        ("DaemonSet", (*POD, "hostNetwork"), "yes", "expected"),
        ("DaemonSet", (*AGENT, "ports", 0, "containerPort"), 0, "Required value"),
        ("DaemonSet", (*AGENT, "livenessProbe", "periodSeconds"), -1, "greater than"),
        ("DaemonSet", (*AGENT, "volumeMounts", 0, "name"), "ran", "Not found"),
        ("DaemonSet", (*POD, "seccompProfile"), {}, "field not declared in schema"),
        (
            "DaemonSet",
            ("spec", "template", "metadata", "labels"),
            {"app": "other"},
            "`selector` does not match template `labels`",
        ),
        ("ConfigMap", ("data",), {"WARM ENI": "1"}, "a valid config key"),
        ("CustomResourceDefinition", ("spec", "scope"), "Node", "Unsupported value"),
        ("ServiceAccount", ("metadata", "name"), "Eni_plug", "RFC 1123"),
    ],
)
def test_a_broken_object_is_refused(
    admin: KubeClient, kind: str, path: tuple[str | int, ...], value: Any, why: str
) -> None:
    whole = found("default", kind)
    one = copy.deepcopy(whole)
    *way, last = path
    inner: Any = one
    for step in way:
        inner = inner[step]
    inner[last] = value

    assert admin.apply(whole, dry_run=True).taken
    answer = admin.apply(one, dry_run=True)
    assert answer.status in (400, 422, 500), answer
    assert why in answer.message


def test_what_is_deprecated_has_a_warning(admin: KubeClient) -> None:
    """Without this, a server that never warns would pass for manifests in order."""
    one = found("default", "DaemonSet")
    one["spec"]["template"]["metadata"]["annotations"] |= {
        "container.apparmor.security.beta.kubernetes.io/agent": "unconfined"
    }

    answer = admin.apply(one, dry_run=True)

    assert any("deprecated" in one for one in answer.warnings)


# -- what comes of it ------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "places"),
    [
        ("default", {"plain", "arm", "chosen"}),
        (WITH_KUBERNETES, {"plain", "arm", "chosen"}),
        ("ipv6", {"plain", "arm", "chosen"}),
        ("aws", {"chosen"}),
    ],
)
@pytest.mark.usefixtures("operator", "nodes")
def test_each_node_that_it_is_for_gets_a_pod(
    admin: KubeClient, name: str, places: set[str]
) -> None:
    """One manifest takes the place of another: the selector must never change."""
    admin.apply_all(objects(name))

    until(lambda: placed(admin) == places)
    [pod] = [one for one in pods(admin) if place(one) == "chosen"]
    wanted = found(name, "DaemonSet")["spec"]["template"]["spec"]
    assert pod["spec"]["priority"] == SYSTEM_NODE_CRITICAL
    assert pod["spec"]["hostNetwork"] is True
    assert [one["name"] for one in pod["spec"]["initContainers"]] == ["install"]
    mounts = [one["mountPath"] for one in pod["spec"]["containers"][0]["volumeMounts"]]
    token = "/var/run/secrets/kubernetes.io/serviceaccount"
    assert (token in mounts) is (name == WITH_KUBERNETES)
    assert pod["spec"].get("imagePullSecrets") == wanted.get("imagePullSecrets")


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("operator")
def test_what_is_applied_again_changes_nothing(admin: KubeClient, name: str) -> None:
    admin.apply_all(objects(name))
    paths = [admin.path(one) for one in objects(name)]
    before = [generation(admin, path) for path in paths]

    admin.apply_all(objects(name))

    assert [generation(admin, path) for path in paths] == before


def generation(admin: KubeClient, path: str) -> tuple[str, int | None]:
    """What changes with an object, but for its status; for some both change with it."""
    metadata = admin.get(path)["metadata"]
    known = metadata.get("generation")
    return ("" if known else metadata["resourceVersion"]), known


def pods(admin: KubeClient) -> list[Object]:
    """The DaemonSet's pods that were made of what it says now."""
    now = admin.get(DAEMONSET)["metadata"]["generation"]
    everyone = admin.get(PODS)["items"]
    return [
        one
        for one in everyone
        if one["metadata"]["labels"].get("pod-template-generation") == str(now)
        and "deletionTimestamp" not in one["metadata"]
    ]


def placed(admin: KubeClient) -> set[str]:
    return {place(one) for one in pods(admin)}


def place(pod: Object) -> str:
    """The node that a DaemonSet's pod was made for; a scheduler would bind it there."""
    affinity = pod["spec"]["affinity"]["nodeAffinity"]
    [term] = affinity["requiredDuringSchedulingIgnoredDuringExecution"][
        "nodeSelectorTerms"
    ]
    [field] = term["matchFields"]
    return str(field["values"][0])


# -- ENIConfigs ------------------------------------------------------------------------

EXAMPLES: Final[list[Object]] = [
    # EKS user guide, "Customize the secondary network interface in Amazon EKS nodes".
    {
        "metadata": {"name": "us-west-2a"},
        "spec": {
            "securityGroups": ["sg-0dff111a1d11c1c11"],
            "subnet": "subnet-011b111c1f11fdf11",
        },
    },
    # The chart of the AWS VPC CNI, without eniConfig.subnets.<zone>.securityGroups.
    {"metadata": {"name": "us-west-2b"}, "spec": {"subnet": "subnet-0a1"}},
    # With a label, as `eniConfigLabelDef` picks it, and what later versions may add.
    {
        "metadata": {"name": "batch", "labels": {"team": "network"}},
        "spec": {"subnet": "subnet-0a1", "securityGroups": [], "later": {"a": 1}},
    },
]


def eniconfig(example: Object) -> Object:
    kind = {"apiVersion": "crd.k8s.amazonaws.com/v1alpha1", "kind": "ENIConfig"}
    return kind | copy.deepcopy(example)


@pytest.mark.parametrize("example", EXAMPLES)
@pytest.mark.usefixtures("eniconfigs")
def test_an_eniconfig_as_aws_documents_it_is_taken(
    admin: KubeClient, example: Object
) -> None:
    answer = admin.apply(eniconfig(example))

    assert answer.taken, answer
    assert answer.warnings == ()
    assert answer.body["spec"] == example["spec"]


@pytest.mark.parametrize(
    ("spec", "why"),
    [
        ({"securityGroups": ["sg-1"]}, "spec.subnet: Required value"),
        ({"subnet": 1}, "must be of type string"),
        ({"subnet": "subnet-1", "securityGroups": "sg-1"}, "must be of type array"),
    ],
)
@pytest.mark.usefixtures("eniconfigs")
def test_an_eniconfig_that_aws_would_not_take_is_refused(
    admin: KubeClient, spec: Object, why: str
) -> None:
    odd = eniconfig({"metadata": {"name": "odd"}, "spec": spec})

    answer = admin.ask("POST", ENICONFIGS, odd)

    assert answer.status == 422
    assert why in answer.message


def test_a_clusters_eniconfigs_outlive_the_change_from_awss_crd(
    plane: ControlPlane, admin: KubeClient
) -> None:
    [theirs] = read(plane.built / "eniconfigs.yaml")
    admin.ask("DELETE", admin.path(theirs))
    until(lambda: not admin.ask("GET", ENICONFIGS).taken)
    admin.apply_all([theirs])
    for example in EXAMPLES[:2]:
        admin.create(ENICONFIGS, eniconfig(example))

    admin.apply_all([found("default", "CustomResourceDefinition")])

    # For a moment "storage is (re)initializing".
    until(lambda: admin.ask("GET", ENICONFIGS).taken)
    kept = {
        one["metadata"]["name"]: one["spec"] for one in admin.get(ENICONFIGS)["items"]
    }
    assert kept == {one["metadata"]["name"]: one["spec"] for one in EXAMPLES[:2]}
