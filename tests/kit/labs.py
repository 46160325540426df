"""A lab, driven as a user and a container runtime drive it."""

from __future__ import annotations

import json
import re
import time
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from difflib import unified_diff
from typing import Any

from attrs import frozen

from eniplug.core.kernel.graves import GRAVES
from eniplug.testing import lab as testing
from eniplug.testing.lab import Lab

EXECUTABLE = "/opt/cni/bin/eniplug"
LOOKS = (
    "ip -br link",
    "ip route show table all",
    "ip rule",
    "ip neigh show nud permanent",
    "nft -s list ruleset",
    "tc qdisc",
)

GROUP = re.compile(r" group (\d+) ")
REAPED_WITHIN = 5.0


@frozen
class Answer:
    """What an executable answered."""

    status: int
    said: Any
    stderr: str = ""


@frozen
class LabHand(Lab):
    """One running lab, as a container runtime drives it, too."""

    def call(
        self,
        command: str,
        config: bytes | Mapping[str, Any],
        variables: Mapping[str, str] | None = None,
        *,
        node: int = 1,
    ) -> Answer:
        """Run the executable on a node, as a runtime does."""
        environ = {"CNI_COMMAND": command, "CNI_PATH": "/opt/cni/bin"}
        environ |= variables or {}
        pairs = [f"{key}={value}" for key, value in environ.items()]
        text = config if isinstance(config, bytes) else json.dumps(config).encode()
        words = ("exec", f"node{node}", "--", "env", "-i", *pairs, EXECUTABLE)
        done = self.run(*words, stdin=text, check=False)
        said = json.loads(done.stdout) if done.stdout.strip() else None
        return Answer(done.returncode, said, done.stderr.decode())

    def picture(self, node: int = 1) -> list[str]:
        """A node's links, routes, rules, neighbours and nft state, as lines.

        Links that wait for the reaper are waited for: they go within two seconds.
        """
        end = time.monotonic() + REAPED_WITHIN
        looks = "; ".join(("ip -o link", "echo", *LOOKS))
        while True:
            said = self.inside(f"node{node}", "sh", "-c", looks)
            links, _, shown = said.partition("\n\n")
            lines = shown.splitlines()
            groups = map(int, GROUP.findall(links))
            if time.monotonic() > end or not any(one in GRAVES for one in groups):
                # What the kernel adds by itself, some of it seconds after a link is up.
                return [line for line in lines if "proto kernel" not in line]

    def settles_to(self, before: list[str], within: float = 10.0) -> bool:
        """Wait until a node looks as before; dead links are reaped after a second.

        What stays different is printed.
        """
        end = time.monotonic() + within
        while (now := self.picture()) != before:
            if time.monotonic() > end:
                print("\n".join(unified_diff(before, now, lineterm="")))
                return False
        return True

    def log(self, node: int = 1) -> str:
        """The log of a node's agent."""
        return self.run("agent", "log", str(node)).stdout.decode()


@contextmanager
def a_lab(name: str, **fields: Any) -> Generator[LabHand]:
    """Bring a lab up, and down whatever happens; fields are those of `Plan`."""
    with testing.a_lab(name, **fields) as lab:
        yield LabHand(lab.names)


def entry(*plugins: Any, version: str = "1.0.0", **fields: Any) -> dict[str, Any]:
    """One entry of type eniplug, as a runtime hands it to the executable."""
    return {
        "cniVersion": version,
        "name": "vpc",
        "type": "eniplug",
        "plugins": list(plugins),
        **fields,
    }


def conflist(*entries: Mapping[str, Any], version: str = "1.0.0") -> dict[str, Any]:
    """A conflist of these entries."""
    return {"cniVersion": version, "name": "vpc", "plugins": list(entries)}
