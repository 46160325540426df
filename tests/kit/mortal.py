"""An agent that is killed (SIGKILL) when it comes to a chosen point of its work.

    python mortal.py FILE [OPTION...]

FILE holds ``KIND NUMBER``: the agent dies when it comes to the NUMBER-th point of that
KIND, counted from its start; an empty file lets it live.  OPTIONs are those of
``eniplug agent``.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any, Final

from eniplug.core import ec2_boto
from eniplug.core.cli import main
from eniplug.core.kernel.netlink import Socket
from eniplug.core.store import Store

COMMITS: Final = [getattr(Store, name) for name in ("_commit", "_commit_all")]

POINTS: Final[dict[str, tuple[list[Callable[..., Any]], set[str]]]] = {
    # Before what is done in it, and after.
    "store": (COMMITS, {"call", "return"}),
    # So it is with a context manager: that is called twice.
    "EC2": ([getattr(ec2_boto, "_asking").__wrapped__], {"call"}),  # noqa: B009
    "netlink": ([Socket.send], {"call"}),
}


def die_at(kind: str, number: int) -> None:
    """Let this process be killed at a point, whichever thread comes to it."""
    (functions, events), passed = POINTS[kind], count(1)
    codes = {function.__code__ for function in functions}

    def profile(frame: FrameType, event: str, _: Any) -> None:
        if event in events and frame.f_code in codes and next(passed) == number:
            os.kill(os.getpid(), signal.SIGKILL)

    threading.setprofile(profile)
    sys.setprofile(profile)


if __name__ == "__main__":
    said = Path(sys.argv[1]).read_text().split()
    if said:
        die_at(said[0], int(said[1]))
    sys.argv[1:2] = ["agent"]
    main()
