"""What the collector of garbage is to look at, so that requests do not pay for it."""

from __future__ import annotations

import gc
from typing import Final

YOUNG: Final = 20_000
"""New objects after which the collector looks at those that are young."""


def freeze() -> None:
    """Have what the start made, which is never garbage, not looked at again.

    An ADD makes some thousand objects and hardly any garbage in circles: at Python's
    own threshold (700) it would be looked at three times while it runs.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(YOUNG, 10, 10)
