"""Run `ip` and `nft` in the calling thread's namespace."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterable
from typing import Any

from eniplug.lab.errors import LabError

_PACKAGES = {"ip": "iproute2", "nft": "nftables"}


def ip(lines: Iterable[str]) -> None:
    """Carry out `ip` commands in one process; the first that fails ends the batch."""
    text = "\n".join(lines)
    if text:
        _run(["ip", "-batch", "-"], text + "\n")


def nft(text: str) -> None:
    """Load `nft` rules in one transaction."""
    _run(["nft", "-f", "-"], text)


def counters() -> dict[str, int]:
    """Return the packets that each named nft counter has seen."""
    listed = json.loads(_run(["nft", "-j", "list", "counters"], ""))["nftables"]
    found: list[dict[str, Any]] = [x["counter"] for x in listed if "counter" in x]
    return {counter["name"]: counter["packets"] for counter in found}


def _run(command: list[str], text: str) -> str:
    try:
        done = subprocess.run(
            command, input=text, capture_output=True, text=True, check=True
        )
    except FileNotFoundError as error:
        package = _PACKAGES[command[0]]
        msg = f"{command[0]} is not installed"
        raise LabError(msg, f"install it: apt-get install {package}") from error
    except subprocess.CalledProcessError as error:
        msg = f"{' '.join(command)} failed: {error.stderr.strip()}\n{text.rstrip()}"
        raise LabError(msg) from error
    return done.stdout
