"""The fixtures, for pytest; nothing is imported until one of them is used."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from eniplug.testing.clock import HandClock
    from eniplug.testing.cloud import MemoryCloud
    from eniplug.testing.lab import Lab
    from eniplug.testing.pool import MemoryPool

_ONE_NODE: dict[str, Any] = {"nodes": 1}


def pytest_configure(config: pytest.Config) -> None:
    """Say which marks the kit's own tests have."""
    config.addinivalue_line("markers", "root: needs root and network namespaces")
    config.addinivalue_line("markers", "lab: brings a whole lab up (root, moto)")


@pytest.fixture
def hand_clock() -> HandClock:
    """A clock that the test moves."""
    from eniplug.testing.clock import HandClock  # noqa: PLC0415

    return HandClock()


@pytest.fixture
def memory_cloud() -> MemoryCloud:
    """EC2 in memory, with its limits and refusals."""
    from eniplug.testing.cloud import MemoryCloud  # noqa: PLC0415

    return MemoryCloud()


@pytest.fixture
def memory_pool() -> MemoryPool:
    """A desk at a pool of 18 addresses, as allocate_ip gets it."""
    from eniplug.testing.builders import a_pool  # noqa: PLC0415

    return a_pool()


@pytest.fixture(scope="module")
def lab_plan() -> dict[str, Any]:
    """What this module's lab is like: fields of `eniplug.lab.plan.Plan`.

    Override it; ``conflist`` is a conflist's text, or the conflist itself.
    """
    return {}


@pytest.fixture(scope="module")
def lab(lab_plan: dict[str, Any]) -> Iterator[Lab]:
    """A lab for this module, as `lab_plan` says; down at its end, whatever happens.

    Fails without root: a run that left the lab out would look green.
    """
    from eniplug.lab.errors import LabError  # noqa: PLC0415
    from eniplug.testing.lab import a_lab  # noqa: PLC0415

    try:
        with a_lab(**{**_ONE_NODE, **lab_plan}) as up:
            yield up
    except LabError as error:
        pytest.fail(f"no lab: {error.message}: {error.remedy}", pytrace=False)
