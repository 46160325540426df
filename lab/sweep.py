"""Hold a lab's name, and remove whatever is left under it.

A lab is up exactly while somebody holds the lock on its directory, /run/NAME-lab.  The
kernel lets go of the lock when the holder dies, however it dies, so a name is never
lost and never taken twice.
"""

from __future__ import annotations

import fcntl
import os
import select
import shutil
import signal
import time
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

from eniplug.lab import netns
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names

DOWN_WITHIN = 30.0
"""Seconds that a lab may take to go down; then it is killed and swept."""

_GONE_WITHIN = 5.0


def claim(names: Names) -> int:
    """Take the lab's name; return a descriptor that holds it until it is closed.

    Raises LabError while another process holds it.
    """
    while True:
        names.run.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            fd = os.open(names.run, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        except FileNotFoundError:
            continue
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(fd)
            msg = f"a lab named {names.lab!r} is up"
            remedy = (
                "use it, end it with `eniplug lab down`, or give yours a --lab NAME"
            )
            raise LabError(msg, remedy) from None
        if netns.inode(names.run) == _inode(fd):
            return fd
        os.close(fd)  # the last holder removed it between our open and our lock


def release(names: Names, held: int) -> None:
    """Give the name up, and with it the lab's directory unless there is more in it."""
    with suppress(OSError):
        names.run.rmdir()
    os.close(held)


def clear(names: Names) -> list[str]:
    """Remove whatever a lab has left; raises LabError while it is up."""
    held = claim(names)
    said = sweep(names)
    release(names, held)
    return said


def _inode(fd: int) -> tuple[int, int]:
    found = os.fstat(fd)
    return found.st_dev, found.st_ino


def sweep(names: Names) -> list[str]:
    """Remove all that bears the lab's name but its directory; return what that was.

    Only for who holds the name, whose lock is on that directory.  Processes are told
    by the namespace that they are in: whatever runs in a lab's namespace is the lab's,
    and nothing else is touched.
    """
    spaces = [space for space in netns.names() if names.owns(space)]
    ended = [f"process {pid}" for space in spaces for pid in end_processes(space)]
    for space in spaces:
        netns.remove(space)
    for path in names.run.iterdir():
        if path.is_dir():
            shutil.rmtree(path)
        else:
            path.unlink()
    return [*ended, *(f"namespace {space}" for space in spaces)]


def processes(space: str) -> Iterator[tuple[int, int]]:
    """Yield (process id, pidfd) of each process in a namespace but this one."""
    wanted = netns.inode(netns.DIRECTORY / space)
    if wanted is None or wanted == netns.inode("/proc/self/ns/net"):
        return
    for entry in Path("/proc").iterdir():
        if not entry.name.isdigit() or int(entry.name) == os.getpid():
            continue
        try:
            fd = os.pidfd_open(int(entry.name))
        except OSError:  # it ended meanwhile
            continue
        try:
            # Looked at after the descriptor was made: it cannot be another process.
            if netns.inode(entry / "ns/net") == wanted:
                yield int(entry.name), fd
        finally:
            os.close(fd)


def end_processes(space: str) -> list[int]:
    """Kill every process in a namespace and wait for its end; return their ids."""
    ended: list[int] = []
    deadline = time.monotonic() + _GONE_WITHIN
    for pid, fd in processes(space):
        with suppress(ProcessLookupError):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
        left = max(0.0, deadline - time.monotonic())
        select.select([fd], [], [], left)
        ended.append(pid)
    return ended


def remember(names: Names) -> None:
    """Note which process holds the lab, for the case that it stops answering."""
    pid = os.getpid()
    (names.run / "supervisor").write_text(f"{pid} {_started(pid)}\n")


def end_holder(names: Names, within: float = DOWN_WITHIN) -> bool:
    """Ask the process that holds the lab to take it down, and wait for its end.

    It is killed when it takes too long.  Returns False when it is not there, or the
    process of that number is not the one that was noted.
    """
    try:
        pid, started = (names.run / "supervisor").read_text().split()
        fd = os.pidfd_open(int(pid))
    except (OSError, ValueError):
        return False
    try:
        if _over(fd, 0) or _started(int(pid)) != started:
            return False
        signal.pidfd_send_signal(fd, signal.SIGTERM)
        if not _over(fd, within):
            signal.pidfd_send_signal(fd, signal.SIGKILL)
            _over(fd, _GONE_WITHIN)
    except OSError:  # it ended meanwhile
        return False
    finally:
        os.close(fd)
    return True


def _over(fd: int, within: float) -> bool:
    """Wait for a process to end."""
    return bool(select.select([fd], [], [], within)[0])


def _started(pid: int) -> str:
    """Return when a process started, in ticks since boot (proc(5): stat, 22)."""
    text = Path(f"/proc/{pid}/stat").read_text()
    return text.rpartition(")")[2].split()[19]
