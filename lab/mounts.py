"""A node's own view of the file system.

A node has directories of its own, empty at birth, at the places where every node has
them, and nothing of them is to be seen outside: they lie in memory, mounted in a mount
namespace that ends with its last user.
"""

from __future__ import annotations

import os
from pathlib import Path

from eniplug.lab import netns
from eniplug.lab.errors import LabError

OWN = (
    Path("/opt/cni/bin"),
    Path("/etc/cni/net.d"),
    Path("/var/lib/eniplug"),
    Path("/var/lib/cni"),
)
"""What a node does not share with the machine, besides all of /run."""

_RUN = Path("/run")
_LAYERS = _RUN / "overlay"
_CGROUPS = Path("/sys/fs/cgroup")


def node_view(namespace: str, *shared: Path) -> int:
    """Make a mount namespace for a node and return a descriptor of it.

    ``namespace`` is the node's network namespace, which decides what /sys/class/net
    shows.  ``shared`` are directories below /run that the node sees as they are
    outside; /run/netns is always one, and namespaces made later appear in it.
    """
    return netns.apart(_build, namespace, (netns.DIRECTORY, *shared))


def _build(namespace: str, shared: tuple[Path, ...]) -> int:
    netns.enter(namespace)
    netns.unshare(netns.CLONE_NEWNS)
    netns.mount("", "/", flags=netns.MS_REC | netns.MS_SLAVE)
    _renew("/sys", "sysfs", [_CGROUPS] if _CGROUPS.is_dir() else [])
    _renew("/run", "tmpfs", list(shared), data="mode=755")
    (_RUN / "eniplug").mkdir(mode=0o700)
    for path in OWN:
        _own(path)
    return os.open("/proc/thread-self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)


def _renew(target: str, kind: str, kept: list[Path], data: str = "") -> None:
    """Cover a directory with a fresh file system in which ``kept`` shine through."""
    held = [(os.open(path, os.O_PATH | os.O_CLOEXEC), path) for path in kept]
    netns.mount(kind, target, kind, data=data)
    for fd, path in held:
        path.mkdir(parents=True, exist_ok=True)
        source = f"/proc/self/fd/{fd}"
        netns.mount(source, str(path), flags=netns.MS_BIND | netns.MS_REC)
        os.close(fd)


def _own(path: Path) -> None:
    """Give the node an empty directory, also where the machine has none at all."""
    if path.is_dir():
        netns.mount("tmpfs", str(path), "tmpfs", data="mode=755")
        return
    above = next(parent for parent in path.parents if parent.is_dir())
    layer = _LAYERS / str(above).strip("/").replace("/", "-")
    if not layer.exists():
        try:
            _overlay(above, layer)
        except OSError as error:
            msg = f"cannot give a node its own {path}: {error.strerror}"
            remedy = f"load the kernel module overlay, or create an empty {path}"
            raise LabError(msg, remedy) from error
    path.mkdir(mode=0o755, parents=True)


def _overlay(directory: Path, layer: Path) -> None:
    upper, work = layer / "upper", layer / "work"
    for part in (upper, work):
        part.mkdir(mode=0o755, parents=True)
    upper.chmod(directory.stat().st_mode & 0o7777)
    data = f"lowerdir={directory},upperdir={upper},workdir={work}"
    netns.mount("overlay", str(directory), "overlay", data=data)
