"""Start a lab's supervisor, and end it, from outside."""

from __future__ import annotations

import json
import os
import shutil
import signal
import sys
from collections.abc import Callable
from typing import IO, Any

from attrs import asdict

from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.plan import Plan
from eniplug.lab.sweep import claim, clear, end_holder, release

_INTERRUPTS = (signal.SIGINT, signal.SIGTERM)
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
    names = Names(plan.lab)
    said: dict[str, Any] = {}
    before = signal.pthread_sigmask(signal.SIG_BLOCK, _INTERRUPTS)
    try:
        release(names, claim(names))  # a taken name is refused before anything starts
        supervisor, progress = _spawn(plan)
    except BaseException:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        raise
    try:
        # An interrupt that came meanwhile is raised here, where there is whom to end.
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        with progress:
            for line in progress:
                said = json.loads(line)
                if "step" in said:
                    step(said["step"])
                elif "ready" in said:
                    return dict(said["ready"])
    except BaseException:
        os.kill(supervisor, signal.SIGTERM)
        os.waitpid(supervisor, 0)
        raise
    os.waitpid(supervisor, 0)
    early = {"message": "the lab's supervisor ended early"}
    raise LabError(**said.get("error", early))


def _spawn(plan: Plan) -> tuple[int, IO[bytes]]:
    """Start a supervisor in a session of its own: a Ctrl-C reaches it through us."""
    stdin = os.memfd_create("plan")
    read, write = os.pipe()
    try:
        os.write(stdin, json.dumps(asdict(plan)).encode())
        os.lseek(stdin, 0, os.SEEK_SET)
        command = [sys.executable, "-m", "eniplug.lab.supervisor"]
        copies = [(os.POSIX_SPAWN_DUP2, fd, i) for i, fd in enumerate((stdin, write))]
        environ = dict(os.environ)
        pid = os.posix_spawn(
            sys.executable,
            command,
            environ,
            file_actions=copies,
            setsid=True,
            setsigmask=(),
        )
    finally:
        os.close(stdin)
        os.close(write)
    return pid, os.fdopen(read, "rb")


def down(names: Names) -> tuple[bool, list[str]]:
    """Take a lab down; return whether it was up, and what had to be swept after it.

    A lab that is not up is fine, and what it may have left is removed.
    """
    was_up = end_holder(names)
    return was_up, clear(names)
