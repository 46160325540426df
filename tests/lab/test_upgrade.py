"""A node that is upgraded, and taken back, under running pods."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Generator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Final

import pytest

from eniplug.cni import native_path
from kit.labs import LabHand, a_lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

THERE: Final = "python"
BACK: Final = "python" if native_path() is None else "native"


NEWER: Final = """
import sqlite3
sqlite3.connect("/run/eniplug/state.db").execute("pragma user_version = 99")
"""
"""Give the store a format that only a later version reads."""


LIVES: Final = """
import sqlite3
db = sqlite3.connect("/run/eniplug/state.db")
print(*(life for life, in db.execute("select life from parts")))
"""


def upgrade(
    lab: LabHand, executable: str, *words: str, meanwhile: str = ""
) -> dict[str, str]:
    """Do what the DaemonSet's pod does; a pod comes while no agent is there."""
    command = (sys.executable, "-m", "eniplug.core.cli", "install")
    lab.inside("node1", *command, "--executable", executable, *words)
    lab.run("agent", "stop", "1")
    lab.inside("node1", sys.executable, "-c", meanwhile)
    with ThreadPoolExecutor(1) as runtime:
        added = runtime.submit(lab.add, f"amid-{executable}")
        lab.run("agent", "start", "1")
        return added.result()


@contextmanager
def stream(lab: LabHand, pod: str, address: str) -> Generator[list[str]]:
    """Send a packet each 10 ms; what ping says of them is there at the end."""
    ping = ("ping", "-q", "-i", "0.01", "-w", "300", address)
    command = (sys.executable, "-m", "eniplug.core.cli", "lab", "exec", pod, "--")
    said: list[str] = []
    with subprocess.Popen(
        [*command, *ping],
        env={**os.environ, "ENIPLUG_LAB": lab.names.lab},
        stdout=subprocess.PIPE,
        text=True,
    ) as running:
        try:
            yield said
        finally:
            running.send_signal(signal.SIGINT)  # it is ping by now
            said.append(running.communicate(timeout=30)[0])


def test_no_packet_and_no_pod_is_lost_by_an_upgrade_and_the_way_back() -> None:
    with a_lab("upgrade", nodes=1) as lab:
        pods = lab.add("one", "two")
        end = time.monotonic() + 5
        while lab.inside("node1", sys.executable, "-c", LIVES) != "live live\n":
            assert time.monotonic() < end, "the store does not hear of it"
        with stream(lab, "one", pods["two"]) as said:
            # What the lab has put there is in no record: it is set aside.
            there = upgrade(lab, THERE, "--replace")
            back = upgrade(lab, BACK, meanwhile=NEWER)
            lab.inside("node1", "ping", "-c1", "-W5", *there.values())
            lab.inside("node1", "ping", "-c1", "-W5", *back.values())

        assert "the store is set aside" in lab.log()
        assert len({*pods.values(), *there.values(), *back.values()}) == 4
        assert " 0% packet loss" in said[0], said
        assert int(said[0].partition(" packets transmitted")[0].split()[-1]) > 100
        undone = lab.inside(
            "node1", sys.executable, "-m", "eniplug.core.cli", "install", "--undo"
        )
        assert "put /opt/cni/bin/eniplug back" in undone
