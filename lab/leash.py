"""Become a command that dies with its parent.

    python -IS leash.py PARENT COMMAND...

Run as a file of its own: it starts in 10 ms, and between fork and exec of a process
with threads nothing of Python may run.  A process that was asked for before its parent
died, and started after, is caught by comparing PARENT.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main(parent: int, command: list[str]) -> None:
    """Ask the kernel for SIGKILL at the parent's death; become the command."""
    ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() == parent:
        os.execvp(command[0], command)


if __name__ == "__main__":
    main(int(sys.argv[1]), sys.argv[2:])
