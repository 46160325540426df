"""An agent's path of an ADD in this process, and the floor under it.

The same parts as in the agent, put together without its threads, cloud and socket; its
store is where it is told, and what the start made is kept from the garbage collector.
"""

from __future__ import annotations

import gc
import json
import os
import socket
import struct
import time
from collections.abc import Generator, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, ip_interface, ip_network
from pathlib import Path
from typing import Final, cast

import structlog
from attrs import define, field

from bench.burst import NETWORK, VERSION, Command, Pod
from bench.node import entry
from eniplug.cni.wire import Request
from eniplug.core.attach import Attachments
from eniplug.core.chains import Chains
from eniplug.core.garbage import freeze
from eniplug.core.kernel import Kernel
from eniplug.core.kernel.home import Home
from eniplug.core.kernel.netlink import Message, NetlinkError, Socket
from eniplug.core.kernel.uapi import NLM_F_ACK, NLM_F_REQUEST
from eniplug.core.log import configure
from eniplug.core.manager import Catalogue
from eniplug.core.parts import AttachmentKey, Part
from eniplug.core.pool import AddressPool
from eniplug.core.report import Reporter
from eniplug.core.requests import Requests
from eniplug.core.settings import Settings
from eniplug.core.state import State
from eniplug.core.store import Store
from eniplug.hooks import Eni, Node, Object
from eniplug.lab import netns, tools

FIRST: Final = IPv4Address("10.0.4.0")
OWN: Final = ip_interface("10.0.1.10/24")

ENI: Final = Eni(
    id="eni-1", link="ens5", mac="02:00:00:00:00:01", device=0, addresses=(OWN,)
)
NODE: Final = Node(
    instance_id="i-1",
    instance_type="m5.large",
    region="us-east-1",
    zone="us-east-1a",
    vpc_cidrs=(ip_network("10.0.0.0/16"),),
    enis=(ENI,),
)


Times = tuple[float, float]


def clocks() -> Times:
    """Read both clocks."""
    return time.perf_counter(), time.thread_time()


@define
class Stages:
    """Where the time goes, stage by stage: on the wall and on the processor; seconds.

    What the processor did for this thread tells more where others use it, too.
    Reading both clocks takes a few µs: where it is not ``fine``, stages are left out.
    """

    fine: bool = True
    took: dict[str, list[Times]] = field(factory=dict)
    _last: Times = (0.0, 0.0)

    def begin(self) -> None:
        """Start the clocks."""
        if self.fine:
            self._last = clocks()

    def end(self, stage: str) -> None:
        """Say what has been done since the last stage ended."""
        if self.fine:
            now = clocks()
            self.note(stage, self._last)
            self._last = now

    def note(self, stage: str, since: Times) -> None:
        """Say what has been done since some time."""
        wall, processor = clocks()
        took = wall - since[0], processor - since[1]
        self.took.setdefault(stage, []).append(took)

    def take(self) -> dict[str, list[Times]]:
        """Return what was noted, and forget it."""
        took, self.took = self.took, {}
        return took


class StagedState(State):
    """State that says when it is at work."""

    stages: Stages

    def begin(self, part: Part) -> Part:
        """See `State.begin`."""
        self.stages.end("… request, hooks, result")
        begun = super().begin(part)
        self.stages.end("… commit")
        return begun


class StagedKernel(Kernel):
    """Kernel that says when it is at work."""

    stages: Stages

    def apply(
        self, objects: Sequence[Object], netns: int | None, alias: str = ""
    ) -> tuple[Object, ...]:
        """See `Kernel.apply`."""
        found = super().apply(objects, netns, alias)
        self.stages.end("… kernel")
        return found


