"""Start a lab's supervisor, and end it, from outside."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from attrs import asdict

from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.plan import Plan
from eniplug.lab.sweep import DOWN_WITHIN, clear, end_holder

_NEEDED = {"ip": "iproute2", "nft": "nftables"}


def check_machine() -> None:
    """Refuse what cannot work; raises LabError with the remedy."""
    if sys.platform != "linux":
        msg = "the lab is made of Linux network namespaces"
        raise LabError(msg, "run it in a Linux virtual machine")
    if os.geteuid() != 0:
        msg = "the lab makes network namespaces, which takes root"
        raise LabError(msg, "run it with sudo")
    missing = [tool for tool in _NEEDED if shutil.which(tool) is None]
    if missing:
        packages = " ".join(_NEEDED[tool] for tool in missing)
        msg = f"not installed: {', '.join(missing)}"
        raise LabError(msg, f"install them: apt-get install {packages}")


def up(plan: Plan, step: Callable[[str], None]) -> dict[str, Any]:
    """Bring a lab up and return its status; ``step`` is told what goes on.

    Raises LabError when it cannot come up.  Whatever ends this early, an interrupt
    included, leaves nothing of the lab.
    """
    supervisor = subprocess.Popen(
        [sys.executable, "-m", "eniplug.lab.supervisor"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        start_new_session=True,  # a Ctrl-C reaches it through us, once and in order
        cwd="/",
    )
    assert supervisor.stdin is not None
    assert supervisor.stdout is not None
    try:
        supervisor.stdin.write(json.dumps(asdict(plan)).encode())
        supervisor.stdin.close()
        for line in supervisor.stdout:
            said: dict[str, Any] = json.loads(line)
            if "ready" in said:
                supervisor.stdout.close()
                return dict(said["ready"])
            if "error" in said:
                raise LabError(**said["error"])
            step(said["step"])
        supervisor.wait()
        msg = f"the lab's supervisor ended with {supervisor.returncode}"
        raise LabError(msg, "its last words are above")
    except BaseException:
        supervisor.terminate()
        _ended(supervisor, Names(plan.lab))
        raise


def _ended(supervisor: subprocess.Popen[bytes], names: Names) -> None:
    try:
        supervisor.wait(DOWN_WITHIN)
    except subprocess.TimeoutExpired:
        supervisor.kill()
        supervisor.wait()
        clear(names)


def down(names: Names) -> tuple[bool, list[str]]:
    """Take a lab down; return whether it was up, and what had to be swept after it.

    A lab that is not up is fine, and what it may have left is removed.
    """
    was_up = end_holder(names)
    return was_up, clear(names)
