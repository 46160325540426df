"""Names that two runs of the tests, side by side, do not share."""

from __future__ import annotations

import os
from typing import Final

MINE: Final = f"lf-{os.getpid()}"
"""How the names of this run's labs begin."""
