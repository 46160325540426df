"""What the agent itself takes: its start, memory, processor, and calls of EC2."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from bench.node import MANY, BenchNode, a_node
from bench.tables import Table
from eniplug.lab.control import ask

PODS: Final = 250
IDLE: Final = 5.0
QUIET: Final = 2.0
QUIET_WITHIN: Final = 60.0
HOLD: Final = 90
"""MB that the agent may have."""


def measure(rounds: int) -> Iterator[Table]:
    """Start an agent, give it pods and take them again."""
    count = PODS if rounds > 5 else PODS // 5  # noqa: PLR2004
    more = {"ENIPLUG_MAX_PODS": str(PODS)}
    with a_node(*MANY, environment=more) as node, node.pods(count) as pods:
        empty = node.agent
        eniplug = node.native("eniplug", *MANY)
        memory, idle = _memory(empty), _idle(empty)
        calls = _calls(node)
        eniplug.run("ADD", pods, 10)
        full_calls = _settled(node)
        full, full_idle = _memory(empty), _idle(empty)
        eniplug.run("DEL", pods, 10)
        last_calls = _settled(node)
        ask(node.names, "agent", number=1, do="stop")
        began = time.monotonic()
        ask(node.names, "agent", number=1, do="start")
        start = time.monotonic() - began
    yield Table(
        title="The agent: prefixes, default warm targets",
        columns=("", "no pods", f"{count} pods", "none again"),
        rows=[
            ("resident memory, MB", f"{memory:.0f}", f"{full:.0f}", ""),
            ("processor when idle, %", f"{idle:.1f}", f"{full_idle:.1f}", ""),
            (
                "EC2 calls from there to here",
                "",
                f"{full_calls - calls}",
                f"{last_calls - full_calls}",
            ),
            ("start to ready, s", "", "", f"{start:.2f}"),
        ],
        hold=f"To hold: at most {HOLD} MB. Reached: {max(memory, full):.0f}.",
    )


def _memory(pid: int) -> float:
    """Return VmRSS in MB (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(kilobytes) / 1024


def _processor(pid: int) -> float:
    """Return utime and stime in seconds (proc_pid_stat(5))."""
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def _idle(pid: int) -> float:
    """Return the per cent of one processor that it takes while nothing is asked."""
    time.sleep(QUIET)
    before = _processor(pid)
    time.sleep(IDLE)
    return 100 * (_processor(pid) - before) / IDLE


def _calls(node: BenchNode) -> int:
    return sum(ask(node.names, "calls").values())


def _settled(node: BenchNode) -> int:
    """Return the number of calls when it has not grown for a while."""
    end = time.monotonic() + QUIET_WITHIN
    calls, since = _calls(node), time.monotonic()
    while time.monotonic() < min(end, since + QUIET):
        time.sleep(0.1)
        if (now := _calls(node)) != calls:
            calls, since = now, time.monotonic()
    return calls
