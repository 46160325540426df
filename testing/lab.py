"""A lab, driven as a user drives it."""

from __future__ import annotations

import json
import os
import secrets
import subprocess
import sys
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any

from attrs import frozen

from eniplug.lab import launch
from eniplug.lab.control import ask
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.plan import Plan


@frozen
class Lab:
    """One running lab."""

    names: Names

    def run(
        self, *words: str, stdin: bytes = b"", check: bool = True
    ) -> subprocess.CompletedProcess[bytes]:
        """Run ``eniplug lab ...``; raises AssertionError if it fails."""
        done = subprocess.run(
            [sys.executable, "-m", "eniplug.core.cli", "lab", *words],
            env={**os.environ, "ENIPLUG_LAB": self.names.lab},
            input=stdin,
            capture_output=True,
            timeout=60,
            check=False,
        )
        assert not check or done.returncode == 0, (words, done)
        return done

    def inside(self, where: str, *command: str) -> str:
        """Run a command in a pod or node; returns what it printed."""
        return self.run("exec", where, "--", *command).stdout.decode()

    def status(self) -> dict[str, Any]:
        """What `lab status --json` says."""
        return dict(ask(self.names, "status"))

    def add(self, *pods: str, node: int = 1) -> dict[str, str]:
        """Add pods; returns their addresses by name.

        Raises LabError with the words of the first that was refused.
        """
        answers = ask(self.names, "pod-add", pods=pods, node=node)
        for answer in answers:
            if "error" in answer:
                raise LabError(json.dumps(answer["error"]))
        return {
            a["name"]: a["result"]["ips"][0]["address"].partition("/")[0]
            for a in answers
        }

    def remove(self, *pods: str) -> None:
        """Remove pods."""
        answers = ask(self.names, "pod-rm", pods=pods)
        assert not [a for a in answers if "error" in a], answers


@contextmanager
def a_lab(
    name: str = "kit",
    *,
    conflist: str | Mapping[str, Any] | None = None,
    **fields: Any,
) -> Generator[Lab]:
    """Bring a lab up, and down whatever happens; fields are those of `Plan`.

    Its name begins with ``name`` and is nobody else's.  Raises LabError.
    """
    launch.check_machine()
    names = Names(f"{name}-{os.getpid()}-{secrets.token_hex(2)}")
    text = json.dumps(conflist) if isinstance(conflist, Mapping) else conflist
    try:
        launch.up(Plan(lab=names.lab, conflist=text, **fields), lambda _: None)
        yield Lab(names)
    finally:
        launch.down(names)
