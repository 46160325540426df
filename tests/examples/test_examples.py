"""The packages under examples/: small and whole.

Their own tests run with each out of its own wheel: `tox run -e py313-examples`.
"""

from __future__ import annotations

import ast
import io
import json
import tokenize
import tomllib
from pathlib import Path

import pytest

from kit.dists import Home, a_home, install_project

ROOT = Path(__file__).parents[2]
PROJECTS = sorted(path.parent for path in ROOT.glob("examples/*/pyproject.toml"))
MOST = 80
"""Lines of code of one example."""


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Home:
    home = a_home(tmp_path_factory.mktemp("home"))
    for project in PROJECTS:
        install_project(project, home.site)
    return home


def lines_of_code(text: str) -> int:
    """Count the lines that hold more than words for people."""
    texts: set[int] = set()
    for node in ast.walk(ast.parse(text)):
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant):
            texts |= {*range(node.lineno, (node.end_lineno or 0) + 1)}
    no_code = {tokenize.COMMENT, tokenize.NL, tokenize.NEWLINE, tokenize.ENDMARKER}
    no_code |= {tokenize.INDENT, tokenize.DEDENT}
    tokens = tokenize.generate_tokens(io.StringIO(text).readline)
    lines = {
        line
        for token in tokens
        if token.type not in no_code
        for line in range(token.start[0], token.end[0] + 1)
    }
    return len(lines - texts)


def module_of(project: Path) -> Path:
    return project / f"eniplug_{project.name.replace('-', '_')}.py"


def test_there_are_examples() -> None:
    assert {"ip-quota", "sticky-ip"} <= {project.name for project in PROJECTS}


@pytest.mark.parametrize("project", PROJECTS, ids=lambda project: project.name)
def test_an_example_is_small_and_says_that_it_is_per_node(project: Path) -> None:
    told = tomllib.loads((project / "pyproject.toml").read_text())["project"]

    assert told["name"] == f"eniplug-{project.name}"
    assert [*told["entry-points"]["eniplug.plugins"]] == [project.name]
    assert 10 < lines_of_code(module_of(project).read_text()) <= MOST
    assert "per node" in (project / "README.md").read_text()


def test_all_are_listed_once_they_are_installed(home: Home) -> None:
    listed = json.loads(home.run("-m", "eniplug.core.cli", "plugins", "--json"))

    found = {row["name"]: row for row in listed}
    for project in PROJECTS:
        assert found[project.name]["package"] == f"eniplug-{project.name}"
        assert found[project.name]["summary"]
