"""What is written down about the packages is so, and imports keep their direction."""

from __future__ import annotations

import ast
import configparser
import importlib.metadata
import importlib.resources
import re
import sys
import tomllib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

import click
import pytest

ROOT = Path(__file__).parents[1]

MAY_IMPORT = {
    "hooks": {"hooks"},
    "plugins": {"hooks", "plugins"},
    "cni": {"cni"},
    "core": {"core", "hooks", "cni"},
    "lab": {"lab", "hooks", "cni"},
    "simulate": {"simulate", "core", "hooks", "plugins", "testing"},
    "testing": {"testing", "hooks", "cni", "core", "lab"},
}

NOT_PACKAGED = {"bench"}
"""Folders with modules that are run in the checkout, and are no part of eniplug."""

EXECUTABLE = ("cni/executable.py", "cni/starter.py")
"""What is made one file for the node; old Pythons read it."""

ONE_HOME = {
    "httpx2": ("core/kube_lightkube.py",),
    "lightkube": ("core/kube_lightkube.py",),
    "boto3": ("core/ec2_boto.py",),
    # moto's own dependency: the lab answers by the model that clients ask by.
    "botocore": ("core/ec2_boto.py", "lab/"),
    "pyroute2": ("core/kernel/", "lab/"),
    "moto": ("lab/",),
    "matplotlib": ("simulate/plot.py",),
}

COMES_WITH = {
    "botocore": "boto3",
    "httpx2": "lightkube",
    "mypy_boto3_ec2": "boto3-stubs-lite",
}


def sources(*tops: str) -> list[Path]:
    """The modules in these folders, relative to the checkout."""
    found = (path for top in tops for path in (ROOT / top).rglob("*.py"))
    return sorted(path.relative_to(ROOT) for path in found)


@cache
def imports(path: Path) -> set[str]:
    """Everything that a module imports, by full name, read from its source."""
    names: set[str] = set()
    for node in ast.walk(ast.parse((ROOT / path).read_text())):
        if isinstance(node, ast.Import):
            names |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}: relative import"
            names |= {f"{node.module}.{alias.name}" for alias in node.names}
    return names


def foreign(path: Path) -> set[str]:
    """The packages of others that a module imports."""
    roots = {name.split(".")[0] for name in imports(path)}
    return roots - sys.stdlib_module_names - {"eniplug"}


def distributions(text: str) -> set[str]:
    """The names in a list of requirements."""
    lines = filter(None, map(str.strip, text.splitlines()))
    return {re.split(r"[\[<>=~! ]", line)[0] for line in lines}


def installed(group: str) -> dict[str, importlib.metadata.EntryPoint]:
    """The entry points of a group that are eniplug's own."""
    points = importlib.metadata.entry_points(group=group)
    return {p.name: p for p in points if p.dist and p.dist.name == "eniplug"}


def files(folder: Any, name: str = "") -> Iterator[str]:
    """The files below a folder of the checkout or of an installed package."""
    for each in folder.iterdir():
        if each.is_dir():
            if each.name != "__pycache__":
                yield from files(each, f"{name}{each.name}/")
        else:
            yield name + each.name


@pytest.fixture(scope="module")
def config() -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / "setup.cfg")
    return parser


# -- folders and lists of folders ------------------------------------------------------


def test_every_folder_with_modules_has_a_direction() -> None:
    folders = {path.parent.name for path in ROOT.glob("*/__init__.py")}

    assert set(MAY_IMPORT) == folders - NOT_PACKAGED


def test_every_folder_is_packaged(config: configparser.ConfigParser) -> None:
    folders = {str(path.parent) for path in sources(*MAY_IMPORT)}
    named = {f"eniplug.{folder.replace('/', '.')}": folder for folder in folders}

    mapping = config["options"]["package_dir"].strip().splitlines()
    assert dict(line.split(" = ") for line in mapping) == named
    assert set(config["options"]["packages"].split()) == set(named)


def test_every_list_of_the_folders_is_whole(config: configparser.ConfigParser) -> None:
    pyproject = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]
    tidy = pyproject["ruff"]["lint"]["flake8-tidy-imports"]["banned-api"]
    links = (ROOT / ".typing/eniplug").iterdir()
    tops = set(MAY_IMPORT)

    assert {link.name: link.resolve() for link in links} == {
        top: ROOT / top for top in tops
    }
    assert set(pyproject["pyright"]["include"]) == {
        *tops,
        *NOT_PACKAGED,
        "examples",
        "tests",
    }
    assert set(tidy) - {"unittest.mock"} == tops
    assert set(config["coverage:paths"]) == tops
    assert set(config["coverage:run"]["source_pkgs"].split()) == {
        f"eniplug.{top}" for top in tops
    }


