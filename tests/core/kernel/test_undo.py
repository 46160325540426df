"""All or nothing: an apply that fails at any step leaves nothing behind."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest
from attrs import define

from eniplug.core.kernel import Kernel
from eniplug.core.kernel.encode_links import set_link
from eniplug.core.kernel.netlink import Message, NetlinkError, Socket
from eniplug.hooks import HOST, POD, LinkState, Object, Side, Sysctl
from eniplug.hooks.errors import KernelError
from kit.nodes import World, policy_pod, shaped, six_pod

pytestmark = pytest.mark.root

OBJECTS: tuple[Object, ...] = (
    *policy_pod(1),
    *six_pod(1)[1:],
    *shaped(1),
    LinkState(link="lo", setting="proxy_arp", value=1, side=HOST),
    LinkState(link="lo", setting="mtu", value=1500, side=POD),
    Sysctl(path="net/ipv4/ip_unprivileged_port_start", value="80", side=POD),
    Sysctl(path="net/ipv4/ip_default_ttl", value="63", side=HOST),
)
NO_LINK = 0x7FFFFFF0


@define
class Tally:
    """Counts messages over all sockets; the one numbered ``bad`` is spoilt."""

    bad: int
    seen: int = 0

    def connect(self, protocol: int) -> Socket:
        return Spoiler(self, protocol)


class Spoiler(Socket):
    """Sends a message that the kernel refuses in place of another."""

    def __init__(self, tally: Tally, protocol: int) -> None:
        super().__init__(protocol)
        self._tally = tally

    def send(self, messages: Sequence[Message]) -> dict[int, NetlinkError]:
        sent = list(messages)
        for position in range(len(sent)):
            if self._tally.seen == self._tally.bad:
                sent[position] = set_link(NO_LINK, "up", 1)
            self._tally.seen += 1
        return super().send(sent)


def count_of_messages(world: World) -> int:
    tally = Tally(bad=-1)
    pod = world.pod("count")
    kernel = Kernel(connect=tally.connect)
    kernel.apply(OBJECTS, pod)
    count = tally.seen
    kernel.remove(OBJECTS, pod)
    kernel.reap()
    world.run("sysctl", "-qw", "net.ipv4.ip_default_ttl=64")
    world.run("sysctl", "-qw", "net.ipv4.conf.lo.proxy_arp=0")
    return count


def full_snapshot(world: World) -> list[object]:
    names = ("net.ipv4.ip_default_ttl", "net.ipv4.ip_unprivileged_port_start")
    return [
        [world.snapshot(pod), world.run("sysctl", *names, pod=pod)] for pod in ("", "a")
    ]


def test_a_failure_at_any_step_leaves_nothing(world: World) -> None:
    steps = count_of_messages(world)
    pod = world.pod("a")
    before = full_snapshot(world)

    for bad in range(steps):
        kernel = Kernel(connect=Tally(bad).connect)
        with pytest.raises(KernelError, match="No such device"):
            kernel.apply(OBJECTS, pod, "eniplug/1 abc eth0 vpc")
        assert full_snapshot(world) == before, f"step {bad}"

    kernel = Kernel()
    kernel.apply(OBJECTS, pod)
    assert kernel.check(OBJECTS, pod) == ()
    assert steps > 15


@pytest.mark.parametrize("side", [HOST, POD])
def test_a_sysctl_that_fails_leaves_nothing(
    world: World, kernel: Kernel, side: Side
) -> None:
    pod = world.pod("a")
    before = full_snapshot(world)
    missing = Sysctl(path="net/ipv4/no_such_setting", value="1", side=side)

    with pytest.raises(KernelError, match=f"Sysctl {side} .*No such file"):
        kernel.apply((*OBJECTS, missing), pod)

    assert full_snapshot(world) == before


def test_a_value_that_the_kernel_refuses_is_named(world: World, kernel: Kernel) -> None:
    pod = world.pod("a")
    wrong = Sysctl(path="net/ipv4/ip_default_ttl", value="100000")

    with pytest.raises(KernelError, match="Invalid argument"):
        kernel.apply((wrong,), pod)


def test_a_read_only_proc_sys_is_told_with_its_remedy(
    world: World, tmp_path: Path
) -> None:
    (tmp_path / "net").mkdir()
    (tmp_path / "net/setting").write_text("1\n")
    world.run("mount", "--bind", "-o", "ro", str(tmp_path), str(tmp_path))

    try:
        with pytest.raises(KernelError, match="Read-only") as caught:
            Kernel(proc_sys=tmp_path).apply(
                (Sysctl(path="net/setting", value="2"),), None
            )
    finally:
        world.run("umount", str(tmp_path))

    assert "writable" in caught.value.details
