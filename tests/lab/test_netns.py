from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from eniplug.lab import netns
from eniplug.lab.names import Names
from eniplug.lab.sweep import clear
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-netns")
ONE = NAMES.node(1)


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    clear(NAMES)
    yield
    clear(NAMES)


def test_a_new_namespace_is_one_that_ip_netns_knows() -> None:
    netns.create(ONE)

    command = ["ip", "netns", "exec", ONE, "ip", "-br", "link"]
    links = subprocess.check_output(command, text=True).splitlines()
    assert [line.split()[0] for line in links] == ["lo"]
    assert "LOOPBACK,UP" in links[0]


def test_a_name_is_given_once() -> None:
    netns.create(ONE)

    with pytest.raises(FileExistsError):
        netns.create(ONE)


def test_a_second_removal_is_quiet() -> None:
    netns.create(ONE)

    netns.remove(ONE)
    netns.remove(ONE)

    assert ONE not in netns.names()


def test_namespaces_made_side_by_side_all_go_again() -> None:
    spaces = [NAMES.node(number) for number in range(1, 17)]

    with ThreadPoolExecutor(8) as threads:
        list(threads.map(netns.create, spaces))
    made = [space for space in netns.names() if NAMES.owns(space)]
    clear(NAMES)

    assert sorted(made) == sorted(spaces)
    assert NAMES.lab not in Path("/proc/self/mountinfo").read_text()


def test_what_is_opened_inside_stays_inside() -> None:
    netns.create(ONE)
    outside = netns.inode("/proc/self/ns/net")
    inside = netns.Inside(ONE)
    try:
        here = inside.call(netns.inode, "/proc/thread-self/ns/net")
        server = inside.call(socket.create_server, ("127.0.0.1", 0))
        with server, pytest.raises(ConnectionRefusedError):
            socket.create_connection(server.getsockname(), 1)
    finally:
        inside.close()

    assert here == netns.inode(netns.DIRECTORY / ONE)
    assert outside == netns.inode("/proc/self/ns/net") != here


def test_an_error_inside_arrives_outside() -> None:
    netns.create(ONE)
    inside = netns.Inside(ONE)
    try:
        with pytest.raises(FileNotFoundError):
            inside.call(os.stat, "/nowhere")
    finally:
        inside.close()
