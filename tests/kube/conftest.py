"""A control plane for each file of tests: they change what is cluster-wide."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from kit.control_plane import ControlPlane, a_control_plane
from kit.kube_client import KubeClient


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Iterator[ControlPlane]:
    with a_control_plane(tmp_path_factory.mktemp("plane")) as plane:
        yield plane


@pytest.fixture(scope="module")
def admin(plane: ControlPlane) -> Iterator[KubeClient]:
    with plane.client() as admin:
        yield admin
