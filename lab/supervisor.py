"""The one process that a lab is: router, EC2, IMDS, internet, and agents as children.

    python -m eniplug.lab.supervisor < PLAN

It tells its progress on standard output, one JSON object per line: ``{"step": TEXT}``,
at last ``{"ready": STATUS}`` or ``{"error": {"message", "remedy"}}``.  Then it serves
the control socket.  SIGTERM and SIGINT take the lab down at any moment, also while it
comes up, and until then so does the end of whoever reads the progress.
"""

from __future__ import annotations

import gc
import json
import os
import signal
import sys
import traceback
from contextlib import suppress
from types import FrameType
from typing import TYPE_CHECKING, Any

from eniplug.lab.control import Server
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.plan import Plan
from eniplug.lab.sweep import claim, release, remember, sweep

if TYPE_CHECKING:
    from eniplug.lab.lab import Lab

BUG = "this is a bug in the lab: please report it"


class _Interrupts:
    """Turns the first signal into KeyboardInterrupt, from `begin` on and until `calm`.

    One that comes before `begin` is kept until then; one that comes after `calm` is
    found by `wait`: what is raised at any moment may hit what must not be interrupted.
    """

    def __init__(self) -> None:
        self._raising = False
        self._came = False
        # The kernel may hand a signal to any thread, and Python handles it in the main
        # one, which would sleep on: so each signal also writes a byte that wakes it.
        self._woken, wake = os.pipe()
        os.set_blocking(wake, False)
        signal.set_wakeup_fd(wake, warn_on_full_buffer=False)
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, self._caught)

    def begin(self) -> None:
        """Let signals interrupt from now on, one that was kept first."""
        self._raising = True
        if self._came:
            self._interrupt()

    def calm(self) -> None:
        """Let signals interrupt nothing more."""
        self._raising = False

    def wait(self) -> None:
        """Sleep until a signal comes, unless one came before."""
        while not self._came:
            os.read(self._woken, 1)

    def _caught(self, number: int, frame: FrameType | None) -> None:
        self._came = True
        self._interrupt()

    def _interrupt(self) -> None:
        if self._raising:
            self._raising = False
            raise KeyboardInterrupt


def run(plan: Plan) -> None:
    """Bring a lab up, serve it, take it down.

    Raises LabError when it cannot come up; then nothing of it is left.
    """
    interrupts = _Interrupts()
    names = Names(plan.lab)
    lab = _lab(plan)
    # From here to the try nothing may interrupt: the name would stay behind.
    held = claim(names)
    server: Server | None = None
    try:
        interrupts.begin()
        for what in sweep(names):
            _say(step=f"removed what an earlier lab left: {what}")
        remember(names)
        _log_to(names, sys.stderr.fileno())
        lab.up()
        interrupts.calm()
        server = Server(names, lab.commands())
        _say(ready=lab.status())
        _log_to(names, sys.stdout.fileno())
        interrupts.wait()
    except (KeyboardInterrupt, BrokenPipeError):
        pass
    finally:
        interrupts.calm()
        if server is not None:
            server.close()
        lab.down()
        sweep(names)
        release(names, held)


def _lab(plan: Plan) -> Lab:
    """Make a lab that is not up.

    moto brings hundreds of thousands of objects, and none of them is garbage: to look
    for some among them would take a fifth of the time that it takes to import it.
    """
    gc.disable()
    from eniplug.lab.lab import Lab  # noqa: PLC0415

    gc.freeze()
    gc.enable()
    return Lab(plan, lambda step: _say(step=step))


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
