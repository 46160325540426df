from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eniplug.lab import netns
from eniplug.lab.errors import LabError
from eniplug.lab.mounts import node_view
from eniplug.lab.names import Names
from eniplug.lab.sweep import claim, clear, end_holder, remember
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-sweep")


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    clear(NAMES)
    yield
    clear(NAMES)


def state() -> dict[str, list[str]]:
    """What a lab could leave behind on this machine."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    return {
        "namespaces": [name for name in netns.names() if name.startswith(NAMES.lab)],
        "run": [str(path) for path in Path("/run").glob(f"{NAMES.lab}*")],
        "mounts": [line for line in mounts if NAMES.lab in line],
    }


NOTHING: dict[str, list[str]] = {"namespaces": [], "run": [], "mounts": []}


def test_a_name_is_held_once() -> None:
    held = claim(NAMES)

    with pytest.raises(LabError, match="is up"):
        claim(NAMES)
    os.close(held)
    os.close(claim(NAMES))


def test_a_dead_holder_holds_nothing() -> None:
    code = (
        "import os, signal; from eniplug.lab.sweep import claim;"
        f"from eniplug.lab.names import Names; claim(Names('{MINE}-sweep'));"
        "os.kill(os.getpid(), signal.SIGKILL)"
    )
    died = subprocess.run([sys.executable, "-c", code]).returncode

    assert died == -signal.SIGKILL
    os.close(claim(NAMES))


def test_a_sweep_leaves_nothing() -> None:
    os.close(claim(NAMES))
    netns.create(NAMES.node(1))
    netns.create(NAMES.pod("web"))
    os.close(node_view(NAMES.node(1), NAMES.run))
    (NAMES.run / "node1").mkdir()

    said = clear(NAMES)

    assert said == [f"namespace {MINE}-sweep-node1", f"namespace {MINE}-sweep-pod-web"]
    assert state() == NOTHING


def test_a_process_in_a_labs_namespace_ends_and_no_other() -> None:
    netns.create(NAMES.node(1))
    inside = netns.Inside(NAMES.node(1))
    ours = inside.call(subprocess.Popen, ["sleep", "60"])
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        said = clear(NAMES)

        assert f"process {ours.pid}" in said
        assert ours.wait(2) == -signal.SIGKILL
        assert stranger.poll() is None
    finally:
        inside.close()
        stranger.kill()
        stranger.wait()


def test_another_labs_things_stay() -> None:
    other = Names(f"{MINE}-sweep-other")
    netns.create(other.node(1))
    try:
        clear(NAMES)

        assert other.node(1) in netns.names()
    finally:
        clear(other)


def test_sweeping_where_nothing_is_says_nothing() -> None:
    assert clear(NAMES) == []


def test_a_recorded_process_id_that_is_another_process_now_is_left_alone() -> None:
    stranger = subprocess.Popen(["sleep", "60"])
    try:
        os.close(claim(NAMES))
        (NAMES.run / "supervisor").write_text(f"{stranger.pid} 1\n")

        assert not end_holder(NAMES)
        assert stranger.poll() is None
    finally:
        stranger.kill()
        stranger.wait()


def test_a_holder_that_does_not_end_is_killed() -> None:
    code = (
        "import signal, time; signal.signal(15, signal.SIG_IGN);"
        "from eniplug.lab.sweep import claim, remember;"
        f"from eniplug.lab.names import Names; n = Names('{MINE}-sweep');"
        "fd = claim(n); remember(n); print(flush=True); time.sleep(60)"
    )
    command = [sys.executable, "-c", code]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as holder:
        assert holder.stdout is not None
        holder.stdout.readline()

        assert end_holder(NAMES, within=0.2)
        assert holder.wait(2) == -signal.SIGKILL
    os.close(claim(NAMES))


def test_what_is_remembered_is_this_process() -> None:
    os.close(claim(NAMES))

    remember(NAMES)

    assert (NAMES.run / "supervisor").read_text().split()[0] == str(os.getpid())
