"""What the agent itself takes: its start, memory, processor, and calls of EC2."""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from statistics import median
from typing import Final

from attrs import frozen

from bench.asked import Asked
from bench.kubernetes import api_server
from bench.node import MANY, BenchNode, a_node
from bench.tables import Held, Table
from eniplug.lab.control import ask

PODS: Final = 250
STARTS: Final = 5
HELPS: Final = 11
IDLE: Final = 10.0
QUICK_IDLE: Final = 3.0
QUIET: Final = 2.0
QUIET_WITHIN: Final = 60.0


@frozen
class Weight:
    """Resident memory in MB, and per cent of one processor while nothing is asked."""

    memory: float
    idle: float


def measure(asked: Asked) -> Iterator[Table]:
    """Start an agent, give it pods and take them again; then with Kubernetes."""
    idle = QUICK_IDLE if asked.quick else IDLE
    more = {"ENIPLUG_MAX_PODS": str(PODS)}
    with a_node(*MANY, environment=more) as node, node.pods(PODS) as pods:
        eniplug = node.native("eniplug", *MANY)
        calls = [_settled(node)]
        starts = [_start(node, {})]
        weights = [_weigh(node, idle)]
        eniplug.run("ADD", pods, 10)
        calls.append(_settled(node))
        weights.append(_weigh(node, idle))
        starts.append(_start(node, {}))
        with api_server(node) as kubernetes:
            starts.append(_start(node, kubernetes))
            eniplug.run("DEL", pods, 10)
            eniplug.run("ADD", pods, 10)
            _settled(node)
            weights.append(_weigh(node, idle))
            before = _calls(node)
            eniplug.run("DEL", pods, 10)
            back = _settled(node) - before
    empty, full, asking = weights
    yield Table(
        title="The agent: prefixes, default warm targets",
        columns=("", "no pods", f"{PODS} pods", f"{PODS} pods, asking Kubernetes"),
        rows=[
            ("resident memory, MB", *(f"{one.memory:.0f}" for one in weights)),
            ("processor when idle, %", *(f"{one.idle:.2f}" for one in weights)),
            ("start to ready, s", *(f"{one:.2f}" for one in starts)),
            (f"EC2 calls for 0 → {PODS} → 0 pods", "", *_went(calls, back)),
        ],
        note=f"A start is the median of {STARTS}, with the pods of its column there.",
        held=[
            Held(what="Agent, MB", bound=90, reached=max(empty.memory, full.memory)),
            Held(what="Agent with Kubernetes, MB", bound=115, reached=asking.memory),
            Held(
                what="Agent when idle, % of a processor", bound=0.5, reached=full.idle
            ),
        ],
    )
    took = 1e3 * median(_help() for _ in range(HELPS))
    yield Table(
        title="The command line",
        columns=("", "p50, ms"),
        rows=[("eniplug --help", f"{took:.0f}")],
        held=[Held(what="eniplug --help, ms", bound=150, reached=took)],
    )


def _went(calls: list[int], back: int) -> tuple[str, str]:
    return f"{calls[1] - calls[0]} there", f"{back} back"


def _weigh(node: BenchNode, idle: float) -> Weight:
    pid = node.agent
    time.sleep(QUIET)
    before = _processor(pid)
    time.sleep(idle)
    return Weight(_memory(pid), 100 * (_processor(pid) - before) / idle)


def _start(node: BenchNode, environment: Mapping[str, str]) -> float:
    return median(node.restart(environment) for _ in range(STARTS))


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


def _settled(node: BenchNode) -> int:
    """Return the number of calls when it has not grown for a while."""
    end = time.monotonic() + QUIET_WITHIN
    calls, since = _calls(node), time.monotonic()
    while time.monotonic() < min(end, since + QUIET):
        time.sleep(0.1)
        if (now := _calls(node)) != calls:
            calls, since = now, time.monotonic()
    return calls


def _help() -> float:
    """Return the seconds of one whole process."""
    began = time.perf_counter()
    command = (str(Path(sys.executable).with_name("eniplug")), "--help")
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began