class Workbench:
    """Answers requests as the agent does; made and used inside the host's namespace."""

    def __init__(self, folder: Path, addresses: int, plugins: Sequence[str]) -> None:
        folder.mkdir(exist_ok=True)
        tools.ip(["link add ens5 type veth peer name vpc", f"addr add {OWN} dev ens5"])
        tools.ip(["link set ens5 up"])
        self._log = (folder / "workbench.log").open("w")
        configure()
        structlog.configure(logger_factory=structlog.WriteLoggerFactory(self._log))
        self.stages = Stages()
        pool = AddressPool(0, time.monotonic)
        self._store = Store(folder / "workbench.db")
        self.state = StagedState(self._store, pool, lambda: None)
        self.kernel = StagedKernel()
        self.home = Home()
        self.state.stages = self.kernel.stages = self.stages
        every = [FIRST + number for number in range(addresses)]
        self.state.add_eni(ENI, (addresses, 0), every)
        self._requests = Requests(
            Attachments(self.state, self.kernel, lambda: NODE, lambda: None),
            Chains(Catalogue.from_environ({})),
            lambda _: None,
            cast("Reporter", None),  # only questions and refusals get to it
            Settings(),
        )
        config = {**entry(*plugins), "cniVersion": VERSION, "name": NETWORK}
        self._stdin = json.dumps(config).encode()
        freeze()

    def answer(self, command: Command, pod: Pod) -> None:
        """Carry a request out. Raises RuntimeError when it is refused."""
        with descriptor(pod) as fd:
            request = Request(
                id=os.urandom(16),
                environ=pod.environ(command, Path("/opt/cni/bin")),
                stdin=self._stdin,
                netns=fd,
            )
            began = clocks()
            self.stages.begin()
            status, output, after = self._requests.handle(request, lambda: True)
            if command == "ADD":
                self.stages.end("… answer")
            self.stages.note(command, began)
            after()
        if status:
            raise RuntimeError(output.decode())

    def part(self, pod: Pod) -> Part:
        """Return what a pod was given."""
        (part,) = self.state.parts_of(AttachmentKey(pod.namespace, "eth0"))
        return part

    def close(self) -> None:
        """Close the store and the log."""
        gc.unfreeze()
        self._store.close()
        self._log.close()


@contextmanager
def descriptor(pod: Pod) -> Generator[int]:
    """Open a pod's namespace."""
    fd = os.open(netns.DIRECTORY / pod.namespace, os.O_RDONLY | os.O_CLOEXEC)
    try:
        yield fd
    finally:
        os.close(fd)


# -- the floor -------------------------------------------------------------------------


class Recorder(Socket):
    """Takes messages, and does not send them."""

    def __init__(self, batches: list[tuple[Socket, bytes]]) -> None:
        super().__init__()
        self._batches = batches

    def send(self, messages: Sequence[Message]) -> dict[int, NetlinkError]:
        """Pack a batch as `Socket` would send it."""
        *most, last = messages
        acked = (*most, last._replace(flags=last.flags | NLM_F_ACK))
        self._batches.append((self, b"".join(map(_packed, acked))))
        return {}


def _packed(message: Message) -> bytes:
    kind, flags, body = message
    body += bytes(-len(body) & 3)
    return _HEADER.pack(16 + len(body), kind, flags | NLM_F_REQUEST, 1, 0) + body


def packed(objects: Sequence[Object], alias: str, netns: int) -> list[bytes]:
    """Pack what makes objects: for the host, for the pod, and for the host again."""
    batches: list[tuple[Socket, bytes]] = []
    Kernel(connect=lambda _: Recorder(batches)).apply(objects, netns, alias)
    sockets = [one for one, _ in batches]
    if len(batches) != 3 or sockets[0] is not sockets[2]:  # noqa: PLR2004
        msg = f"these objects take {len(batches)} batches, and not host, pod, host"
        raise ValueError(msg)
    return [data for _, data in batches]


def replay(batches: Sequence[bytes], netns: int, home: Home) -> None:
    """Make the objects with nothing but what the kernel wants."""
    first, middle, last = batches
    with _plain() as host, home.visit(netns, _plain) as pod:
        for one, data in ((host, first), (pod, middle), (host, last)):
            one.send(data)
            if _ERROR.unpack_from(one.recv(1 << 16))[-1]:
                raise RuntimeError("a prepacked message was refused")


def _plain() -> socket.socket:
    return socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, 0)


_HEADER: Final = struct.Struct("=IHHII")
_ERROR: Final = struct.Struct("=IHHIIi")
