"""The CNI protocol: executable, wire, conflists, and the runtime's side of it."""

from __future__ import annotations

from pathlib import Path


def executable_path() -> Path:
    """Return the source of the executable, to be installed as /opt/cni/bin/eniplug.

    It is one file that needs nothing but a Python of version 3.7 or newer.
    """
    return Path(__file__).with_name("executable.py")
