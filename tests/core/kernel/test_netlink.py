from __future__ import annotations

import errno
import os
import subprocess
import sys
from ipaddress import ip_network
from pathlib import Path

import pytest

from eniplug.core.kernel import encode, encode_links, uapi
from eniplug.core.kernel.netlink import (
    AT_ONCE,
    Message,
    NetlinkError,
    Socket,
    check_netns,
    inside,
)
from eniplug.hooks import Route
from eniplug.hooks.errors import NetnsError
from kit.nodes import GATEWAY, World

pytestmark = pytest.mark.root

LO_UP = encode_links.set_link(1, "up", 1)
NO_LINK = encode_links.set_link(0x7FFFFFF0, "up", 1)


def test_refusals_are_told_by_position_and_the_rest_is_done(world: World) -> None:
    with Socket() as socket:
        refused = socket.send(
            [NO_LINK, encode_links.set_link(1, "mtu", 1600), NO_LINK, LO_UP]
        )

    assert {at: error.errno for at, error in refused.items()} == {
        0: errno.ENODEV,
        2: errno.ENODEV,
    }
    assert world.ip("link", "show", "lo")[0]["mtu"] == 1600


def test_a_refused_last_message_is_told_too(world: World) -> None:
    del world
    with Socket() as socket:
        assert list(socket.send([LO_UP, NO_LINK])) == [1]
        assert socket.send([LO_UP]) == {}
        assert socket.send([]) == {}


def test_a_batch_may_be_refused_whole_however_long_it_is(world: World) -> None:
    del world
    many = 40 * AT_ONCE + 1

    with Socket() as socket:
        refused = socket.send([NO_LINK] * many)

    assert list(refused) == list(range(many))


def test_an_error_has_the_kernels_own_words(world: World) -> None:
    del world
    route = Route(destination=ip_network("10.0.0.0/8"), link="lo", src=GATEWAY)

    with Socket() as socket:
        (error,) = socket.send([encode.create(route, lambda _: 1)]).values()

    assert error.errno == errno.EINVAL
    assert error.words == "Invalid argument (Invalid prefsrc address)"


def test_one_thing_is_asked_for_and_absence_is_an_error(world: World) -> None:
    del world
    with Socket() as socket:
        assert b"lo\0" in socket.get(encode_links.look_link("lo"))
        with pytest.raises(NetlinkError) as caught:
            socket.get(encode_links.look_link("none"))

    assert caught.value.errno == errno.ENODEV


def test_a_refused_dump_is_an_error_and_the_socket_still_works(world: World) -> None:
    del world
    wrong = Message(uapi.RTM_GETROUTE, 0, b"\2" + b"\xff" * 11)

    with Socket() as socket:
        with pytest.raises(NetlinkError):
            socket.dump(wrong)
        assert len(socket.dump(encode_links.LOOK_LINKS)) == 1


def test_work_inside_a_namespace_comes_back(world: World) -> None:
    pod = world.pod("a")
    home = os.stat("/proc/thread-self/ns/net").st_ino

    there = inside(pod, lambda: os.stat("/proc/thread-self/ns/net").st_ino)

    assert there == os.fstat(pod).st_ino
    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_work_inside_comes_back_after_an_error(world: World) -> None:
    pod = world.pod("a")
    home = os.stat("/proc/thread-self/ns/net").st_ino

    with pytest.raises(ZeroDivisionError):
        inside(pod, lambda: 1 // 0)

    assert os.stat("/proc/thread-self/ns/net").st_ino == home


def test_what_is_no_namespace_cannot_be_entered(tmp_path: Path) -> None:
    with (tmp_path / "file").open("w") as file, pytest.raises(OSError, match="setns"):
        inside(file.fileno(), lambda: None)


WITHOUT_WAY_BACK = """
import os, sys
from eniplug.core.kernel import netlink

def lose_root():
    os.setresuid(65534, 65534, 65534)

netlink.inside(int(sys.argv[1]), lose_root)
print("went on")
"""


def test_the_process_ends_when_there_is_no_way_back(world: World) -> None:
    pod = world.pod("a")

    done = subprocess.run(
        [sys.executable, "-c", WITHOUT_WAY_BACK, str(pod)],
        pass_fds=[pod],
        capture_output=True,
        text=True,
        timeout=20,
    )

    assert done.returncode == os.EX_SOFTWARE
    assert "no way back" in done.stderr
    assert "went on" not in done.stdout


def test_a_pods_namespace_passes_the_check(world: World) -> None:
    check_netns(world.pod("a"))


def test_our_own_namespace_is_refused(world: World) -> None:
    del world
    fd = os.open("/proc/thread-self/ns/net", os.O_RDONLY)
    try:
        with pytest.raises(NetnsError, match="of the agent itself"):
            check_netns(fd)
    finally:
        os.close(fd)


@pytest.mark.parametrize("path", ["/dev/null", "/proc/self/ns/mnt", "/", "/proc/stat"])
def test_what_is_no_network_namespace_is_refused(path: str) -> None:
    fd = os.open(path, os.O_RDONLY)
    try:
        with pytest.raises(NetnsError, match=r"no.* network namespace"):
            check_netns(fd)
    finally:
        os.close(fd)


def test_a_closed_descriptor_is_refused() -> None:
    fd = os.open("/dev/null", os.O_RDONLY)
    os.close(fd)

    with pytest.raises(NetnsError):
        check_netns(fd)
