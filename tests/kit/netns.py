"""Network namespaces for tests: made here, removed here, whatever happens."""

from __future__ import annotations

import os
import secrets
import subprocess
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from attrs import define, field
from pyroute2 import netns

PREFIX = f"et-{os.getpid()}-"
FOLDER = Path("/run/netns")


def run(*words: str, inside: str | None = None) -> str:
    """Run a command, if wanted in a namespace, and return what it printed."""
    prefix = ["ip", "netns", "exec", inside] if inside else []
    done = subprocess.run([*prefix, *words], capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


@contextmanager
def namespace() -> Generator[str]:
    """Make a namespace whose lo is up; its name is given."""
    name = PREFIX + secrets.token_hex(4)
    run("ip", "netns", "add", name)
    try:
        run("ip", "-n", name, "link", "set", "lo", "up")
        yield name
    finally:
        if (FOLDER / name).exists():
            run("ip", "netns", "del", name)


@contextmanager
def inside(name: str) -> Generator[None]:
    """Move this thread, and the threads and processes that it starts, inside."""
    home = os.open("/proc/thread-self/ns/net", os.O_RDONLY | os.O_CLOEXEC)
    netns.setns(name)
    try:
        yield
    finally:
        netns.setns(home)
        os.close(home)


@define
class Pods:
    """Makes pods' namespaces, and removes them at the end."""

    stack: ExitStack = field(factory=ExitStack)
    names: list[str] = field(factory=list)

    def new(self) -> int:
        """Make one; returns its descriptor, which is ours until the end."""
        name = self.stack.enter_context(namespace())
        self.names.append(name)
        descriptor = os.open(FOLDER / name, os.O_RDONLY | os.O_CLOEXEC)
        self.stack.callback(os.close, descriptor)
        return descriptor


@contextmanager
def pods() -> Generator[Pods]:
    """Give a maker of pods' namespaces."""
    with ExitStack() as stack:
        yield Pods(stack)


def picture(name: str) -> dict[str, str]:
    """Return what a namespace has, as text, to compare before with after."""
    looks = {
        "links": ("ip", "-br", "link"),
        "routes": ("ip", "route", "show", "table", "all"),
        "routes6": ("ip", "-6", "route", "show", "table", "all"),
        "rules": ("ip", "rule"),
        "rules6": ("ip", "-6", "rule"),
        "neighbours": ("ip", "neigh", "show", "nud", "permanent"),
        "nft": ("nft", "list", "ruleset"),
        "tc": ("tc", "qdisc"),
    }
    return {what: run(*words, inside=name) for what, words in looks.items()}
