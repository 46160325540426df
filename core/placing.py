"""Puts the executables and a few sysctls on a node, as one deed that can be undone.

What was done is kept in a record beside the executables, since those outlive a reboot:
it tells our files from other projects', and what was there before.
"""

from __future__ import annotations

import hashlib
import json
import os
import stat
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import Final

from attrs import asdict, define, field, frozen

from eniplug.core.atomic import read, write
from eniplug.hooks.errors import ConfigError, ReadError

RECORD: Final = ".eniplug.installed"
BEFORE: Final = ".before-eniplug"
"""What a file of others is kept under that had to make way."""


@frozen(kw_only=True)
class Places:
    """Where things are; the directories are below ``root``, as the node sees them."""

    root: Path = Path("/")
    bin_dir: Path = Path("/opt/cni/bin")
    conf_dir: Path = Path("/etc/cni/net.d")
    proc_sys: Path = Path("/proc/sys")

    def at(self, path: Path) -> Path:
        """Where a path of the node is found."""
        return self.root / path.relative_to("/")

    @property
    def bin(self) -> Path:
        """The executables' directory."""
        return self.at(self.bin_dir)

    @property
    def sysctls(self) -> Path:
        """The root of all sysctls."""
        return self.at(self.proc_sys)


@define
class Record:
    """What was installed: files and their SHA-256, sysctls with what was there before.

    A file that is about to be replaced by another of ours has both their digests.

    ``replaced`` names files of others that made way, ``folders`` those that were made,
    the outermost first.
    """

    files: dict[str, list[str]] = field(factory=dict)
    replaced: list[str] = field(factory=list)
    sysctls: dict[str, tuple[str, str]] = field(factory=dict)
    folders: list[str] = field(factory=list)

    @classmethod
    def read(cls, bin_dir: Path) -> Record:
        """Read it; an empty one if there is none.  Raises ConfigError."""
        text = read(bin_dir / RECORD)
        if text is None:
            return cls()
        try:
            said = json.loads(text)
            pairs = {k: (str(a), str(b)) for k, (a, b) in said["sysctls"].items()}
            files = {name: [*digests] for name, digests in said["files"].items()}
            return cls(files, [*said["replaced"]], pairs, [*said["folders"]])
        except (ValueError, LookupError, TypeError, AttributeError) as error:
            msg = f"{bin_dir / RECORD} is no record of an install: {error!r}"
            raise ConfigError(
                msg, "remove it, and the executables it is about"
            ) from error

    def write(self, bin_dir: Path) -> None:
        """Write it, if it says anything new."""
        text = json.dumps(asdict(self), indent=1).encode()
        if read(bin_dir / RECORD) != text:
            write(bin_dir / RECORD, text)

    def is_ours(self, path: Path) -> bool:
        """Whether a file is one that was installed."""
        found = read(path)
        return found is not None and _digest(found) in self.files.get(path.name, ())


def foreign(places: Places, executables: Mapping[str, bytes]) -> Sequence[Path]:
    """Files of others in the place of executables."""
    record = Record.read(places.bin)
    paths = (places.bin / name for name in executables)
    return [
        path
        for path in paths
        if os.path.lexists(path)
        and not record.is_ours(path)
        and _read_any(path) != executables[path.name]
    ]


def place(
    places: Places,
    executables: Mapping[str, bytes],
    sysctls: Mapping[str, str],
    *,
    replace: bool = False,
) -> Sequence[str]:
    """Put it all in place, or nothing; returns what was done, one line each.

    Sysctls are by path below /proc/sys; one that the kernel does not have is left out.
    Raises ConfigError when a file of others stands in the way, unless ``replace`` lets
    it be moved, ReadError when something cannot be written.
    """
    in_the_way = foreign(places, executables)
    if in_the_way and not replace:
        msg = f"not eniplug's: {', '.join(map(str, in_the_way))}"
        remedy = f"--replace moves a file to <name>{BEFORE}, and --undo puts it back"
        raise ConfigError(msg, remedy)
    deeds: list[str] = []
    try:
        with ExitStack() as rollback:
            record = Record.read(places.bin)
            deeds += _make(places, record, rollback)
            _remember(places.bin / RECORD, rollback)
            for name, data in executables.items():
                path = places.bin / name
                if _is_there(path, data):
                    continue
                aside = path in in_the_way
                _intend(path, data, record, aside=aside)
                if aside:
                    _set_aside(path, rollback)
                    deeds.append(f"kept {path} as {path.name}{BEFORE}")
                else:
                    _remember(path, rollback)
                write(path, data, mode=0o755)
                record.files[name] = [_digest(data)]
                deeds.append(f"installed {path}")
            for name, value in sysctls.items():
                if _set(places, name, value, record, rollback):
                    deeds.append(f"set {name.replace('/', '.')} to {value}")
            record.write(places.bin)
            rollback.pop_all()
    except OSError as error:
        msg = f"nothing was installed: {error.filename}: {error.strerror}"
        raise ReadError(
            msg, "make it writable for root, or name another directory"
        ) from error
    return deeds


