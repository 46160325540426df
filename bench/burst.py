"""Chains of executables run for many pods, as a container runtime runs them.

Whole processes are timed: from just before an executable is started until the last one
of the pod's chain has ended.  Files are written, and namespaces made, beforehand.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from attrs import define, field, frozen

from eniplug.lab import netns

Command = Literal["ADD", "DEL"]

VERSION: Final = "1.0.0"
NETWORK: Final = "vpc"
RATE: Final = 1_000_000_000
"""Bits per second, both ways, for a pod that is to be limited."""

FIRST_PORT: Final = 20_000


@define(kw_only=True, eq=False)
class Pod:
    """A pod to be: its namespace, and the result of its last ADD."""

    number: int
    namespace: str
    folder: Path
    result: Mapping[str, Any] | None = None

    @property
    def address(self) -> str:
        """Return its address, once it has one."""
        assert self.result is not None
        return str(self.result["ips"][0]["address"]).partition("/")[0]

    def environ(self, command: Command, path: Path) -> dict[str, str]:
        """Return what a runtime sets, containerd's CNI_ARGS among it."""
        return {
            "CNI_COMMAND": command,
            "CNI_CONTAINERID": self.namespace,
            "CNI_NETNS": str(netns.DIRECTORY / self.namespace),
            "CNI_IFNAME": "eth0",
            "CNI_PATH": str(path),
            "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAMESPACE=bench;"
            f"K8S_POD_NAME={self.namespace};K8S_POD_UID={self.number}",
            "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
        }

    @property
    def asks(self) -> dict[str, Any]:
        """Return what entries with the capability are told: limits, and one port."""
        rates = {f"{way}gressRate": RATE for way in ("in", "e")}
        bursts = {f"{way}gressBurst": RATE for way in ("in", "e")}
        port = {"hostPort": FIRST_PORT + self.number, "containerPort": 80}
        return {
            "bandwidth": rates | bursts,
            "portMappings": [{**port, "protocol": "tcp"}],
        }


@frozen(kw_only=True)
class Contender:
    """A chain, and where it runs: ``path`` has the executables that it names."""

    name: str
    chain: Sequence[Mapping[str, Any]]
    host: netns.Inside
    path: Path

    def run(self, command: Command, pods: Sequence[Pod], at_once: int) -> Took:
        """Run the chain for all pods, ``at_once`` side by side."""
        jobs = [_Job(self, command, pod) for pod in pods]
        whole = self.host.call(_run, jobs, at_once)
        return Took([job.took for job in jobs], whole)

    def add_amid(self, pods: Sequence[Pod], dying: Sequence[Pod]) -> Sequence[float]:
        """Add pods one by one while as many are removed; returns each ADD's seconds."""
        adds = [_Job(self, "ADD", pod) for pod in pods]
        dels = [_Job(self, "DEL", pod) for pod in dying]
        both = zip(adds, dels, strict=True)
        self.host.call(_run, [job for pair in both for job in pair], 2)
        return [job.took for job in adds]


@frozen
class Took:
    """How long each pod took, and all together; seconds."""

    each: Sequence[float]
    whole: float


@define(eq=False)
class _Job:
    """One pod's way through a chain."""

    contender: Contender
    command: Command
    pod: Pod
    began: float = 0.0
    took: float = 0.0
    _entries: Iterator[Mapping[str, Any]] = field(init=False)
    _environ: Mapping[str, str] = field(init=False)
    _stdin: Path = field(init=False)
    _stdout: Path = field(init=False)
    _program: str = field(init=False, default="")

    def __attrs_post_init__(self) -> None:
        chain = self.contender.chain
        self._entries = iter(chain if self.command == "ADD" else reversed(chain))
        self._environ = self.pod.environ(self.command, self.contender.path)
        stem = self.pod.folder / self.pod.namespace
        self._stdin = stem.with_suffix(".in")
        self._stdout = stem.with_suffix(".out")
        if self.command == "ADD":
            self.pod.result = None
        self.prepare()

    def prepare(self) -> bool:
        """Write the next executable's configuration; False when there is none."""
        entry = next(self._entries, None)
        if entry is None:
            return False
        conf = {**entry, "cniVersion": VERSION, "name": NETWORK}
        able = conf.pop("capabilities", {})
        conf["runtimeConfig"] = {k: v for k, v in self.pod.asks.items() if k in able}
        if self.pod.result is not None:
            conf["prevResult"] = self.pod.result
        self._stdin.write_text(json.dumps(conf))
        self._program = str(self.contender.path / conf["type"])
        return True

    def start(self) -> int:
        """Start an executable; returns its process id."""
        new = os.O_WRONLY | os.O_CREAT | os.O_TRUNC
        files = [
            (os.POSIX_SPAWN_OPEN, 0, str(self._stdin), os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, str(self._stdout), new, 0o600),
        ]
        return os.posix_spawn(
            self._program, [self._program], self._environ, file_actions=files
        )

    def end(self, status: int) -> None:
        """Take an executable's result. Raises RuntimeError when it failed."""
        said = self._stdout.read_text()
        if status:
            msg = f"{self._program} {self.command} for {self.pod.namespace}: {said}"
            raise RuntimeError(msg)
        if self.command == "ADD":
            self.pod.result = json.loads(said)


def _run(jobs: Sequence[_Job], at_once: int) -> float:
    """Start and await, in one thread: it is the node's.  Returns seconds."""
    coming = iter(jobs)
    running: dict[int, _Job] = {}
    began = time.perf_counter()
    while True:
        while len(running) < at_once and (job := next(coming, None)) is not None:
            job.began = time.perf_counter()
            running[job.start()] = job
        if not running:
            return time.perf_counter() - began
        pid, status = os.wait()
        now = time.perf_counter()
        ended = running.pop(pid, None)
        if ended is None:
            continue  # an earlier lab
        job = ended
        job.end(status)
        if job.prepare():
            running[job.start()] = job
        else:
            job.took = now - job.began
