"""What docs/deploy.md says to do with helm does what it says at an API server."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

import pytest

from kit.control_plane import ControlPlane
from kit.kube_client import KUBE_SYSTEM, KubeClient, Object
from kit.manifests import NAMES, objects, read

ROOT: Final = Path(__file__).parents[2]
CHART: Final = "deploy/helm/eniplug"
INSTALL: Final = ("upgrade", "--install", "eniplug", CHART, "-n", "kube-system")
DAEMONSET: Final = "/apis/apps/v1/namespaces/kube-system/daemonsets/eniplug"
MONITOR: Final = (
    "/apis/monitoring.coreos.com/v1/namespaces/kube-system/podmonitors/eniplug"
)

Helm = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="module", autouse=True)
def _operator(plane: ControlPlane, admin: KubeClient) -> None:
    admin.apply_all(read(plane.built / "podmonitors.yaml"))


@pytest.fixture(scope="module")
def run(plane: ControlPlane, tmp_path_factory: pytest.TempPathFactory) -> Helm:
    """Run helm in the checkout; what it caches is thrown away."""
    home = tmp_path_factory.mktemp("helm")
    kinds = ("CACHE", "CONFIG", "DATA")
    homes = {f"HELM_{kind}_HOME": str(home / kind) for kind in kinds}

    def run(*words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            (str(plane.built / "helm"), *words),
            cwd=ROOT,
            env={**os.environ, **homes, "KUBECONFIG": str(plane.kubeconfig)},
            capture_output=True,
            text=True,
            timeout=60,
        )

    return run


@pytest.fixture
def helm(run: Helm) -> Iterator[Helm]:
    """The same, and the release is gone at the end."""
    yield run
    run("uninstall", "eniplug", "-n", "kube-system")


def documented() -> list[list[str]]:
    """The arguments of helm in the document, in its order."""
    text = (ROOT / "docs/deploy.md").read_text().replace("\\\n", " ")
    return [shlex.split(one) for one in re.findall(r"^helm (.+)$", text, re.M)]


def image(admin: KubeClient) -> str:
    spec = admin.get(DAEMONSET)["spec"]["template"]["spec"]
    return str(spec["containers"][0]["image"])


def test_a_cluster_gets_eniplug_changes_and_loses_it_as_documented(
    run: Helm, admin: KubeClient
) -> None:
    install, monitor, upgrade, rollback, uninstall = documented()

    assert run(*install).returncode == 0
    settings = admin.get(f"{KUBE_SYSTEM}/configmaps/eniplug")["data"]
    account = admin.get(f"{KUBE_SYSTEM}/serviceaccounts/eniplug")["metadata"]
    assert image(admin) == "REGISTRY/eniplug:0.1.0"
    assert settings == {"CLUSTER_NAME": "blue"}
    assert account["annotations"]["eks.amazonaws.com/role-arn"].startswith("arn:aws:")
    assert not admin.ask("GET", MONITOR).taken

    assert run(*monitor).returncode == 0
    assert admin.ask("GET", MONITOR).taken
    assert admin.get(f"{KUBE_SYSTEM}/configmaps/eniplug")["data"] == settings

    assert run(*upgrade).returncode == 0
    assert image(admin) == "REGISTRY/eniplug:0.2.0"

    assert run(*rollback).returncode == 0
    assert image(admin) == "REGISTRY/eniplug:0.1.0"
    assert admin.ask("GET", MONITOR).taken

    assert run(*uninstall).returncode == 0
    assert left(admin, objects("prefix-delegation")) == ["CustomResourceDefinition"]


def left(admin: KubeClient, made: list[Object]) -> list[str]:
    return [one["kind"] for one in made if admin.ask("GET", admin.path(one)).taken]


@pytest.mark.parametrize("name", NAMES)
def test_what_helm_installs_is_what_the_manifest_has(
    helm: Helm, admin: KubeClient, name: str
) -> None:
    done = helm(*INSTALL, "-f", f"{CHART}/ci/{name}.yaml")

    assert done.returncode == 0, done.stderr
    assert "warning" not in done.stderr.lower()
    for one in objects(name):
        answer = admin.apply(one, dry_run=True)
        there = admin.get(admin.path(one))
        assert answer.body.get("spec") == there.get("spec")
        assert answer.body.get("data") == there.get("data")


@pytest.mark.parametrize(
    ("value", "why"),
    [
        ("metrics.port=0", "must be between 1 and 65535"),
        ("resources.limits.memory=much", "quantities must match"),
        ("podMonitor.enabled=true", "Prometheus does not reach 127.0.0.1"),
    ],
)
def test_a_value_that_makes_no_sense_leaves_nothing_running(
    helm: Helm, admin: KubeClient, value: str, why: str
) -> None:
    done = helm(*INSTALL, "--set", value)

    assert done.returncode != 0
    assert why in done.stderr
    assert not admin.ask("GET", DAEMONSET).taken
