from __future__ import annotations

import os
import subprocess
import sys
import threading
import time

import pytest

from eniplug.core.kernel import Kernel
from eniplug.core.kernel.graves import GRAVES, IN_ONE
from eniplug.core.kernel.reaper import Reaper
from eniplug.hooks.errors import KernelError
from kit.nodes import World, flat_pod


@pytest.mark.root
def test_the_dead_lie_in_many_small_groups(kernel: Kernel, world: World) -> None:
    pods = IN_ONE + 2
    for number in range(pods):
        kernel.apply(flat_pod(number), world.pod(f"p{number}"))

    for number in range(pods):
        kernel.remove(flat_pod(number), None)

    groups = [link.group for link in kernel.links().values() if link.name != "lo"]
    assert sorted(groups.count(group) for group in set(groups)) == [2, IN_ONE]
    assert kernel.reap() is True
    assert set(kernel.links()) == {"lo"}
    assert kernel.reap() is False


@pytest.mark.root
def test_the_living_are_not_reaped(kernel: Kernel, world: World) -> None:
    pod, dead = world.pod("a"), world.pod("b")
    kernel.apply(flat_pod(1), pod)
    kernel.apply(flat_pod(2), dead)
    kernel.remove(flat_pod(2), dead)

    kernel.reap()

    assert kernel.check(flat_pod(1), pod) == ()


@pytest.mark.root
def test_a_link_that_cannot_be_deleted_does_not_keep_the_others(
    kernel: Kernel, world: World
) -> None:
    kernel.apply(flat_pod(), world.pod("a"))
    kernel.remove(flat_pod(), None)
    world.run("ip", "link", "set", "lo", "group", str(GRAVES[0]))

    kernel.reap()

    assert set(kernel.links()) == {"lo"}


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from eniplug.core.kernel import Kernel
from kit.nodes import flat_pod
kernel = Kernel()
kernel.apply(flat_pod(), int(sys.argv[1]))
kernel.remove(flat_pod(), None)
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.root
def test_what_a_killed_agent_left_is_found_at_the_start(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    tests = os.path.abspath(f"{__file__}/../../..")
    command = [sys.executable, "-c", KILLED, str(pod), tests]
    subprocess.run(command, pass_fds=[pod], timeout=20)
    assert len(kernel.links()) == 2
    reaper = Reaper(kernel.reap)

    reaper.start()

    end = time.monotonic() + 5
    while len(kernel.links()) > 1:
        assert time.monotonic() < end
        time.sleep(0.005)
    reaper.stop()


class Bell:
    """A reap that notes when it was called."""

    def __init__(self) -> None:
        self.times: list[float] = []
        self.rung = threading.Condition()

    def __call__(self) -> bool:
        with self.rung:
            self.times.append(time.monotonic())
            self.rung.notify_all()
        return True

    def wait(self, count: int) -> None:
        with self.rung:
            assert self.rung.wait_for(lambda: len(self.times) >= count, 5)


def test_the_dead_are_reaped_a_while_after_the_last_funeral() -> None:
    bell = Bell()
    reaper = Reaper(bell, quiet=0.1, limit=5)
    reaper.start()
    bell.wait(1)

    reaper.wake()
    last = time.monotonic()
    reaper.wake()
    bell.wait(2)
    reaper.stop()

    assert bell.times[1] - last >= 0.1
    assert len(bell.times) == 2


def test_funerals_without_end_do_not_put_it_off_for_ever() -> None:
    bell = Bell()
    reaper = Reaper(bell, quiet=5, limit=0.1)
    reaper.start()
    bell.wait(1)

    first = time.monotonic()
    reaper.wake()
    bell.wait(2)
    reaper.stop()

    assert 0.1 <= bell.times[1] - first < 5


def test_an_error_does_not_end_the_reaper() -> None:
    bell = Bell()

    def failing() -> bool:
        bell()
        raise KernelError("refused")

    reaper = Reaper(failing, quiet=0.01, limit=0.02)
    reaper.start()
    bell.wait(1)

    reaper.wake()

    bell.wait(2)
    reaper.stop()


def test_stopping_does_not_wait_for_the_dead() -> None:
    bell = Bell()
    reaper = Reaper(bell, quiet=60, limit=60)
    reaper.start()
    bell.wait(1)
    reaper.wake()

    begin = time.monotonic()
    reaper.stop()

    assert time.monotonic() - begin < 5
    assert len(bell.times) == 1
