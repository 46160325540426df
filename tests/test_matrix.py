"""tox's matrix is whole, and `make check` runs each of its factors."""

from __future__ import annotations

import configparser
import re
from itertools import product
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]


def ini(name: str) -> configparser.ConfigParser:
    parser = configparser.ConfigParser(interpolation=None)
    parser.read(ROOT / name)
    return parser


def expanded(text: str) -> set[str]:
    """The environments of a list of tox, with its braces multiplied out."""
    names = re.split(r",(?![^{]*})", re.sub(r"\s", "", text))
    return {
        "".join(parts)
        for name in names
        for parts in product(*(p.split(",") for p in re.split(r"[{}]", name)))
    }


def factors(names: set[str]) -> set[str]:
    return {factor for name in names for factor in name.split("-")}


MODES = ("secondary_ip", "prefix_delegation", "egress_v4", "bandwidth")
TOX = ini("tox.ini")
FULL = expanded(TOX["tox"]["labels"].partition("full = ")[2])


def checked() -> set[str]:
    """The environments that .ci/test runs, were the machine to have every Python."""
    text = (ROOT / ".ci/test").read_text()
    lists = re.findall(r"^(?:QUICK|REST)='(.*?)'$", text, re.M | re.S)
    single = re.findall(r"checks run -e (\w+)$", text, re.M)
    return {name for names in lists for name in names.split()} | {*single}


def test_the_full_matrix_has_every_python_library_and_mode() -> None:
    classifiers = ini("setup.cfg")["metadata"]["classifiers"]
    versions = re.findall(r"Python :: 3\.(\d+)", classifiers)
    pythons = [f"py3{version}" for version in versions]

    cells = {"-".join(c) for c in product(pythons, ("lowest", "newest"), MODES)}

    assert cells <= FULL
    assert {f"{python}-examples" for python in pythons} <= FULL


def test_every_check_is_of_the_matrix_and_every_factor_is_checked() -> None:
    # coverage is a report over the rest; native takes another architecture's QEMU.
    checks = checked() - {"coverage"}
    assert checks <= FULL
    assert factors(checks) == factors(FULL) - {"native"}


def test_every_python_is_checked_with_the_oldest_and_the_newest_libraries() -> None:
    pairs = {tuple(name.split("-")[:2]) for name in checked() if name.startswith("py")}

    pythons = {python for python, _ in pairs}
    assert {*product(pythons, ("lowest", "newest", "examples"))} == pairs


@pytest.mark.parametrize("mode", MODES)
def test_a_mode_is_a_mark(mode: str) -> None:
    assert re.search(rf"^{mode}:", ini("setup.cfg")["tool:pytest"]["markers"], re.M)


def test_every_requirement_that_nodes_have_says_its_oldest_version() -> None:
    options = ini("setup.cfg")
    extras = options["options.extras_require"]
    needed = options["options"]["install_requires"].split()
    needed += [*extras["kube"].split(), *extras["lab"].split()]
    needed += [*extras["simulate"].split(), *extras["test"].split()]

    loose = [one for one in needed if ">=" not in one and not one.startswith("eniplug")]

    assert loose == []


def test_tox_is_the_one_that_is_installed() -> None:
    [line] = re.findall(r"^TOX=\((.*?)\)", (ROOT / ".ci/setup").read_text(), re.M)

    assert line.replace("'", "").split() == TOX["tox"]["requires"].split()
