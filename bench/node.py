"""A node to measure on: a lab with one of them, and pods' namespaces, made before."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Generator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any, Final

from attrs import frozen

from bench.burst import Contender, Pod
from eniplug.cni import python_executable
from eniplug.cni.conflist import Conflist
from eniplug.core.kernel import Kernel
from eniplug.lab import launch, netns
from eniplug.lab.control import ask
from eniplug.lab.names import Names
from eniplug.lab.node import BIN
from eniplug.lab.plan import Plan

MANY: Final = ("prefix-delegation", "pod-veth", "flat-routes")
LEAN: Final = ("secondary-ip", "pod-veth", "flat-routes")
FULL: Final = (*LEAN, "snat", "bandwidth", "host-ports")
CAPABILITIES: Final = {"bandwidth": True, "portMappings": True}

SETTLE: Final = 0.05


def entry(*plugins: str) -> dict[str, Any]:
    """Return one entry of ours."""
    listed = list(plugins)
    return {"type": "eniplug", "plugins": listed, "capabilities": CAPABILITIES}


def room_for(pods: int) -> dict[str, str]:
    """Return settings by which so many addresses are there before the first pod."""
    return {
        "MINIMUM_IP_TARGET": str(pods),
        "WARM_IP_TARGET": "1",
        "ENIPLUG_MAX_PODS": str(pods),
    }


@frozen(kw_only=True)
class BenchNode:
    """The node of a lab.

    ``inside`` is in its network; ``beside`` and ``against`` are in networks of their
    own with the node's files: there other plugins work, where no agent hears what they
    do, and where the links are theirs alone.
    """

    names: Names
    inside: netns.Inside
    beside: netns.Inside
    against: netns.Inside

    @property
    def folder(self) -> Path:
        """Where files lie that are seen inside and outside."""
        return self.names.run

    @property
    def agent(self) -> int:
        """The agent's process id."""
        return int(ask(self.names, "status")["nodes"][0]["agent"]["pid"])

    def restart(self, environment: Mapping[str, str]) -> float:
        """Stop the agent and start it again; returns seconds from start to ready."""
        ask(self.names, "agent", number=1, do="stop")
        began = time.monotonic()
        ask(self.names, "agent", number=1, do="start", environment=environment)
        return time.monotonic() - began

    def native(self, name: str, *plugins: str) -> Contender:
        """Return eniplug with these plugins, by the executable that is installed."""
        return Contender(
            name=name, chain=(entry(*plugins),), host=self.inside, path=BIN
        )

    def python(self, name: str, *plugins: str) -> Contender:
        """Return the same by the executable in Python."""
        path = self.folder / "python"
        path.mkdir(exist_ok=True)
        program = path / "eniplug"
        program.write_bytes(python_executable())
        program.chmod(0o755)
        return Contender(
            name=name, chain=(entry(*plugins),), host=self.inside, path=path
        )

    def others(self, name: str, *entries: Mapping[str, Any]) -> Contender:
        """Return a chain of the CNI project's executables."""
        return Contender(name=name, chain=entries, host=self.beside, path=BIN)

    def stranger(self, conflist: Conflist, path: Sequence[Path]) -> Contender:
        """Return somebody's conflist, with all executables that ``path`` has.

        They are copied: the node does not see all of the machine's files.
        """
        folder = self.folder / "against"
        folder.mkdir(exist_ok=True)
        for place in reversed(path):  # the first one counts
            for one in place.iterdir():
                if one.is_file() and os.access(one, os.X_OK):
                    shutil.copy(one, folder)
        return Contender(
            name=f"against: {conflist.name}",
            chain=conflist.plugins,
            host=self.against,
            path=folder,
            version=conflist.cni_version,
            network=conflist.name,
        )

    def calm(self) -> float:
        """Remove dead links, which the agent does within two seconds, and settle.

        Returns the seconds of the removal.
        """
        began = time.perf_counter()
        while self.inside.call(Kernel().reap):
            pass
        took = time.perf_counter() - began
        time.sleep(SETTLE)
        return took

    @contextmanager
    def pods(self, count: int, prefix: str = "p") -> Generator[Sequence[Pod]]:
        """Make namespaces for so many pods, and remove them at the end."""
        made: list[Pod] = []
        try:
            for number in range(count):
                namespace = self.names.pod(f"{prefix}{number}")
                netns.create(namespace)
                made.append(Pod(number=number, namespace=namespace))
            yield made
        finally:
            for pod in made:
                netns.remove(pod.namespace)


@contextmanager
def a_node(
    *plugins: str,
    environment: Mapping[str, str],
    instance_type: str = "m5.4xlarge",
    name: str = "",
) -> Generator[BenchNode]:
    """Bring up a lab with one node whose conflist has these plugins."""
    names = Names(f"bench{name}-{os.getpid()}")
    conflist = {"cniVersion": "1.0.0", "name": "vpc", "plugins": [entry(*plugins)]}
    plan = Plan(
        lab=names.lab,
        nodes=1,
        instance_type=instance_type,
        conflist=json.dumps(conflist),
        environment={"IP_COOLDOWN_PERIOD": "0", **environment},
    )
    try:
        up = launch.up(plan, lambda _: None)
        with ExitStack() as stack:
            agent = up["nodes"][0]["agent"]["pid"]
            view = os.open(f"/proc/{agent}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, view)
            places = [names.node(1)]
            for place in ("beside", "against"):
                places.append(names.pod(place))
                netns.create(places[-1])
            threads = [netns.Inside(place, view) for place in places]
            for one in threads:
                stack.callback(one.close)
            inside, beside, against = threads
            yield BenchNode(names=names, inside=inside, beside=beside, against=against)
    finally:
        launch.down(names)
