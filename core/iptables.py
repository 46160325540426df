"""iptables by its own programs, of both kinds; for commands, never for a pod."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Iterator, Sequence
from typing import Final

from eniplug.hooks.errors import ConfigError, KernelError

FAMILIES: Final = ("iptables", "ip6tables")
KINDS: Final = ("nft", "legacy")

PATIENCE: Final = 30.0
"""Seconds that a program may take, beside those that it waits for the lock."""

LOCK: Final = "5"
"""Seconds that a program waits for another one that changes rules."""


def programs() -> tuple[str, ...]:
    """Name the programs that are installed: of both kinds where there are both.

    What stands in one kind's tables the other does not show.  Raises ConfigError when
    there is none.
    """
    found = tuple(_installed())
    if not found:
        msg = "iptables is not installed, so its rules cannot be seen"
        raise ConfigError(msg, "install iptables, of the kind that the node has used")
    return found


def _installed() -> Iterator[str]:
    for family in FAMILIES:
        kinds = [f"{family}-{kind}" for kind in KINDS]
        there = [name for name in kinds if shutil.which(f"{name}-save")]
        yield from there or (name for name in [family] if shutil.which(f"{name}-save"))


def save(program: str) -> str:
    """Return all tables of one program, as iptables-save(8) writes them."""
    return run([f"{program}-save"])


def restore(program: str, text: str) -> None:
    """Carry out iptables-restore(8)'s commands: each table's all or none."""
    run([f"{program}-restore", "--wait", LOCK, "--noflush"], text)


def run(words: Sequence[str], text: str = "") -> str:
    """Run a program; returns what it printed.  Raises KernelError with its words."""
    try:
        done = subprocess.run(
            words,
            input=text,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except OSError as error:
        msg = f"cannot run {words[0]}: {error.strerror}"
        raise KernelError(msg, f"install {words[0]}") from error
    except subprocess.TimeoutExpired as error:
        msg = f"{words[0]} did not end within {PATIENCE:.0f} s"
        raise KernelError(msg) from error
    if done.returncode:
        msg = f"{' '.join(words)}: {done.stderr.strip()}"
        raise KernelError(msg, "see its own words in the message")
    return done.stdout
