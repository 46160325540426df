"""Named network namespaces, as `ip netns` keeps them, and threads that live in them.

A namespace belongs to a thread: whatever a thread that has entered one opens or
starts stays there, while the process stays outside.
"""

from __future__ import annotations

import ctypes
import errno
import fcntl
import os
import socket
import struct
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")

DIRECTORY = Path("/run/netns")
"""Where `ip netns` looks for namespaces (ip-netns(8))."""

CLONE_FS = 0x00000200
CLONE_NEWNS = 0x00020000
CLONE_NEWNET = 0x40000000

MS_BIND = 0x1000
MS_REC = 0x4000
MS_SLAVE = 0x80000
MS_SHARED = 0x100000
MNT_DETACH = 2

_SIOCGIFFLAGS = 0x8913
_SIOCSIFFLAGS = 0x8914
_IFF_UP = 1

_libc = ctypes.CDLL(None, use_errno=True)


def _checked(result: int, what: str) -> None:
    if result:
        code = ctypes.get_errno()
        raise OSError(code, f"{what}: {os.strerror(code)}")


def unshare(flags: int) -> None:
    """Give the calling thread namespaces of its own (unshare(2))."""
    _checked(_libc.unshare(flags), "unshare")


def setns(fd: int, kind: int) -> None:
    """Move the calling thread into a namespace (setns(2))."""
    _checked(_libc.setns(fd, kind), "setns")


def mount(
    source: str, target: str, kind: str = "", flags: int = 0, data: str = ""
) -> None:
    """Mount in the calling thread's mount namespace (mount(2))."""
    words = (source.encode(), target.encode(), kind.encode())
    result = _libc.mount(*words, ctypes.c_ulong(flags), data.encode())
    _checked(result, f"mount {kind or source} on {target}")


def enter(net: str | int | None, mnt: int | None = None) -> None:
    """Move the calling thread into a network and a mount namespace.

    ``net`` is a namespace's name or a descriptor, ``mnt`` a descriptor.
    """
    if isinstance(net, str):
        fd = os.open(DIRECTORY / net, os.O_RDONLY | os.O_CLOEXEC)
        try:
            setns(fd, CLONE_NEWNET)
        finally:
            os.close(fd)
    elif net is not None:
        setns(net, CLONE_NEWNET)
    if mnt is not None:
        unshare(CLONE_FS)
        setns(mnt, CLONE_NEWNS)


def apart(function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
    """Call a function in a thread of its own, which ends with it."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(function, *args, **kwargs).result()


class Inside:
    """Threads that have entered a namespace and stay there until `close`.

    Processes that they start may be told to die with their parent: the threads live
    as long as this object.
    """

    def __init__(self, net: str, mnt: int | None = None, threads: int = 1) -> None:
        self._threads = ThreadPoolExecutor(
            threads, thread_name_prefix=net, initializer=enter, initargs=(net, mnt)
        )

    def call(self, function: Callable[P, R], *args: P.args, **kwargs: P.kwargs) -> R:
        """Call a function inside and return what it returns."""
        return self._threads.submit(function, *args, **kwargs).result()

    def close(self) -> None:
        """Let the threads finish what they do, and end them."""
        self._threads.shutdown()


def _share_directory() -> None:
    """Make the directory a shared mount, so that later namespaces are seen in nodes.

    This is what `ip netns add` does (create_netns_dir and on_netns_add in iproute2).
    """
    DIRECTORY.mkdir(mode=0o755, exist_ok=True)
    path = str(DIRECTORY)
    lock = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX)  # `ip netns add` takes it, too
        try:
            mount("", path, flags=MS_SHARED | MS_REC)
        except OSError as error:
            if error.errno != errno.EINVAL:
                raise
            mount(path, path, flags=MS_BIND | MS_REC)
            mount("", path, flags=MS_SHARED | MS_REC)
    finally:
        os.close(lock)


def _raise_loopback() -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        request = struct.pack("16sH14x", b"lo", 0)
        answer = fcntl.ioctl(sock, _SIOCGIFFLAGS, request)
        (flags,) = struct.unpack("16xH14x", answer)
        request = struct.pack("16sH14x", b"lo", flags | _IFF_UP)
        fcntl.ioctl(sock, _SIOCSIFFLAGS, request)


def create(name: str) -> Path:
    """Make a network namespace with its loopback interface up; return its path.

    Raises FileExistsError when there is one of that name.
    """
    _share_directory()
    path = DIRECTORY / name
    os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0))

    def make() -> None:
        unshare(CLONE_NEWNET)
        _raise_loopback()
        mount("/proc/thread-self/ns/net", str(path), flags=MS_BIND)

    try:
        apart(make)
    except OSError:
        path.unlink()
        raise
    return path


def remove(name: str) -> None:
    """Remove a namespace's name; the namespace ends with its last user.

    A name that is not there is fine.
    """
    path = DIRECTORY / name
    while not _libc.umount2(str(path).encode(), MNT_DETACH):
        pass
    path.unlink(missing_ok=True)


def names() -> list[str]:
    """Return the names of all namespaces."""
    try:
        return sorted(os.listdir(DIRECTORY))
    except FileNotFoundError:
        return []


def inode(path: str | Path) -> tuple[int, int] | None:
    """Return what tells a namespace from every other, or None if there is none."""
    try:
        found = os.stat(path)
    except OSError:
        return None
    return found.st_dev, found.st_ino


def write(settings: dict[str, Any]) -> None:
    """Write files below /proc/sys/net of the calling thread's namespace."""
    for path, value in settings.items():
        Path("/proc/sys/net", path).write_text(str(value))
