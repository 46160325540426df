from __future__ import annotations

from collections.abc import Iterator

import pytest

from eniplug.core.kernel import Kernel
from kit.nodes import World, a_world


@pytest.fixture
def world() -> Iterator[World]:
    with a_world("kt") as world:
        yield world


@pytest.fixture
def kernel() -> Kernel:
    return Kernel()
