from __future__ import annotations

import subprocess
import sys

HELD = """
import re, sys, time
from eniplug.core.heartbeat import Heartbeat

Heartbeat(patience=2.0).start()
if sys.argv[1] == "held":
    re.match(r"(a*)*b", "a" * 64)
else:
    time.sleep(3.0)
"""


def run(how: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", HELD, how]
    return subprocess.run(
        command, capture_output=True, text=True, timeout=60, check=False
    )


def test_a_process_whose_interpreter_is_held_ends_and_says_where() -> None:
    done = run("held")

    assert done.returncode == 1
    assert "Timeout" in done.stderr
    assert "re/__init__.py" in done.stderr


def test_a_process_that_only_waits_goes_on() -> None:
    assert run("idle").returncode == 0
