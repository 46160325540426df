"""`eniplug plugins new`: what it makes is listed, keeps the laws and works.

That it can be built, on each Python, is seen by `tox run -e py313-examples`.
"""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from eniplug.core.cli import group
from eniplug.core.new_plugin import write_package
from eniplug.hooks.errors import ConfigError
from kit.dists import Home, a_home, install_project


@pytest.fixture(scope="module")
def project(tmp_path_factory: pytest.TempPathFactory) -> Path:
    where = tmp_path_factory.mktemp("work")
    done = CliRunner().invoke(group, ["plugins", "new", "short-ttl", f"--dir={where}"])
    assert done.exit_code == 0, done.output
    assert f"pip install -e {where / 'eniplug-short-ttl'}" in done.output
    return where / "eniplug-short-ttl"


@pytest.fixture(scope="module")
def home(project: Path, tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = a_home(tmp_path_factory.mktemp("home"))
    install_project(project, home.site)
    return home


def test_the_package_is_whole_and_small(project: Path) -> None:
    lines = (project / "eniplug_short_ttl.py").read_text().splitlines()

    assert {path.name for path in project.iterdir()} == {
        "README.md",
        "eniplug_short_ttl.py",
        "pyproject.toml",
        "short-ttl.conflist",
        "test_eniplug_short_ttl.py",
        "tox.ini",
    }
    assert len(lines) <= 32
    assert not [path for path in project.iterdir() if "$" in path.read_text()]


def test_it_is_listed_once_it_is_installed(home: Home) -> None:
    listed = json.loads(home.run("-m", "eniplug.core.cli", "plugins", "--json"))

    [row] = [row for row in listed if row["name"] == "short-ttl"]
    assert row["package"] == "eniplug-short-ttl"
    assert row["hooks"] == ["setup_netns"]


@pytest.mark.root
@pytest.mark.lab
def test_it_keeps_the_kernels_laws_and_works_in_the_lab(
    home: Home, project: Path
) -> None:
    said = home.run("-m", "pytest", "-q", "-m", "root or lab", where=project)

    assert "3 passed" in said


@pytest.mark.parametrize("name", ["Sticky", "a--b", "-a", "a_b", "1st", "../a", ""])
def test_a_name_that_cannot_be_is_refused(name: str, tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="is no name for a plugin") as caught:
        write_package(name, tmp_path)

    assert "lower-case" in caught.value.details
    assert list(tmp_path.iterdir()) == []


def test_the_name_of_an_installed_plugin_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="eniplug has a plugin 'snat' already"):
        write_package("snat", tmp_path)

    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_is_there_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "eniplug-mine").mkdir()

    with pytest.raises(ConfigError, match="is there already"):
        write_package("mine", tmp_path)

    assert list((tmp_path / "eniplug-mine").iterdir()) == []


def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")

    with pytest.raises(ConfigError, match="cannot be made: Not a directory"):
        write_package("mine", tmp_path / "file")
