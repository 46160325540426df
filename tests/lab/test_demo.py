from __future__ import annotations

import signal
import subprocess
import sys
from pathlib import Path

import pytest

from eniplug.lab import launch, netns
from eniplug.lab.names import Names
from eniplug.lab.plan import Plan
from kit.names import MINE

pytestmark = [pytest.mark.root, pytest.mark.lab]

NAMES = Names(f"{MINE}-demo")
PROGRAM = f"""
import signal, sys
from eniplug.lab.demo import main

# What a shell runs in the background begins with SIGINT ignored, and so would this.
signal.signal(signal.SIGINT, signal.default_int_handler)
sys.exit(main('{MINE}-demo'))
"""
COMMAND = [sys.executable, "-uc", PROGRAM]


def left() -> list[str]:
    spaces = [space for space in netns.names() if NAMES.owns(space)]
    return [*spaces, *(str(path) for path in Path("/run").glob(f"{MINE}-demo*"))]


@pytest.fixture(autouse=True)
def _nothing_is_up() -> None:
    launch.down(NAMES)


def test_the_account_is_true_and_nothing_is_left() -> None:
    done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60)

    assert done.returncode == 0, done.stdout + done.stderr
    assert "All of it is true" in done.stdout
    assert left() == []


@pytest.mark.usefixtures("unmeasured")
@pytest.mark.parametrize("chapter", ["A VPC on this machine", "More pods than"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_demo_leaves_nothing(chapter: str, number: int) -> None:
    pipe = subprocess.PIPE
    with subprocess.Popen(COMMAND, stdout=pipe, stderr=pipe, text=True) as demo:
        assert demo.stdout is not None
        assert any(chapter in line for line in demo.stdout)

        demo.send_signal(number)
        demo.communicate(timeout=30)

    assert demo.returncode == 130
    assert left() == []


def test_a_demo_leaves_another_lab_of_its_name_alone() -> None:
    agent = (sys.executable, "-c", "import time; time.sleep(60)")
    plan = Plan(lab=NAMES.lab, nodes=0, agent=agent)
    found = launch.up(plan, lambda step: None)
    try:
        done = subprocess.run(COMMAND, capture_output=True, text=True, timeout=60)

        assert done.returncode == 1
        assert f"a lab named '{MINE}-demo' is up" in done.stdout
        assert Path(f"/proc/{found['pid']}").exists()
        assert NAMES.vpc in netns.names()
    finally:
        launch.down(NAMES)
