"""Tests that need root: without it they fail, and with it they leave nothing behind."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

LEAVES_WITHIN = 5.0


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption(
        "--machine",
        default=os.uname().machine,
        help="whose native executable is tested; another machine's is run by QEMU",
    )


@pytest.fixture(scope="session")
def machine(request: pytest.FixtureRequest) -> str:
    return str(request.config.getoption("machine"))


def rooted(item: pytest.Item) -> bool:
    return any(item.get_closest_marker(name) for name in ("root", "lab"))


def traces() -> set[Path]:
    """The network namespaces and the labs' folders that our tests made.

    Their names hold this process's number: other runs on this machine are none of ours.
    """
    ours = re.compile(rf".+-{os.getpid()}(-.+)?")
    found = (*Path("/run/netns").glob("*"), *Path("/run").glob("*-lab"))
    return {path for path in found if ours.fullmatch(path.name)}


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    # Not skipped: a run that left half of the tests out would look green.
    if rooted(item) and os.geteuid():
        pytest.fail("this test makes network namespaces: run it as root", pytrace=False)


@pytest.fixture(scope="module", autouse=True)
def _nothing_left(request: pytest.FixtureRequest) -> Iterator[None]:
    """Fail the last test of a module that leaves namespaces or labs behind."""
    before = traces()

    yield

    items = [item for item in request.session.items if item.path == request.path]
    if not any(rooted(item) for item in items):
        return
    deadline = time.monotonic() + LEAVES_WITHIN
    while left := traces() - before:
        if time.monotonic() > deadline:
            pytest.fail(f"left behind: {', '.join(sorted(map(str, left)))}")
        time.sleep(0.05)