@pytest.mark.parametrize("top", MAY_IMPORT)
def test_what_is_installed_is_what_stands_here(top: str) -> None:
    package = importlib.resources.files(f"eniplug.{top}")

    here, there = set(files(ROOT / top)), set(files(package))

    assert here == there
    assert "py.typed" in there
    for name in here:
        assert (ROOT / top / name).read_bytes() == package.joinpath(name).read_bytes()


# -- entry points ----------------------------------------------------------------------


def test_every_public_plugin_module_has_an_entry_point(
    config: configparser.ConfigParser,
) -> None:
    lines = config["options.entry_points"]["eniplug.plugins"].strip().splitlines()
    named = dict(line.split(" = ") for line in lines)
    modules = {p.stem for p in sources("plugins") if not p.stem.startswith("_")}

    assert {name.replace("-", "_") for name in named} == modules
    for name, target in named.items():
        module, _, plugin = target.partition(":")
        assert module == f"eniplug.plugins.{name.replace('-', '_')}"
        assert plugin == name.replace("-", " ").title().replace(" ", "")


@pytest.mark.parametrize("group", ["console_scripts", "eniplug.commands"])
def test_every_command_is_there(group: str, config: configparser.ConfigParser) -> None:
    lines = config["options.entry_points"][group].strip().splitlines()

    found = installed(group)

    assert {f"{name} = {point.value}" for name, point in found.items()} == set(lines)
    for point in found.values():
        assert callable(point.load())


def test_sub_commands_are_clicks() -> None:
    for point in installed("eniplug.commands").values():
        assert isinstance(point.load(), click.Command), point


def test_every_plugin_loads() -> None:
    for name, point in installed("eniplug.plugins").items():
        assert point.load()() is not None, name


# -- imports ---------------------------------------------------------------------------


@pytest.mark.parametrize("top", MAY_IMPORT)
def test_imports_keep_their_direction(top: str) -> None:
    for path in sources(top):
        ours = {name for name in imports(path) if name.startswith("eniplug.")}
        assert {name.split(".")[1] for name in ours} <= MAY_IMPORT[top], path


def test_plugins_share_only_private_modules() -> None:
    names = set().union(*map(imports, sources("plugins")))
    shared = {name for name in names if name.startswith("eniplug.plugins.")}

    assert all(name.startswith("eniplug.plugins._") for name in shared)


@pytest.mark.parametrize("top", [*MAY_IMPORT, "tests"])
def test_nothing_is_imported_under_a_second_name(top: str) -> None:
    for path in sources(top):
        roots = {name.split(".")[0] for name in imports(path)}
        assert not roots & set(MAY_IMPORT), path


def test_the_executable_needs_nothing_but_python() -> None:
    names = set().union(*(imports(Path(path)) for path in EXECUTABLE))

    assert {name.split(".")[0] for name in names} <= sys.stdlib_module_names


@pytest.mark.parametrize("package", ONE_HOME)
def test_large_libraries_have_one_home(package: str) -> None:
    homes = ONE_HOME[package]
    users = {str(path) for path in sources(*MAY_IMPORT) if package in foreign(path)}

    assert users
    assert all(user.startswith(homes) for user in users)


def test_requirements_are_what_is_imported(config: configparser.ConfigParser) -> None:
    extras = config["options.extras_require"]
    needed = distributions(config["options"]["install_requires"])
    lab, plot = distributions(extras["lab"]), distributions(extras["simulate"])
    kube = distributions(extras["kube"])
    types = distributions(extras["type"])
    kit = distributions(extras["testing"]) - {"eniplug"}
    extra = {"core": kube | types, "lab": lab, "simulate": plot, "testing": kit}
    users = {path: foreign(path) for path in sources(*MAY_IMPORT)}
    used = {
        path: {COMES_WITH.get(name, name) for name in names}
        for path, names in users.items()
    }

    known = needed | kube | lab | plot | kit
    assert set().union(*used.values()) - types == known
    for path, names in used.items():
        assert names <= needed | extra.get(path.parts[0], types), path


# -- every module ----------------------------------------------------------------------


@pytest.mark.parametrize("top", MAY_IMPORT)
def test_every_module_says_what_it_is_for(top: str) -> None:
    for path in sources(top):
        module = ast.parse((ROOT / path).read_text())

        assert ast.get_docstring(module), path
        # The executable runs on Python 3.7 too; an empty package has no annotations.
        if str(path) not in EXECUTABLE and len(module.body) > 1:
            second = module.body[1]
            assert isinstance(second, ast.ImportFrom), path
            assert second.module == "__future__", path


def test_ruff_is_the_same_everywhere() -> None:
    texts = [
        (ROOT / name).read_text()
        for name in ("tox.ini", ".pre-commit-config.yaml", ".ci/setup")
    ]

    versions = [set(re.findall(r"\bruff==[\d.*]+", text)) for text in texts]

    assert len(set().union(*versions)) == 1
    assert all(versions)
