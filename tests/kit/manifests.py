"""What deploy/manifests holds, as a Kubernetes API server is given it."""

from __future__ import annotations

from pathlib import Path
from typing import Any, Final

import yaml

FOLDER: Final = Path(__file__).parents[2] / "deploy/manifests"
NAMES: Final = sorted(path.stem for path in FOLDER.glob("*.yaml"))
WITH_KUBERNETES: Final = "prefix-delegation"
"""The one whose agents ask the API server, and that has a PodMonitor."""


def objects(name: str) -> list[dict[str, Any]]:
    """Read a manifest's objects, in their order."""
    return read(FOLDER / f"{name}.yaml")


def read(path: Path) -> list[dict[str, Any]]:
    """Read the objects of a file."""
    return [one for one in yaml.safe_load_all(path.read_text()) if one]
