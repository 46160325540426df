"""Files that appear whole or not at all."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path


def read(path: Path) -> bytes | None:
    """Read a file whole; None if there is none."""
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None


def write(
    target: Path, data: bytes, *, mode: int = 0o644, instead_of: bytes | None = None
) -> bool:
    """Write a file whole; returns False, and writes nothing, if it has changed.

    It is written under another name in the same directory and renamed.  ``instead_of``
    is what must still stand there; None: whatever does.
    """
    temporary = target.with_name(f".{target.name.lstrip('.')}.{os.getpid()}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, mode)
        with os.fdopen(descriptor, "wb") as file:
            os.fchmod(descriptor, mode)  # whatever the umask
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        if instead_of is not None and read(target) != instead_of:
            return False
        temporary.rename(target)
    finally:
        with suppress(FileNotFoundError):
            temporary.unlink()
    sync(target.parent)
    return True


def sync(folder: Path) -> None:
    """Let a rename last through a crash of the node."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
