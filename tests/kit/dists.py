"""Packages with plugins, installed in a folder of a test's own."""

from __future__ import annotations

import subprocess
import sysconfig
import tomllib
import venv
from collections.abc import Mapping
from pathlib import Path
from shutil import copy

from attrs import frozen


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


def install_project(project: Path, folder: Path) -> None:
    """Install a project into ``folder``, as pip would from its pyproject.toml.

    pip itself would fetch the build system from the network.
    """
    told = tomllib.loads((project / "pyproject.toml").read_text())
    head, name = told["project"], told["project"]["name"]
    for module in told["tool"]["setuptools"]["py-modules"]:
        copy(project / f"{module}.py", folder)
    info = folder / f"{name.replace('-', '_')}-{head['version']}.dist-info"
    info.mkdir()
    version = head["version"]
    words = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n"
    (info / "METADATA").write_text(words)
    (info / "entry_points.txt").write_text(
        "".join(
            f"[{group}]\n" + "".join(f"{a} = {b}\n" for a, b in points.items())
            for group, points in head["entry-points"].items()
        )
    )


@frozen
class Home:
    """A virtual environment in which eniplug is, and what is installed beside it."""

    path: Path

    @property
    def python(self) -> str:
        """Its interpreter."""
        return str(self.path / "bin/python")

    @property
    def site(self) -> Path:
        """Where its packages are."""
        [found] = self.path.glob("lib/python*/site-packages")
        return found

    def run(self, *words: str, where: Path | None = None) -> str:
        """Run a Python command in it; returns what it printed."""
        done = subprocess.run(
            [self.python, *words],
            cwd=where,
            capture_output=True,
            text=True,
            timeout=120,
        )
        assert done.returncode == 0, (words, done.stdout, done.stderr)
        return done.stdout


def a_home(path: Path) -> Home:
    """Make a virtual environment that has all that this interpreter has."""
    venv.create(path)
    home = Home(path)
    here = sysconfig.get_path("purelib")
    (home.site / "all.pth").write_text(f"import site; site.addsitedir({here!r})\n")
    return home
