"""Tombstones: DELs that came while the agent was away.

The executable writes one file each, holding the encoded request, and renames it into
place.  They are worked off before the socket is opened, and looked for again now and
then, since one may be written by a caller that found the agent just not there yet.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from typing import Final

import structlog

from eniplug.cni.wire import Reader, WireError
from eniplug.core.parts import AttachmentKey
from eniplug.hooks.errors import EniplugError

log = structlog.get_logger()

ABANDONED: Final = 60.0
"""Seconds after which a file that was not renamed into place never will be."""


class Tombstones:
    """The folder in which the executable leaves DELs."""

    def __init__(
        self, folder: Path, bury: Callable[[AttachmentKey, float], bool]
    ) -> None:
        self._folder = folder
        self._bury = bury
        self._seen = 0

    def work_off(self) -> None:
        """Carry out what lies there; costs one stat when nothing changed."""
        try:
            changed = self._folder.stat().st_mtime_ns
        except FileNotFoundError:
            return
        if changed == self._seen:
            return
        failed = False
        for path in sorted(self._folder.iterdir()):
            try:
                if not path.name.startswith("."):
                    self._carry_out(path)
                elif path.stat().st_mtime < time.time() - ABANDONED:
                    path.unlink()  # whoever wrote it was killed
            except (OSError, EniplugError) as error:
                failed = True
                log.error("a DEL is still to be made up for", error=str(error))
        self._seen = 0 if failed else changed

    def _carry_out(self, path: Path) -> None:
        left = path.stat().st_mtime
        reader = Reader()
        try:
            reader.feed(path.read_bytes(), [])
        except WireError as error:
            log.warning("not a tombstone", path=str(path), error=str(error))
        if reader.request is not None:
            environ = reader.request.environ
            key = AttachmentKey(
                environ.get("CNI_CONTAINERID", ""), environ.get("CNI_IFNAME", "")
            )
            found = self._bury(key, left)
            log.info("DEL made up for", container=key.container_id, found=found)
        path.unlink()
