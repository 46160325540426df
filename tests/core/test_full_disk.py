"""A store whose file system is full."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from eniplug.core.parts import Part
from eniplug.core.store import Store
from eniplug.hooks import Lease
from eniplug.hooks.errors import StoreError
from eniplug.testing.builders import ADDRESSES, PRIMARY, a_pod
from kit.parts import a_part

pytestmark = pytest.mark.root


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    """A file system of 1 MiB."""
    words = ("mount", "-t", "tmpfs", "-o", "size=1m", "eniplug-test", str(tmp_path))
    subprocess.run(words, check=True, timeout=10)
    yield tmp_path
    subprocess.run(("umount", str(tmp_path)), check=True, timeout=10)


def fill(folder: Path) -> None:
    with (folder / "fill").open("wb", buffering=0) as file, suppress(OSError):
        while True:
            file.write(bytes(4096))


def begin_many(store: Store, part: Part) -> None:
    """Begin more parts than what is left of a page has room for."""
    for _ in range(200):
        store.begin(part)


def test_a_full_disk_refuses_what_is_new_and_loses_nothing(small: Path) -> None:
    store = Store(small / "state.db")
    pods = [a_part(a_pod(n), Lease(address=ADDRESSES[n], eni=PRIMARY)) for n in (0, 1)]
    kept = store.begin(pods[0])
    fill(small)

    with pytest.raises(StoreError, match="cannot be written") as caught:
        begin_many(store, pods[1])
    assert "/run" in caught.value.details
    (small / "fill").unlink()

    parts = store.parts()
    assert parts[0] == kept
    store.begin(pods[1])
    assert len(store.parts()) == len(parts) + 1
    store.close()


def test_a_full_disk_at_the_start_is_told_as_such(small: Path) -> None:
    fill(small)

    with pytest.raises(StoreError, match="cannot be written"):
        Store(small / "state.db")
