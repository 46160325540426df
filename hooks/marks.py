"""The pluggy markers, apart from the specs so that neither imports the other."""

from __future__ import annotations

from typing import Final

import pluggy

PROJECT: Final = "eniplug"
hookimpl = pluggy.HookimplMarker(PROJECT)
hookspec = pluggy.HookspecMarker(PROJECT)
