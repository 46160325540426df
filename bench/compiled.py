"""What is timed too finely for Python: the C programs of this folder."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from functools import cache
from pathlib import Path

_FOLDER = Path(__file__).parent


@cache
def program(name: str) -> str:
    """Build a program, once; it is removed when this process ends.

    Raises RuntimeError without a C compiler.
    """
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("a C compiler is needed: apt-get install gcc")
    source, target = _FOLDER / f"{name}.c", Path(_built().name, name)
    subprocess.run([compiler, "-O2", "-pthread", "-o", target, source], check=True)
    return str(target)


@cache
def _built() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="bench-")
