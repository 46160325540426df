"""The one process that a lab is: router, EC2, IMDS, internet, and agents as children.

    python -m eniplug.lab.supervisor < PLAN

It tells its progress on standard output, one JSON object per line: ``{"step": TEXT}``,
at last ``{"ready": STATUS}`` or ``{"error": {"message", "remedy"}}``.  Then it serves
the control socket.  SIGTERM and SIGINT take the lab down at any moment, also while it
comes up, and until then so does the end of whoever reads the progress.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import Any

from eniplug.lab.control import Server
from eniplug.lab.errors import LabError
from eniplug.lab.lab import Lab
from eniplug.lab.names import Names
from eniplug.lab.plan import Plan
from eniplug.lab.sweep import claim, release, remember, sweep

BUG = "this is a bug in the lab: please report it"


class _Interrupts:
    """Turns the first signal into KeyboardInterrupt; later ones change nothing.

    One that comes before `begin` is kept until then.
    """

    def __init__(self) -> None:
        self.over = False
        self._begun = False
        self._kept = False
        # The kernel may hand a signal to any thread, and Python handles it in the main
        # one, which would sleep on: so each signal also writes a byte that wakes it.
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._caught)

    def begin(self) -> None:
        """Let signals through from now on, one that was kept first."""
        self._begun = True
        if self._kept:
            self._interrupt()

    def wait(self) -> None:
        """Sleep until a signal comes; raises KeyboardInterrupt.

        Also when one came before, and its KeyboardInterrupt was lost: what is raised
        while an object is finalized is only printed.
        """
        while not self.over:
            os.read(self._woken, 1)
        raise KeyboardInterrupt

    def _caught(self, number: int, frame: FrameType | None) -> None:
        if self._begun:
            self._interrupt()
        self._kept = True

    def _interrupt(self) -> None:
        if not self.over:
            self.over = True
            raise KeyboardInterrupt


def run(plan: Plan) -> None:
    """Bring a lab up, serve it, take it down.

    Raises LabError when it cannot come up; then nothing of it is left.
    """
    interrupts = _Interrupts()
    names = Names(plan.lab)
    # From here to the try nothing may interrupt: the name would stay behind.
    held = claim(names)
    lab = Lab(plan, lambda step: _say(step=step))
    server: Server | None = None
    try:
        interrupts.begin()
        for what in sweep(names):
            _say(step=f"removed what an earlier lab left: {what}")
        remember(names)
        _log_to(names, sys.stderr.fileno())
        lab.up()
        server = Server(names, lab.commands())
        _say(ready=lab.status())
        _log_to(names, sys.stdout.fileno())
        interrupts.wait()
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        interrupts.over = True
        if server is not None:
            server.close()
        lab.down()
        sweep(names)
        release(names, held)


def _say(**line: Any) -> None:
    """Tell whoever started us; raises BrokenPipeError when they are gone."""
    print(json.dumps(line), flush=True)


def _log_to(names: Names, stream: int) -> None:
    flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
    log = os.open(names.run / "supervisor.log", flags, 0o600)
    os.dup2(log, stream)
    os.close(log)


def main() -> int:
    """Be the supervisor of the plan on standard input."""
    os.chdir("/")
    try:
        run(Plan(**json.load(sys.stdin)))
    except LabError as error:
        with suppress(BrokenPipeError):
            _say(error={"message": error.message, "remedy": error.remedy})
        return 1
    except Exception:  # noqa: BLE001
        with suppress(BrokenPipeError):
            _say(error={"message": traceback.format_exc(), "remedy": BUG})
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
