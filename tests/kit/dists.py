"""Packages with plugins, installed in a folder of a test's own."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def install_plugins(
    folder: Path, package: str, points: Mapping[str, str], code: str
) -> None:
    """Lay out an installed distribution with plugins in ``folder``, as pip would."""
    module = package.replace("-", "_")
    (folder / f"{module}.py").write_text(code)
    info = folder / f"{module}-1.0.dist-info"
    info.mkdir()
    head = f"Metadata-Version: 2.1\nName: {package}\nVersion: 1\n"
    (info / "METADATA").write_text(head)
    lines = "".join(f"{name} = {module}:{what}\n" for name, what in points.items())
    (info / "entry_points.txt").write_text(f"[eniplug.plugins]\n{lines}")
