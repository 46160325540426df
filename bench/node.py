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
from eniplug.cni import executable_path
from eniplug.core.kernel import decode, encode_links
from eniplug.core.kernel.graves import GRAVES
from eniplug.core.kernel.netlink import Socket
from eniplug.lab import launch, netns
from eniplug.lab.control import ask
from eniplug.lab.names import Names
from eniplug.lab.node import BIN
from eniplug.lab.plan import Plan

MANY: Final = ("prefix-delegation", "pod-veth", "flat-routes")
LEAN: Final = ("secondary-ip", "pod-veth", "flat-routes")
FULL: Final = (*LEAN, "snat", "bandwidth", "host-ports")
CAPABILITIES: Final = {"bandwidth": True, "portMappings": True}

CALM_WITHIN: Final = 20.0


def entry(*plugins: str) -> dict[str, Any]:
    """Return one entry of ours."""
    listed = list(plugins)
    return {"type": "eniplug", "plugins": listed, "capabilities": CAPABILITIES}


@frozen(kw_only=True)
class BenchNode:
    """The node of a lab.

    ``inside`` is in its network, ``beside`` in a network of its own with the node's
    files: there other plugins work, where no agent hears what they do.
    """

    names: Names
    inside: netns.Inside
    beside: netns.Inside
    agent: int

    @property
    def folder(self) -> Path:
        """Where files lie that are seen inside and outside."""
        return self.names.run

    def native(self, name: str, *plugins: str) -> Contender:
        """Return eniplug with these plugins, by the executable that is installed."""
        return Contender(
            name=name, chain=(entry(*plugins),), host=self.inside, path=BIN
        )

    def python(self, name: str, *plugins: str) -> Contender:
        """Return the same by the executable in Python."""
        path = self.folder / "python"
        path.mkdir(exist_ok=True)
        shutil.copy(executable_path(), path / "eniplug")
        return Contender(
            name=name, chain=(entry(*plugins),), host=self.inside, path=path
        )

    def others(self, name: str, *entries: Mapping[str, Any]) -> Contender:
        """Return a chain of somebody else's executables."""
        return Contender(name=name, chain=entries, host=self.beside, path=BIN)

    def calm(self) -> None:
        """Wait until no dead link is left to be removed."""
        end = time.monotonic() + CALM_WITHIN
        while self.inside.call(_dead_links):
            if time.monotonic() > end:
                raise TimeoutError("dead links are still there")
            time.sleep(0.05)

    @contextmanager
    def pods(self, count: int, prefix: str = "p") -> Generator[Sequence[Pod]]:
        """Make namespaces for so many pods, and remove them at the end."""
        made: list[Pod] = []
        try:
            for number in range(count):
                namespace = self.names.pod(f"{prefix}{number}")
                netns.create(namespace)
                made.append(Pod(number=number, namespace=namespace, folder=self.folder))
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
        launch.up(plan, lambda _: None)
        agent = ask(names, "status")["nodes"][0]["agent"]["pid"]
        with ExitStack() as stack:
            view = os.open(f"/proc/{agent}/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
            stack.callback(os.close, view)
            beside = names.pod("beside")
            netns.create(beside)
            threads = [netns.Inside(one, view) for one in (names.node(1), beside)]
            for one in threads:
                stack.callback(one.close)
            inside, alone = threads
            yield BenchNode(names=names, inside=inside, beside=alone, agent=agent)
    finally:
        launch.down(names)


def _dead_links() -> bool:
    with Socket() as socket:
        links = map(decode.link, socket.dump(encode_links.LOOK_LINKS))
        return any(link.group in GRAVES for link in links)
