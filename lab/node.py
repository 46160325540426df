"""A node: a network and a mount namespace, and the agent that runs there."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Collection, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Address
from pathlib import Path

from eniplug.lab import leash, mounts, netns, tools
from eniplug.lab.errors import LabError
from eniplug.lab.fabric import EC2, GATEWAY6
from eniplug.lab.sweep import end_processes

BIN = Path("/opt/cni/bin")
CONFLISTS = Path("/etc/cni/net.d")
CONFLIST = CONFLISTS / "10-eniplug.conflist"
SOCKET = "/run/eniplug/agent.sock"

AGENT = (sys.executable, "-m", "eniplug.core.cli", "agent")
"""The command that is the agent; ``--conflist`` follows where one was chosen."""

IMAGES = {
    "PYTHONMALLOC": "malloc",
    "GLIBC_TUNABLES": "glibc.malloc.hugetlb=1:glibc.malloc.arena_max=1",
}
"""How the image sets memory (deploy/Dockerfile): one heap, in huge pages."""

_PLUGINS = (Path("/usr/lib/cni"), Path("/usr/libexec/cni"))
"""Where distributions keep the CNI project's own plugins."""

NAMES = frozenset({"aws-cni", "egress-cni", "bandwidth"})
"""The other names by which the executable may be run."""

READY_WITHIN = 30.0
STOP_WITHIN = 5.0
_TAIL = 30


class Node:
    """One node of a lab, born with its primary ENI plugged in."""

    def __init__(self, number: int, namespace: str, directory: Path) -> None:
        """Make the node's view of the file system; ``directory`` takes its logs."""
        self.number = number
        self.namespace = namespace
        self.log = directory / "agent.log"
        directory.mkdir(mode=0o755, parents=True, exist_ok=True)
        self.view = mounts.node_view(namespace, directory.parent)
        self.inside = netns.Inside(namespace, self.view, threads=32)
        self._agent: subprocess.Popen[bytes] | None = None
        self._command: tuple[str, ...] = AGENT
        self._environment: dict[str, str] = {}
        self._lock = threading.Lock()

    def boot(
        self, address: IPv4Address, subnet: IPv4Network, address6: IPv6Address | None
    ) -> None:
        """Do what the machine image does at boot: DHCP on ens5, and no more."""
        lines = [
            "link set ens5 up",
            f"addr add {address}/{subnet.prefixlen} dev ens5",
            f"route add default via {subnet[1]} dev ens5",
        ]
        if address6 is not None:
            lines += [
                f"addr add {address6}/128 dev ens5 nodad",
                f"route add {GATEWAY6} dev ens5",
                f"route add ::/0 via {GATEWAY6} dev ens5",
            ]
        settings = {
            "ipv4/ip_forward": 0,
            "ipv4/conf/all/rp_filter": 0,
            "ipv4/conf/default/rp_filter": 0,
            "ipv4/icmp_ratelimit": 0,
        }
        self.inside.call(netns.write, settings)
        self.inside.call(tools.ip, lines)

    def install(self, executable: bytes, types: Collection[str] = ()) -> None:
        """Put the executable, and the plugins that the machine has, into the node.

        ``types`` are those of the conflist's entries: where a name is asked for that
        the executable may have, and no other has it, it is installed by it too.
        """
        self.inside.call(_install, executable, types)

    def prepare(self, command: tuple[str, ...], environment: Mapping[str, str]) -> None:
        """Say how the agent is started, whenever it is."""
        self._command = command
        self._environment = _environment(environment)

    def set(self, environment: Mapping[str, str]) -> None:
        """Change settings of the agent, from its next start on."""
        self._environment |= environment

    @property
    def agent(self) -> int | None:
        """The agent's process id, or None while it does not run."""
        agent = self._agent
        return agent.pid if agent is not None and agent.poll() is None else None

    @property
    def condition(self) -> str:
        """How the agent is, in a word or two."""
        agent = self._agent
        if agent is None:
            return "not started"
        status = agent.poll()
        if status is None:
            return "running"
        return f"killed by signal {-status}" if status < 0 else f"exited with {status}"

    def start(self) -> None:
        """Start the agent, which dies with this process; do not wait for it."""
        with self._lock:
            if self.agent is not None:
                msg = f"the agent of node {self.number} runs already"
                remedy = f"stop it first: eniplug lab agent stop {self.number}"
                raise LabError(msg, remedy)
            self._agent = self.inside.call(self._spawn)

    def _spawn(self) -> subprocess.Popen[bytes]:
        bound = (sys.executable, "-IS", leash.__file__, str(os.getpid()))
        with self.log.open("ab") as log:
            return subprocess.Popen(
                (*bound, *self._command),
                env=self._environment,
                cwd="/",
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )

    def wait(self, within: float = READY_WITHIN) -> None:
        """Wait until the agent has installed its conflist and takes requests.

        Raises LabError with the end of its log when it ends instead, or takes too long.
        """
        deadline = time.monotonic() + within
        while not self.inside.call(_answers):
            if self.agent is None:
                self._fail(f"the agent of node {self.number} {self.condition}")
            if time.monotonic() > deadline:
                self._fail(f"node {self.number}'s agent is not ready in {within} s")
            time.sleep(0.02)

    def _fail(self, what: str) -> None:
        lines = self.log.read_text(errors="replace").splitlines()[-_TAIL:]
        raise LabError("\n".join((what, *lines)))

    def signal(self, number: int, within: float = STOP_WITHIN) -> None:
        """Send the agent a signal; wait for its end, and kill it if it takes long."""
        with self._lock:
            agent = self._agent
            if agent is None or agent.poll() is not None:
                return
            agent.send_signal(number)
            try:
                agent.wait(within)
            except subprocess.TimeoutExpired:
                agent.kill()
                agent.wait(STOP_WITHIN)

    def close(self) -> None:
        """End all that runs here; the namespaces end with their last user."""
        self.signal(signal.SIGKILL)
        end_processes(self.namespace)
        self.inside.close()
        os.close(self.view)


def _install(executable: bytes, types: Collection[str]) -> None:
    target = BIN / "eniplug"
    target.write_bytes(executable)
    target.chmod(0o755)
    for directory in _PLUGINS:
        for plugin in directory.glob("*"):
            if not (BIN / plugin.name).exists():
                (BIN / plugin.name).symlink_to(plugin)
    for name in NAMES.intersection(types):
        if not (BIN / name).exists():
            (BIN / name).symlink_to(target.name)


def _environment(more: Mapping[str, str]) -> dict[str, str]:
    """Return what an agent on EC2 would have, and where this EC2 is.

    There is no home, hence nobody's credentials: they come from IMDS, as on EC2.
    """
    measured = {k: v for k, v in os.environ.items() if k.startswith("COVERAGE_")}
    return {
        "PATH": os.environ.get("PATH", os.defpath),
        "HOME": "/nonexistent",
        **IMAGES,
        "AWS_ENDPOINT_URL_EC2": f"http://{EC2}",
        **measured,
        **more,
    }


def _answers() -> bool:
    """Tell whether the agent has said that it is ready, and listens."""
    if not CONFLIST.exists():
        return False
    for kind in (socket.SOCK_STREAM, socket.SOCK_SEQPACKET):
        with socket.socket(socket.AF_UNIX, kind) as sock:
            try:
                sock.connect(SOCKET)
            except OSError:
                continue
            return True
    return False
