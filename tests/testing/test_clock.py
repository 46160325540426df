from __future__ import annotations

import pytest

from eniplug.testing.clock import HandClock


def test_time_passes_only_when_told() -> None:
    clock = HandClock(now=5.0)

    clock.advance(2.5)

    assert clock() == clock() == 7.5


def test_time_never_goes_back() -> None:
    with pytest.raises(ValueError, match="never goes back"):
        HandClock().advance(-1)