def undo(places: Places) -> Sequence[str]:
    """Remove what was installed and put back what was there; what others changed stays.

    Returns what was done, one line each.  Raises ConfigError, ReadError.
    """
    record = Record.read(places.bin)
    try:
        deeds = [*_take_back(places, record)]
    except OSError as error:
        msg = f"not all is undone: {error.filename}: {error.strerror}"
        raise ReadError(msg, "make it writable for root, and try again") from error
    return deeds


def _take_back(places: Places, record: Record) -> Iterator[str]:
    for name, (before, ours) in record.sysctls.items():
        path = places.sysctls / name
        with suppress(FileNotFoundError):
            if path.read_text().strip() == ours:
                path.write_text(before)
                yield f"set {name.replace('/', '.')} back to {before}"
    for name in record.files:
        path = places.bin / name
        kept = path.with_name(name + BEFORE)
        if not os.path.lexists(path):
            continue
        if _is_same(path, kept):
            kept.unlink()  # it was about to make way
        elif not record.is_ours(path):
            yield f"left {path}: it is not what was installed"
        elif name in record.replaced and os.path.lexists(kept):
            kept.rename(path)
            yield f"put {path} back"
        else:
            path.unlink()
            yield f"removed {path}"
    (places.bin / RECORD).unlink(missing_ok=True)
    for folder in reversed(record.folders):
        with suppress(OSError):  # somebody else's files are in it, or it is gone
            places.at(Path(folder)).rmdir()
            yield f"removed {places.at(Path(folder))}"


def _make(places: Places, record: Record, rollback: ExitStack) -> Iterator[str]:
    """Make the executables' directory, and those above it."""
    wanted = [*reversed(places.bin_dir.parents), places.bin_dir]
    for folder in wanted[1:]:
        path = places.at(folder)
        if not path.exists():
            path.mkdir(mode=0o755)
            rollback.callback(path.rmdir)
            if str(folder) not in record.folders:
                record.folders.append(str(folder))
            yield f"made {path}"


def _intend(path: Path, data: bytes, record: Record, *, aside: bool) -> None:
    """Write down what is about to be done, so that a crash leaves nothing unknown."""
    record.files.setdefault(path.name, []).append(_digest(data))
    if aside and path.name not in record.replaced:
        record.replaced.append(path.name)
    record.write(path.parent)


def _set_aside(path: Path, rollback: ExitStack) -> None:
    """Give a file a second name, under which it stays when ours takes its place."""
    kept = path.with_name(path.name + BEFORE)
    kept.unlink(missing_ok=True)
    os.link(path, kept, follow_symlinks=False)

    def back() -> None:
        # A rename between two names of one file does nothing (rename(2)).
        kept.rename(path)
        kept.unlink(missing_ok=True)

    rollback.callback(back)


def _remember(path: Path, rollback: ExitStack) -> None:
    """Let a file be again what it is now, or not be there."""
    before = read(path)
    if before is None:
        rollback.callback(path.unlink, missing_ok=True)
    else:
        rollback.callback(write, path, before, mode=stat.S_IMODE(path.stat().st_mode))


def _is_there(path: Path, data: bytes) -> bool:
    return _read_any(path) == data and bool(path.stat().st_mode & stat.S_IXUSR)


def _set(
    places: Places, name: str, value: str, record: Record, rollback: ExitStack
) -> bool:
    path = places.sysctls / name
    try:
        before = path.read_text().strip()
    except FileNotFoundError:
        return False
    if before == value:
        return False
    first = record.sysctls.get(name, (before, value))[0]
    record.sysctls[name] = (first, value)
    record.write(places.bin)
    rollback.callback(path.write_text, before)
    path.write_text(value)
    return True


def _is_same(path: Path, other: Path) -> bool:
    """Whether two names are of one file."""
    with suppress(FileNotFoundError):
        return os.path.samestat(path.lstat(), other.lstat())
    return False


def _read_any(path: Path) -> bytes | None:
    """Read a file; None as well for a link that leads nowhere, or a directory."""
    try:
        return read(path)
    except IsADirectoryError:
        return None


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
