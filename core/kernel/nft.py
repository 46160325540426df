"""Whole nftables tables: set by ``nft -f -`` in one transaction, recognised by a mark.

The mark is a chain of no effect in the table, named by the hash of the declared text.
Text is not compared with text: nft prints a table otherwise than it was written.  So
what is seen is that a table is gone, flushed or another one; a single rule that
somebody took out of it is not.

Reading asks the kernel for that one chain and needs no nft program.
"""

from __future__ import annotations

import hashlib
import subprocess
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


def change(
    program: str,
    make: Iterable[NftTable],
    remove: Iterable[NftTable],
    within: Iterable[NftElement] = (),
) -> None:
    """Set some tables and remove others, in one transaction: all or nothing.

    ``within`` are elements that the tables have from their first moment.

    Naming a table first makes its deletion succeed whether or not it is there.
    ``program`` is nft's path.  Raises KernelError.
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
    try:
        done = subprocess.run(
            [program, "-f", "-"],
            input="\n".join((*commands, "")),
            capture_output=True,
            text=True,
            timeout=PATIENCE,
            check=False,
        )
    except OSError as error:
        msg = f"cannot run {program}: {error.strerror}"
        raise KernelError(msg, "install nftables") from error
    except subprocess.TimeoutExpired as error:
        msg = f"{program} did not end within {PATIENCE:.0f} s"
        raise KernelError(msg) from error
    if done.returncode:
        tables = ", ".join(f"{t.family} {t.name}" for t in (*remove, *make))
        msg = f"nftables tables {tables}: {done.stderr.strip()}"
        raise KernelError(msg, "see nft's words in the message")
