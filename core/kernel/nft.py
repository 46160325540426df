"""Whole nftables tables: set by ``nft -f -`` in one transaction, recognised by a mark.

The mark is a chain of no effect in the table, named by the hash of the declared text.
Text is not compared with text: nft prints a table otherwise than it was written.  So
what is seen is that a table is gone, flushed or another one.  That somebody took a
single rule out of it is heard (see `watch`), but not seen afterwards.

Reading asks the kernel for that one chain and needs no nft program.
"""

from __future__ import annotations

import hashlib
import subprocess
import time
from collections import deque
from collections.abc import Callable, Iterable
from enum import Enum
from typing import Final

from eniplug.core.kernel import elements, uapi
from eniplug.core.kernel.attributes import attributes, text
from eniplug.core.kernel.netlink import (
    GONE,
    Message,
    NetlinkError,
    Socket,
)
from eniplug.hooks import NftElement, NftTable
from eniplug.hooks.errors import KernelError

MARK: Final = "eniplug-"
PATIENCE: Final = 30.0
"""Seconds that nft may take; a transaction takes milliseconds."""

REMEMBERED: Final = 10.0
"""Seconds after its start for which an nft process of ours is known by its number."""


class State(Enum):
    """What the kernel has under a table's family and name."""

    WANTED = "as declared"
    ABSENT = "missing"
    OURS = "a table of eniplug with another content"
    FOREIGN = "a table of somebody else"


def mark_of(table: NftTable) -> str:
    """Name the chain that says which text a table was made of."""
    return MARK + hashlib.sha256(table.text.encode()).hexdigest()[:16]


def state(connect: Callable[[int], Socket], table: NftTable) -> State:
    """Compare a declared table with the kernel.  Raises KernelError."""
    family = bytes((uapi.NFPROTO[table.family], 0, 0, 0))
    try:
        with connect(uapi.NETLINK_NETFILTER) as socket:
            return _state(socket, family, table)
    except OSError as error:
        msg = f"nftables table {table.family} {table.name}: {error.strerror}"
        raise KernelError(msg) from error


def _state(socket: Socket, family: bytes, table: NftTable) -> State:
    of_table = text(uapi.NFTA_CHAIN_TABLE, table.name)
    mark = of_table + text(uapi.NFTA_CHAIN_NAME, mark_of(table))
    chain = _get(socket, uapi.NFT_MSG_GETCHAIN, family + mark)
    if chain is not None and any(dict(attributes(chain, 4))[uapi.NFTA_CHAIN_USE]):
        return State.WANTED
    name = text(uapi.NFTA_TABLE_NAME, table.name)
    if _get(socket, uapi.NFT_MSG_GETTABLE, family + name) is None:
        return State.ABSENT
    for body in socket.dump(Message(uapi.NFT_MSG_GETCHAIN, 0, family + of_table)):
        a = dict(attributes(body, 4))
        if _name(a[uapi.NFTA_CHAIN_TABLE]) == table.name and _name(
            a[uapi.NFTA_CHAIN_NAME]
        ).startswith(MARK):
            return State.OURS
    return State.FOREIGN


def _get(socket: Socket, kind: int, body: bytes) -> bytes | None:
    try:
        return socket.get(Message(kind, 0, body))
    except NetlinkError as error:
        if error.errno in GONE:
            return None
        raise


def _name(data: bytes) -> str:
    return data.rstrip(b"\0").decode(errors="replace")


class Program:
    """The program nft at ``path``, and which of its processes were ours."""

    def __init__(self, path: str) -> None:
        self._path = path
        self._own: deque[tuple[int, float]] = deque(maxlen=64)

    def is_own(self, port: int) -> bool:
        """Whether a notification's port id is of one of our nft processes.

        nft's socket has the number of its process (netlink(7), nl_pid), which another
        process gets before long.
        """
        since = time.monotonic() - REMEMBERED
        return any(pid == port and when > since for pid, when in tuple(self._own))

    def run(self, commands: str) -> str:
        """Carry commands out in one transaction; returns what is wrong, in its words.

        Raises KernelError when nft cannot be run.
        """
        try:
            with subprocess.Popen(
                [self._path, "-f", "-"],
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                text=True,
            ) as process:
                # Known before nft has anything to do, so before it is heard of.
                self._own.append((process.pid, time.monotonic()))
                try:
                    _, wrong = process.communicate(commands, PATIENCE)
                except subprocess.TimeoutExpired:
                    process.kill()
                    raise
        except OSError as error:
            msg = f"cannot run {self._path}: {error.strerror}"
            raise KernelError(msg, "install nftables") from error
        except subprocess.TimeoutExpired as error:
            msg = f"{self._path} did not end within {PATIENCE:.0f} s"
            raise KernelError(msg) from error
        return wrong.strip() if process.returncode else ""


def change(
    program: Program,
    make: Iterable[NftTable],
    remove: Iterable[NftTable],
    within: Iterable[NftElement] = (),
) -> None:
    """Set some tables and remove others, in one transaction: all or nothing.

    ``within`` are elements that the tables have from their first moment.

    Naming a table first makes its deletion succeed whether or not it is there.
    Raises KernelError.
    """
    commands: list[str] = []
    for table in (*remove, *make):
        name = f"table {table.family} {table.name}"
        commands += f"add {name}", f"delete {name}"
    for table in make:
        commands += (
            f"table {table.family} {table.name} {{",
            f"chain {mark_of(table)} {{ return; }}",
            table.text,
            "}",
        )
    commands += map(elements.command, within)
    if not commands:
        return
    wrong = program.run("\n".join((*commands, "")))
    if wrong:
        tables = ", ".join(f"{t.family} {t.name}" for t in (*remove, *make))
        msg = f"nftables tables {tables}: {wrong}"
        raise KernelError(msg, "see nft's words in the message")
