"""Stores that are closed when their test ends."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import frozen

from eniplug.core.store import Store


@frozen
class Stores:
    """Opens the store of one folder, as often as a test restarts the agent."""

    path: Path
    stack: ExitStack

    def open(self) -> Store:
        """Open it; Python 3.13 warns of a database that nobody closes."""
        store = Store(self.path)
        self.stack.callback(store.close)
        return store


@contextmanager
def stores(folder: Path) -> Generator[Stores]:
    """Give a folder's store, ``state.db``."""
    with ExitStack() as stack:
        yield Stores(folder / "state.db", stack)
