"""Puts the conflist where the container runtime looks for it.

The runtime takes the network for ready when the file is there, so it is written when
the agent can serve pods and not before: to a temporary name in the same directory, and
renamed (containerd sees a rename within its directory, not a move into it).  No other
file in the directory is touched, and no entry that others appended to ours is lost.
"""

from __future__ import annotations

import hashlib
import stat
from pathlib import Path
from typing import Final

import structlog

from eniplug.cni.errors import CniError
from eniplug.core.appended import with_appended
from eniplug.core.atomic import read, write
from eniplug.hooks.errors import ConfigError, ReadError

log = structlog.get_logger()

NAME: Final = "10-eniplug.conflist"

SHIPPED: Final = Path(__file__).with_name(NAME)
"""The conflist that the agent runs with unless it is told another."""

FOLDER: Final = Path("/etc/cni/net.d")
"""Where container runtimes look, unless they are told another place."""

RECORD: Final = ".10-eniplug.installed"
"""Our text as it was last installed, beside the file: it tells what others appended."""

TRIES: Final = 10
"""How often the file may change between a look at it and the rename."""


def installed() -> Path | None:
    """Return the conflist that an agent has installed on this node, if any."""
    path = FOLDER / NAME
    return path if path.is_file() else None


def install_conflist(folder: Path, text: bytes) -> bool:
    """Write the conflist atomically; returns False when it is there already.

    Raises ConfigError when others than root may write to the directory, ReadError when
    it cannot be written.
    """
    try:
        folder.mkdir(mode=0o755, parents=True, exist_ok=True)
        found = folder.stat()
        if found.st_uid != 0 or found.st_mode & (stat.S_IWGRP | stat.S_IWOTH):
            msg = f"{folder} may be written by others than root"
            raise ConfigError(msg, f"chown root {folder} && chmod go-w {folder}")
        record = folder / RECORD
        before = read(record)
        written = _install(folder / NAME, text, before)
        if before != text:
            write(record, text)
    except OSError as error:
        msg = f"the conflist cannot be installed in {folder}: {error.strerror}"
        raise ReadError(msg) from error
    return written


def _install(target: Path, text: bytes, before: bytes | None) -> bool:
    for _ in range(TRIES):
        found = read(target)
        wanted = text if found is None else _wanted(target, text, found, before)
        if wanted == found or write(target, wanted, instead_of=found):
            return wanted != found
    msg = f"{target} is written to by others all the time"
    raise ReadError(msg)


def _wanted(target: Path, text: bytes, found: bytes, before: bytes | None) -> bytes:
    """What is to stand in place of what was found; that is kept if it is unreadable."""
    try:
        return with_appended(text, found, before)
    except CniError as error:
        digest = hashlib.sha256(found).hexdigest()[:8]
        kept = target.with_name(f"{target.name}.broken-{digest}")
        log.error("the conflist was unreadable", error=error.message, kept=str(kept))
        write(kept, found)
        return text
