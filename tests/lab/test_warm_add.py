"""What an ADD costs beyond netlink when the pool is warm: nothing.

An audit hook inside the agent's process (PEP 578) writes down every process that is
started, every module imported, every file or folder opened and every connection made.
"""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import frozen

from kit.labs import LabHand, a_lab, conflist, entry

pytestmark = [pytest.mark.root, pytest.mark.lab]

# Names of audit events: docs.python.org, "Audit events table".
HOOK = """
import json, os, sys, threading
WATCHED = {
    "subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.exec",
    "os.system", "import", "open", "os.listdir", "os.scandir", "socket.connect",
    "socket.getaddrinfo",
}
log = os.open(os.environ["AUDIT_LOG"], os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)

def hook(event, args):
    if event in WATCHED:
        row = [threading.current_thread().name, event, repr(args)[:200]]
        os.write(log, json.dumps(row).encode() + b"\\n")

sys.addaudithook(hook)
"""


@frozen
class Audited:
    lab: LabHand
    file: Path

    def events(self) -> list[tuple[str, str, str]]:
        """All but the look at the thread's own namespace, which is the way back."""
        found = map(json.loads, self.file.read_text().splitlines())
        return [
            (thread, event, what)
            for thread, event, what in found
            if "/proc/thread-self/ns/net" not in what
        ]


@pytest.fixture(params=["flat-routes", "policy-routes"])
def audited(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Audited]:
    (tmp_path / "sitecustomize.py").write_text(HOOK)
    environment = {
        "PYTHONPATH": str(tmp_path),
        "AUDIT_LOG": str(tmp_path / "audit.log"),
        # Six addresses at start, two of them enough: nothing to refill for a while.
        "MINIMUM_IP_TARGET": "6",
        "WARM_IP_TARGET": "2",
    }
    plugins = ("secondary-ip", "pod-veth", request.param, "snat")
    asked = conflist(entry(*plugins))
    with a_lab("wa", nodes=1, environment=environment, conflist=asked) as lab:
        yield Audited(lab, tmp_path / "audit.log")


def test_a_warm_add_starts_nothing_imports_nothing_and_calls_nobody(
    audited: Audited,
) -> None:
    audited.lab.add("first")
    before = len(audited.events())
    assert Counter(e for _, e, _ in audited.events())["import"] > 100

    audited.lab.add("second")
    audited.lab.remove("second")
    audited.lab.add("third")

    assert audited.events()[before:] == []
