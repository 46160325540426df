"""The agent's own account may do at an API server what it must, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Final

import pytest

from kit.control_plane import ControlPlane
from kit.kube_client import KUBE_SYSTEM, KubeClient, Object
from kit.manifests import WITH_KUBERNETES, objects, read

NODE: Final = "/api/v1/nodes/node-1"
SHOP: Final = "/api/v1/namespaces/shop"
REVIEWS: Final = "/apis/authorization.k8s.io/v1/selfsubjectrulesreviews"
ROLES: Final = "/apis/rbac.authorization.k8s.io/v1/clusterroles"
BINDINGS: Final = "/apis/rbac.authorization.k8s.io/v1/clusterrolebindings"


@pytest.fixture(scope="module", autouse=True)
def _applied(plane: ControlPlane, admin: KubeClient) -> None:
    admin.apply_all(read(plane.built / "podmonitors.yaml"))
    admin.apply_all(objects(WITH_KUBERNETES))
    admin.create("/api/v1/namespaces", {"metadata": {"name": "shop"}})
    admin.create("/api/v1/nodes", {"metadata": {"name": "node-1"}})
    admin.create(f"{KUBE_SYSTEM}/serviceaccounts", {"metadata": {"name": "other"}})


@pytest.fixture
def agent(plane: ControlPlane, admin: KubeClient) -> Iterator[KubeClient]:
    with plane.client(admin.token("eniplug")) as agent:
        yield agent


@pytest.fixture
def other(plane: ControlPlane, admin: KubeClient) -> Iterator[KubeClient]:
    """An account of the same namespace that was given nothing."""
    with plane.client(admin.token("other")) as other:
        yield other


def event(name: str = "web-0.1") -> Object:
    about = {"kind": "Pod", "namespace": "shop", "name": "web-0"}
    return {"metadata": {"name": name, "namespace": "shop"}, "involvedObject": about}


def rights(client: KubeClient, namespace: str) -> set[tuple[str, str, str, str]]:
    """Verb, group, resource and name of all that the client's user may do."""
    answer = client.create(REVIEWS, {"spec": {"namespace": namespace}})
    assert not answer["status"]["incomplete"]
    return {
        (verb, group, resource, name)
        for rule in answer["status"]["resourceRules"]
        for verb in rule["verbs"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for name in rule.get("resourceNames", ["*"])
    }


@pytest.mark.parametrize("namespace", ["kube-system", "shop"])
def test_the_account_has_two_rights_that_no_other_has(
    agent: KubeClient, other: KubeClient, namespace: str
) -> None:
    assert rights(agent, namespace) - rights(other, namespace) == {
        ("get", "", "nodes", "*"),
        ("create", "", "events", "*"),
    }


def test_it_uses_both(agent: KubeClient, other: KubeClient) -> None:
    assert agent.ask("GET", NODE).taken
    assert agent.ask("POST", f"{SHOP}/events", event()).taken
    assert other.ask("GET", NODE).status == 403
    assert other.ask("POST", f"{SHOP}/events", event("web-0.2")).status == 403


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/api/v1/nodes"),
        ("GET", "/api/v1/nodes?watch=true"),
        ("PATCH", NODE),
        ("PATCH", f"{NODE}/status"),
        ("DELETE", NODE),
        ("GET", f"{NODE}/proxy/pods"),
        ("GET", "/api/v1/secrets"),
        ("GET", f"{KUBE_SYSTEM}/secrets"),
        ("GET", f"{KUBE_SYSTEM}/secrets/any"),
        ("GET", f"{KUBE_SYSTEM}/configmaps/eniplug"),
        ("PATCH", f"{KUBE_SYSTEM}/configmaps/eniplug"),
        ("GET", f"{SHOP}/pods"),
        ("POST", f"{SHOP}/pods"),
        ("GET", f"{SHOP}/events"),
        ("DELETE", f"{SHOP}/events/web-0.1"),
        ("POST", "/apis/events.k8s.io/v1/namespaces/shop/events"),
        ("POST", f"{KUBE_SYSTEM}/serviceaccounts/eniplug/token"),
        ("PATCH", "/apis/apps/v1/namespaces/kube-system/daemonsets/eniplug"),
        ("PATCH", f"{ROLES}/eniplug"),
        ("POST", BINDINGS),
        ("GET", "/apis/crd.k8s.amazonaws.com/v1alpha1/eniconfigs"),
    ],
)
def test_all_else_is_forbidden(agent: KubeClient, method: str, path: str) -> None:
    kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
    body: Any = {} if method in ("PATCH", "POST") else None

    answer = agent.ask(method, path, body, kind)

    assert answer.status == 403, answer
    assert 'User "system:serviceaccount:kube-system:eniplug" cannot' in answer.message


def test_without_kubernetes_the_account_has_no_right_at_all(
    admin: KubeClient, agent: KubeClient, other: KubeClient
) -> None:
    for path in (BINDINGS, ROLES):
        admin.ask("DELETE", f"{path}/eniplug")
    admin.apply_all(objects("default"))

    assert rights(agent, "kube-system") == rights(other, "kube-system")
    assert agent.ask("GET", NODE).status == 403
