"""The CNI protocol: executable, wire, conflists, and the runtime's side of it."""

from __future__ import annotations

import os
from pathlib import Path


def executable_path() -> Path:
    """Return the source of the executable, to be installed as /opt/cni/bin/eniplug.

    It is one file that needs nothing but a Python of version 3.7 or newer.
    """
    return Path(__file__).with_name("executable.py")


def native_path(machine: str = os.uname().machine) -> Path | None:
    """Return the same as a static program for a machine; None where there is none.

    ``machine`` is what ``uname -m`` says.  Whoever installs it makes it executable.
    """
    path = Path(__file__).parent / "native" / f"eniplug-{machine}"
    return path if path.exists() else None
