from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from eniplug.core.kernel.home import Home
from eniplug.hooks.errors import NetnsError
from kit.nodes import World

pytestmark = pytest.mark.root


def test_work_inside_a_namespace_comes_back(world: World) -> None:
    pod = world.pod("a")
    home = os.stat("/proc/thread-self/ns/net").st_ino

    there = Home().visit(pod, lambda: os.stat("/proc/thread-self/ns/net").st_ino)

    assert there == os.fstat(pod).st_ino
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_work_inside_comes_back_after_an_error(world: World) -> None:
    pod = world.pod("a")
    home = os.stat("/proc/thread-self/ns/net").st_ino

    with pytest.raises(ZeroDivisionError):
        Home().visit(pod, lambda: 1 // 0)

    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_what_is_no_namespace_cannot_be_entered(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="setns"):
        Home().visit(file.fileno(), lambda: None)


WITHOUT_WAY_BACK = """
import os, sys
from eniplug.core.kernel.home import Home

def lose_root():
    os.setresuid(65534, 65534, 65534)

Home().visit(int(sys.argv[1]), lose_root)
print("went on")
"""


def test_the_process_ends_when_there_is_no_way_back(world: World) -> None:
    pod = world.pod("a")

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WAY_BACK, str(pod)],
        pass_fds=[pod],
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert done.returncode == os.EX_SOFTWARE
    assert "no way back" in done.stderr
    assert "went on" not in done.stdout


def test_a_pods_namespace_passes_the_check(world: World) -> None:
    Home().check_away(world.pod("a"))


def test_our_own_namespace_is_refused(world: World) -> None:
    del world
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        with pytest.raises(NetnsError, match="of the agent itself"):
            Home().check_away(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", ["/dev/null", "/proc/self/ns/mnt", "/", "/proc/stat"])
def test_what_is_no_network_namespace_is_refused(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(NetnsError, match=r"no.* network namespace"):
            Home().check_away(fd)
    finally:
        os.close(fd)


def test_a_closed_descriptor_is_refused() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)

    with pytest.raises(NetnsError):
        Home().check_away(fd)
