"""What the agent itself takes: its start, memory, processor, and calls of EC2."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from attrs import frozen

from bench.asked import Asked
from bench.kubernetes import api_server
from bench.node import MANY, BenchNode, a_node
from bench.tables import Held, Table
from eniplug.core.cloud import GIVE_BACK_EVERY
from eniplug.core.repair import AUDIT
from eniplug.lab.control import ask

PODS: Final = 250
STARTS: Final = 5
QUICK_STARTS: Final = 2
HELPS: Final = 11
IDLE: Final = AUDIT
"""Seconds: one look at everything, and a dozen of what comes each five seconds."""

QUICK_IDLE: Final = 5.0
QUIET: Final = 1.5
SETTLED_WITHIN: Final = GIVE_BACK_EVERY + 10


@frozen
class Weight:
    """Resident memory in MB, and per cent of one processor while nothing is asked."""

    memory: float
    idle: float


def measure(asked: Asked) -> Iterator[Table]:
    """Start an agent, give it pods and take them again; then with Kubernetes."""
    idle = QUICK_IDLE if asked.quick else IDLE
    count = QUICK_STARTS if asked.quick else STARTS
    more = {"ENIPLUG_MAX_PODS": str(PODS)}
    with a_node(*MANY, environment=more) as node, node.pods(PODS) as pods:
        eniplug = node.native("eniplug", *MANY)
        weights, calls = [_weigh(node, idle)], [_settled(node)]
        eniplug.run("ADD", pods, 10)
        calls.append(_settled(node))
        weights.append(_weigh(node, idle))
        eniplug.run("DEL", pods, 10)
        calls.append(_settled(node, more_than=calls[-1]))
        starts = [_start(node, {}, count)]
        eniplug.run("ADD", pods, 10)
        starts.append(_start(node, {}, count))
        with api_server(node) as kubernetes:
            starts.append(_start(node, kubernetes, count))
            eniplug.run("DEL", pods, 10)
            eniplug.run("ADD", pods, 10)
            weights.append(_weigh(node, idle))
    empty, full, asking = weights
    yield Table(
        title="The agent: prefixes, default warm targets",
        columns=("", "no pods", f"{PODS} pods", f"{PODS} pods, asking Kubernetes"),
        rows=[
            ("resident memory, MB", *(f"{one.memory:.0f}" for one in weights)),
            ("processor when idle, %", *(f"{one.idle:.2f}" for one in weights)),
            ("start to ready, s", *(f"{one:.2f}" for one in starts)),
            ("EC2 calls until there", *_steps(calls), ""),
        ],
        note=f"A start is the median of {count}, with the pods of its column there. "
        f"The calls for no pods are those for the way back from {PODS}. Idle is the "
        f"mean of {idle:.0f} s, in which nothing is asked.",
        held=[
            Held(what="Agent, MB", bound=90, reached=max(empty.memory, full.memory)),
            Held(what="Agent with Kubernetes, MB", bound=115, reached=asking.memory),
            Held(
                what="Agent when idle, % of a processor", bound=0.5, reached=full.idle
            ),
        ],
    )
    helps = [_help() for _ in range(HELPS)]
    wall, processor = (1e3 * median(each) for each in zip(*helps, strict=True))
    yield Table(
        title="The command line",
        columns=("", "p50, ms", "of it processor, ms"),
        rows=[("eniplug --help", f"{wall:.0f}", f"{processor:.0f}")],
        held=[Held(what="eniplug --help, ms", bound=150, reached=wall)],
    )


def _steps(calls: Sequence[int]) -> tuple[str, str]:
    """Tell what going back to no pods took, and before it the way there."""
    before, full, after = calls
    return str(after - full), str(full - before)


def _weigh(node: BenchNode, idle: float) -> Weight:
    pid = node.agent
    time.sleep(QUIET)
    before = _processor(pid)
    time.sleep(idle)
    return Weight(_memory(pid), 100 * (_processor(pid) - before) / idle)


def _start(node: BenchNode, environment: Mapping[str, str], count: int) -> float:
    return median(node.restart(environment) for _ in range(count))


def _memory(pid: int) -> float:
    """Return VmRSS in MB (proc_pid_status(5))."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    (kilobytes,) = (line.split()[1] for line in lines if line.startswith("VmRSS"))
    return int(kilobytes) / 1024


def _processor(pid: int) -> float:
    """Return the seconds that all threads have run (kernel: sched-stats)."""
    stats = Path(f"/proc/{pid}/task").glob("*/schedstat")
    return sum(int(one.read_text().split()[0]) for one in stats) / 1e9


def _calls(node: BenchNode) -> int:
    return sum(ask(node.names, "calls").values())


def _settled(node: BenchNode, more_than: int = -1) -> int:
    """Return the number of calls when it is larger and has not grown for a while."""
    end = time.monotonic() + SETTLED_WITHIN
    calls, since = _calls(node), time.monotonic()
    while time.monotonic() < end and (
        calls <= more_than or time.monotonic() < since + QUIET
    ):
        time.sleep(0.1)
        if (now := _calls(node)) != calls:
            calls, since = now, time.monotonic()
    return calls


def _help() -> tuple[float, float]:
    """Return the seconds of one whole process, and those on the processor."""
    began, before = time.perf_counter(), os.times()
    command = (str(Path(sys.executable).with_name("eniplug")), "--help")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    took, now = time.perf_counter() - began, os.times()
    user = now.children_user - before.children_user
    return took, user + now.children_system - before.children_system
