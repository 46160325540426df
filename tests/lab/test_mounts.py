from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from eniplug.lab import netns
from eniplug.lab.mounts import OWN, node_view
from eniplug.lab.names import Names
from eniplug.lab.sweep import clear
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-mounts")
FILES = [directory / "lf-file" for directory in (*OWN, Path("/run/eniplug"))]


@pytest.fixture
def node() -> Iterator[netns.Inside]:
    clear(NAMES)
    netns.create(NAMES.node(1))
    view = node_view(NAMES.node(1))
    inside = netns.Inside(NAMES.node(1), view)
    try:
        yield inside
    finally:
        inside.close()
        os.close(view)
        clear(NAMES)


def test_a_nodes_files_are_inside_and_not_outside(node: netns.Inside) -> None:
    outside = [sorted(Path(p).iterdir()) for p in ("/etc", "/opt", "/var/lib", "/run")]

    for path in FILES:
        node.call(path.write_text, "inside")

    assert [node.call(path.read_text) for path in FILES] == ["inside"] * len(FILES)
    assert not any(path.exists() for path in FILES)
    after = [sorted(Path(p).iterdir()) for p in ("/etc", "/opt", "/var/lib", "/run")]
    assert after == outside


def test_a_node_starts_with_empty_directories(node: netns.Inside) -> None:
    assert [node.call(os.listdir, path) for path in OWN] == [[]] * len(OWN)


def test_two_nodes_do_not_see_each_others_files(node: netns.Inside) -> None:
    netns.create(NAMES.node(2))
    view = node_view(NAMES.node(2))
    other = netns.Inside(NAMES.node(2), view)
    try:
        for path in FILES:
            node.call(path.write_text, "one")

        assert not any(other.call(path.exists) for path in FILES)
    finally:
        other.close()
        os.close(view)


def test_the_rest_of_the_machine_is_seen_as_it_is(node: netns.Inside) -> None:
    assert node.call(Path("/etc/passwd").read_text) == Path("/etc/passwd").read_text()


def test_namespaces_made_later_are_seen_inside(node: netns.Inside) -> None:
    made = netns.create(NAMES.pod("later"))

    assert node.call(netns.inode, made) == netns.inode(made)
    netns.remove(NAMES.pod("later"))
    assert not node.call(made.exists)


def test_sys_shows_the_nodes_own_links(node: netns.Inside) -> None:
    assert node.call(os.listdir, "/sys/class/net") == ["lo"]


def test_directories_that_were_shared_are_the_machines() -> None:
    shared = Path(f"/run/{NAMES.lab}-lab")
    shared.mkdir()
    netns.create(NAMES.node(3))
    view = node_view(NAMES.node(3), shared)
    inside = netns.Inside(NAMES.node(3), view)
    try:
        inside.call((shared / "log").write_text, "seen")

        assert (shared / "log").read_text() == "seen"
    finally:
        inside.close()
        os.close(view)
        clear(NAMES)


def test_conflist_directories_are_roots_and_closed_to_others(
    node: netns.Inside,
) -> None:
    for directory in OWN:
        found = node.call(os.stat, directory)

        assert (found.st_uid, found.st_mode & 0o022) == (0, 0)
