"""The CNI protocol: executable, wire, conflists, and the runtime's side of it."""

from __future__ import annotations

import hashlib
import os
from pathlib import Path


def python_executable() -> bytes:
    """Return the executable, to be installed as /opt/cni/bin/eniplug.

    It is one file that needs nothing but a Python of version 3.7 or newer.
    """
    folder = Path(__file__).parent
    source = (folder / "executable.py").read_text()
    starter = (folder / "starter.py").read_text()
    digest = hashlib.sha256(source.encode()).hexdigest()
    starter = starter.replace('DIGEST = ""', f'DIGEST = "{digest}"')
    return starter.replace('SOURCE = r""', f"SOURCE = r'''{source}'''").encode()


def native_path(machine: str = os.uname().machine) -> Path | None:
    """Return the same as a static program for a machine; None where there is none.

    ``machine`` is what ``uname -m`` says.  Whoever installs it makes it executable.
    """
    path = Path(__file__).parent / "native" / f"eniplug-{machine}"
    return path if path.exists() else None
