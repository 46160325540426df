"""The executables as a test runs them: as they are, but for folder and patience."""

from __future__ import annotations

import os
import struct
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Protocol

from attrs import frozen

from eniplug.cni import executable, native_path, python_executable
from kit.agents import LIMIT

_SETTINGS = struct.Struct("<96s3I")
"""``struct settings`` in eniplug.c: the folder, and three times in microseconds."""

_SHIPPED = (executable.RETRY, executable.PATIENCE[b"ADD"], executable.LESS_PATIENCE)


class Run(Protocol):
    """`eniplug.cni.executable.run`, or what does the same in a process."""

    def __call__(
        self,
        environ: Mapping[bytes, bytes],
        stdin: bytes,
        folder: str,
        retry: float = executable.RETRY,
        patience: float | None = None,
    ) -> tuple[int, bytes]: ...


@frozen
class Program:
    """An executable, as a command."""

    command: tuple[str, ...]

    def run(
        self, environ: Mapping[bytes, bytes], stdin: bytes
    ) -> subprocess.CompletedProcess[bytes]:
        """Run it as a container runtime does; it never uses standard error."""
        done = subprocess.run(
            self.command,
            input=stdin,
            env=environ,
            capture_output=True,
            timeout=LIMIT,
        )
        assert done.stderr == b""
        return done


def python_program(
    path: Path, folder: Path, interpreter: str = sys.executable
) -> Program:
    """Copy the executable in Python."""
    text = python_executable().decode()
    assert text.count(executable.FOLDER) == 2  # where the code is kept, and the rest
    path.write_text(text.replace(executable.FOLDER, str(folder)))
    return Program((interpreter, "-IS", str(path)))


def native_program(
    path: Path,
    folder: Path | str,
    retry: float = executable.RETRY,
    patience: float | None = None,
    machine: str = os.uname().machine,
) -> Program:
    """Copy the native executable; another machine's is run by QEMU."""
    source = native_path(machine)
    assert source is not None, f"there is no native executable for {machine}"
    times = (retry, *((patience, patience) if patience else _SHIPPED[1:]))
    assert len(os.fsencode(folder)) < 96
    shipped, wanted = (
        _SETTINGS.pack(os.fsencode(name), *(int(second * 1e6) for second in seconds))
        for name, seconds in ((executable.FOLDER, _SHIPPED), (folder, times))
    )
    data = source.read_bytes()
    assert data.count(shipped) == 1
    path.write_bytes(data.replace(shipped, wanted))
    path.chmod(0o755)
    if machine != os.uname().machine:
        return Program((f"qemu-{machine}-static", str(path)))
    return Program((str(path),))


@frozen
class NativeRun:
    """`Run` by the native executable."""

    folder: Path
    machine: str

    def __call__(
        self,
        environ: Mapping[bytes, bytes],
        stdin: bytes,
        folder: str,
        retry: float = executable.RETRY,
        patience: float | None = None,
    ) -> tuple[int, bytes]:
        """Copy it for these arguments, and run the copy."""
        path = self.folder / "eniplug"
        path.unlink(missing_ok=True)
        program = native_program(path, folder, retry, patience, self.machine)
        done = program.run(environ, stdin)
        return done.returncode, done.stdout
