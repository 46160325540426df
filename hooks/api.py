"""The version of this API: what a plugin may be written for.

MAJOR.MINOR.  MINOR counts up when a hook, an argument, a field with a default, a kind
of object or an error is added: plugins that were written before work as they did.
MAJOR counts up when one is taken away or means something else.
"""

from __future__ import annotations

import re
from typing import Final

API_VERSION: Final = "1.0"

_VERSION = re.compile(r"(\d+)(?:\.(\d+))?")


def serves(stated: object) -> bool:
    """Whether a plugin that was written for that version, as in "1" or "1.2", fits."""
    wanted = _VERSION.fullmatch(stated) if isinstance(stated, str) else None
    if wanted is None:
        return False
    major, minor = API_VERSION.split(".")
    return wanted[1] == major and int(wanted[2] or 0) <= int(minor)
