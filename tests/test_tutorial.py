"""docs/write-a-plugin.md, done as it stands: its files and commands."""

from __future__ import annotations

import os
import re
import secrets
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from kit.dists import a_home

pytestmark = [pytest.mark.root, pytest.mark.lab]

ROOT = Path(__file__).parents[1]
DOCUMENT = ROOT / "docs/write-a-plugin.md"
PIP = f"""\
#!{{python}}
import pathlib, sys, sysconfig
sys.path.insert(0, {str(ROOT / "tests")!r})
from kit.dists import install_project
assert sys.argv[1:3] == ["install", "-e"]
install_project(pathlib.Path(sys.argv[3]), pathlib.Path(sysconfig.get_path("purelib")))
"""
"""pip would fetch what builds the package from the network."""

LIKE = {
    r"^…$": r"(?s:.*?)",
    r"\s+": r"\s+",
    r"\d+\.\d+\.\d+\.\d+": r"[\d.]+",
    r"\d+ ms": r"\d+ ms",
    r"in [\d.]+s": r"in [\d.]+s",
    r"= 4096": r"= \d+",
    r"/run/doc-lab/": r"/run/\S+-lab/",
    r"lab doc is": r"lab \S+ is",
}
"""What differs from run to run, or is left out, and what it looks like."""


@frozen
class Step:
    """A file to write, or a command with what it prints."""

    words: str
    text: str
    file: bool = False


def steps(document: str) -> Iterator[Step]:
    """Take the document's steps in their order."""
    fenced = re.compile(r"(?:^`(\S+)`:\n\n)?^```(\w*)\n(.*?)^```$", re.M | re.S)
    for path, language, block in fenced.findall(document):
        if path:
            yield Step(path, block, file=True)
        elif not language:
            for command in re.split(r"^\$ ", block, flags=re.M)[1:]:
                words, _, printed = command.partition("\n")
                yield Step(words, printed)


def pattern(printed: str) -> str:
    """Match what a command prints; a line ``…`` stands for any lines."""
    text = printed.strip()
    found: list[str] = []
    at = 0
    for part in re.finditer("|".join(f"({one})" for one in LIKE), text, re.M):
        like = [*LIKE.values()][(part.lastindex or 1) - 1]
        found += re.escape(text[at : part.start()]), like
        at = part.end()
    return r"\s*" + "".join(found) + re.escape(text[at:]) + r"\s*"


@pytest.fixture
def environment(tmp_path: Path) -> Iterator[dict[str, str]]:
    """A reader's shell: eniplug, pip and Python of a virtual environment."""
    home = a_home(tmp_path / "home")
    scripts = {
        "eniplug": f"#!{home.python}\nfrom eniplug.core.cli import main\nmain()\n",
        "pip": PIP.format(python=home.python),
    }
    for name, text in scripts.items():
        (home.path / "bin" / name).write_text(text)
        (home.path / "bin" / name).chmod(0o755)
    path = f"{home.path / 'bin'}:{os.environ['PATH']}"
    name = f"doc-{os.getpid()}-{secrets.token_hex(2)}"
    environment = {**os.environ, "PATH": path, "ENIPLUG_LAB": name, "COLUMNS": "200"}
    yield environment
    subprocess.run(["eniplug", "lab", "down"], env=environment, capture_output=True)


def test_the_tutorial_works_as_it_stands(
    environment: dict[str, str], tmp_path: Path
) -> None:
    where = tmp_path / "work"
    where.mkdir()
    done: list[str] = []
    for step in steps(DOCUMENT.read_text()):
        if step.file:
            (where / step.words).write_text(step.text)
            continue
        ran = subprocess.run(
            ["/bin/sh", "-c", step.words],
            cwd=where,
            env=environment,
            capture_output=True,
            text=True,
            timeout=120,
        )
        said = ran.stdout + ran.stderr
        assert re.fullmatch(pattern(step.text), said), (step.words, step.text, said)
        fails = "wrong" in step.words and "sed" not in step.words
        assert bool(ran.returncode) == fails, (step.words, said)
        done.append(step.words.split(maxsplit=1)[0])

    assert {"eniplug", "pip", "python"} <= {*done}
