"""Chains of executables run for many pods, as a container runtime runs them.

Whole processes are timed, by `runtime.c`: from just before an executable is started
until the last one of the pod's chain has ended.  Namespaces are made, and what
executables read is written, beforehand.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

from attrs import define, frozen

from bench.compiled import program
from eniplug.lab import netns

Command = Literal["ADD", "DEL", "VERSION"]

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


@frozen
class Took:
    """How long each pod took, and all together; seconds."""

    each: Sequence[float]
    whole: float


@frozen(kw_only=True)
class Contender:
    """A chain, and where it runs: ``path`` has the executables that it names."""

    name: str
    chain: Sequence[Mapping[str, Any]]
    host: netns.Inside
    path: Path
    version: str = VERSION
    network: str = NETWORK

    def run(self, command: Command, pods: Sequence[Pod], at_once: int) -> Took:
        """Run the chain for all pods, ``at_once`` side by side.

        Raises RuntimeError when an executable fails.
        """
        return self._carry_out([(command, pod) for pod in pods], at_once)

    def add_amid(self, pods: Sequence[Pod], dying: Sequence[Pod]) -> Sequence[float]:
        """Add pods one by one while as many are removed; returns each ADD's seconds."""
        adds: list[_Job] = [("ADD", pod) for pod in pods]
        dels: list[_Job] = [("DEL", pod) for pod in dying]
        jobs = [job for pair in zip(adds, dels, strict=True) for job in pair]
        return self._carry_out(jobs, 2).each[::2]

    def _carry_out(self, jobs: Sequence[_Job], at_once: int) -> Took:
        texts = [list(self._lines(*job)) for job in jobs]
        steps = len(self.chain)
        sizes = [at_once, len(jobs), steps, len(texts[0]) - 2 * steps]
        done = self.host.call(
            subprocess.run,
            [program("runtime"), *map(str, sizes)],
            input="".join(f"{line}\n" for text in texts for line in text).encode(),
            stdout=subprocess.PIPE,
            check=True,
        )
        whole, *told = done.stdout.decode().splitlines()
        each: list[float] = []
        for job, at in zip(jobs, range(0, len(told), 3), strict=True):
            took, status, said = told[at : at + 3]
            self._end(*job, int(status), said)
            each.append(int(took) / 1e9)
        return Took(each, int(whole) / 1e9)

    def _lines(self, command: Command, pod: Pod) -> Iterator[str]:
        """Yield what `runtime.c` is told of a pod."""
        for name, value in pod.environ(command, self.path).items():
            yield f"{name}={value}"
        order = reversed(self.chain) if command == "DEL" else self.chain
        for step, entry in enumerate(order):
            yield str(self.path / entry["type"])
            conf = {**entry, "cniVersion": self.version, "name": self.network}
            able = conf.pop("capabilities", {})
            conf["runtimeConfig"] = {k: v for k, v in pod.asks.items() if k in able}
            if command == "DEL":
                conf["prevResult"] = pod.result
            text = json.dumps(conf)
            fed = command == "ADD" and step > 0
            yield f'{text[:-1]}, "prevResult": ' if fed else text

    def _end(self, command: Command, pod: Pod, status: int, said: str) -> None:
        if status:
            msg = f"{self.name}: {command} for {pod.namespace}: {said}"
            raise RuntimeError(msg)
        if command != "VERSION":
            pod.result = json.loads(said) if command == "ADD" else None


_Job = tuple[Command, Pod]
