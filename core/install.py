"""Puts the conflist where the container runtime looks for it.

The runtime takes the network for ready when the file is there, so it is written when
the agent can serve pods and not before: to a temporary name in the same directory, and
renamed (containerd sees a rename within its directory, not a move into it).
"""

from __future__ import annotations

import os
import stat
from contextlib import suppress
from pathlib import Path
from typing import Final

from eniplug.hooks.errors import ConfigError, ReadError

NAME: Final = "10-eniplug.conflist"


def install_conflist(folder: Path, text: bytes) -> bool:
    """Write the conflist atomically; returns False when it is there already.

    Raises ConfigError when others than root may write to the directory, ReadError when
    it cannot be written.
    """
    target = folder / NAME
    temporary = folder / f".{NAME}.{os.getpid()}"
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            msg = f"{folder} may be written by others than root"
            raise ConfigError(msg, f"chown root {folder} && chmod go-w {folder}")
        if target.exists() and target.read_bytes() == text:
            return False
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o644)
        with os.fdopen(descriptor, "wb") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        temporary.rename(target)
    except OSError as error:
        with suppress(OSError):
            temporary.unlink()
        msg = f"the conflist cannot be installed in {folder}: {error.strerror}"
        raise ReadError(msg) from error
    return True
