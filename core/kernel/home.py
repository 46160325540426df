"""The node's network namespace, and visits to those of pods.

A thread is in one namespace at a time.  It visits a pod's to open a socket there or to
write a file, and no longer: the socket stays the pod's when the thread is back.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
from collections.abc import Callable
from typing import Final, TypeVar
from weakref import finalize

from eniplug.hooks.errors import NetnsError

T = TypeVar("T")

OWN_NETNS: Final = "/proc/thread-self/ns/net"
NS_GET_NSTYPE: Final = 0xB703
CLONE_NEWNET: Final = 0x40000000

_libc: Final = ctypes.CDLL(None, use_errno=True)


class Home:
    """The namespace of the thread that makes this; the node's, in the agent."""

    def __init__(self) -> None:
        self._fd = os.open(OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
        finalize(self, os.close, self._fd)
        here = os.fstat(self._fd)
        self._place = here.st_dev, here.st_ino

    def visit(self, fd: int, work: Callable[[], T]) -> T:
        """Run ``work`` in the network namespace ``fd``, on this thread, and come back.

        Raises OSError when the namespace cannot be entered.  If the way back fails the
        process ends: a thread that stays in a pod's namespace would go on to do the
        node's work there.
        """
        _setns(fd)
        try:
            return work()
        finally:
            try:
                _setns(self._fd)
            except OSError:
                os.write(2, b"eniplug: no way back from a pod's network namespace\n")
                os._exit(os.EX_SOFTWARE)

    def check_away(self, fd: int) -> None:
        """Hold that ``fd`` is a network namespace, and not this one (ioctl_nsfs(2)).

        Raises NetnsError.
        """
        try:
            kind = fcntl.ioctl(fd, NS_GET_NSTYPE)
            there = os.fstat(fd)
        except OSError as error:
            msg = f"CNI_NETNS is no network namespace: {error.strerror}"
            raise NetnsError(msg) from error
        if kind != CLONE_NEWNET:
            msg = "CNI_NETNS is a namespace of another kind, not a network namespace"
            raise NetnsError(msg)
        if (there.st_dev, there.st_ino) == self._place:
            msg = "CNI_NETNS is the network namespace of the agent itself"
            raise NetnsError(msg)


def may_enter() -> bool:
    """Tell whether network namespaces may be entered: it takes CAP_SYS_ADMIN."""
    own = os.open(OWN_NETNS, os.O_RDONLY | os.O_CLOEXEC)
    try:
        _setns(own)
    except PermissionError:
        return False
    finally:
        os.close(own)
    return True


def _setns(fd: int) -> None:
    if _libc.setns(fd, CLONE_NEWNET):
        code = ctypes.get_errno()
        raise OSError(code, f"setns: {os.strerror(code)}")
