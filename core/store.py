"""The store: what must outlive the agent, in SQLite.

One connection, used by one thread at a time (its owner, `State`, holds the mutex).
WAL with synchronous=NORMAL: on a tmpfs a commit takes some 15 µs, and nothing that was
committed is lost with the process.  Like the namespaces that it describes, the store
lives under /run: it outlives the agent and not the node's reboot.
"""

from __future__ import annotations

import json
import sqlite3
import time
from collections.abc import Collection, Iterable, Mapping, Sequence
from contextlib import suppress
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any, Final, TypeAlias

from attrs import evolve

from eniplug.core.codec import FROZEN
from eniplug.core.parts import Life, Part
from eniplug.core.records import record_of
from eniplug.hooks import Block, Ip, Object
from eniplug.hooks.errors import ConfigError, StoreError
from eniplug.hooks.objects import Key

FORMAT: Final = 2

DISK: Final = frozenset(
    {sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY}
)
"""What SQLite says when the file system is at fault, and not the file."""

PRIMARY: Final = 0xFF
"""The bits of SQLite's result code that say what; the rest say where."""

KEPT: Final = "kept"
"""The fact that holds the keys of addresses that are kept; those cool, too."""

_SCHEMA: Final = """
create table parts (
    id integer primary key, life text not null, container_id text not null,
    ifname text not null, record text not null, result text) strict;
create table node_objects (
    key text primary key, record text not null, earlier text) strict;
create table marks (eni text primary key, mark integer not null unique) strict;
create table cooling (address text primary key, until real not null) strict;
create table intents (token text primary key, what text not null) strict;
"""

_SINCE: Final = {
    2: """
create table blocks (
    block text primary key, eni text not null, reason text not null) strict;
create table facts (name text primary key, record text not null) strict;
"""
}
"""What each later format adds; an older file is brought up to date when opened."""


Step: TypeAlias = tuple[str, Iterable[Sequence[object]]]
"""A statement, and the values of each row that it is carried out with."""

_encode: Final = json.JSONEncoder().encode


class Store:
    """Parts, node objects, the ENIs' blocks and marks, cooling addresses, intents.

    Raises ConfigError when the file is corrupt or of a newer format, StoreError when it
    cannot be written: then nothing of the change is there, on file or elsewhere.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        try:
            self._db = sqlite3.connect(
                path, isolation_level=None, check_same_thread=False
            )
        except sqlite3.Error as error:
            raise self._unwritable(error) from error
        try:
            self._open()
        except (sqlite3.DatabaseError, ConfigError) as error:
            self._db.close()
            if isinstance(error, ConfigError):
                raise
            if error.sqlite_errorcode & PRIMARY in DISK:
                raise self._unwritable(error) from error
            msg = f"the store {path} cannot be read: {error}"
            remedy = "start the agent once with --rebuild"
            raise ConfigError(msg, remedy) from error

    def _unwritable(self, error: sqlite3.Error) -> StoreError:
        return StoreError(f"the store {self.path} cannot be written: {error}")

    def _commit(self, statement: str, values: Sequence[object]) -> int:
        """Make one statement a commit; returns a new row's id.

        It needs no transaction around it, which would be three statements more.
        """
        try:
            return self._db.execute(statement, values).lastrowid or 0
        except sqlite3.Error as error:
            raise self._unwritable(error) from error

    def _commit_all(self, *steps: Step) -> None:
        """Make all steps one commit, or none of them."""
        try:
            self._db.execute("begin immediate")
            for statement, rows in steps:
                self._db.executemany(statement, rows)
            self._db.execute("commit")
        except sqlite3.Error as error:
            with suppress(sqlite3.Error):
                self._db.execute("rollback")
            raise self._unwritable(error) from error

    def _open(self) -> None:
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version < FORMAT:
            more = (text for since, text in _SINCE.items() if since > version)
            script = "".join((_SCHEMA if version == 0 else "", *more))
            self._db.executescript(
                f"begin; {script} pragma user_version = {FORMAT}; commit;"
            )
        elif version > FORMAT:
            msg = f"the store {self.path} has format {version}, this agent has {FORMAT}"
            raise ConfigError(msg, "run the newer agent, or start with --rebuild")
        elif self._db.execute("pragma quick_check").fetchone() != ("ok",):
            msg = f"the store {self.path} is corrupt"
            raise ConfigError(msg, "start the agent once with --rebuild")

    def close(self) -> None:
        """Close the file; the store is not used afterwards."""
        self._db.close()

    # -- parts -------------------------------------------------------------------------

    def begin(self, part: Part) -> Part:
        """Commit a new part, before anything of it is done. Returns it with its id."""
        pod, result = part.pod, _text(part.result)
        number = self._commit(
            "insert into parts (life, container_id, ifname, record, result)"
            " values (?, ?, ?, ?, ?)",
            (part.life, pod.container_id, pod.ifname, record_of(part), result),
        )
        return evolve(part, id=number)

    def update(self, part: Part, *, whole: bool = False) -> None:
        """Commit a part's life and result; all of it when ``whole``."""
        if whole:
            self._commit(
                "update parts set life = ?, result = ?, record = ? where id = ?",
                (part.life, _text(part.result), record_of(part), part.id),
            )
        else:
            self._commit(
                "update parts set life = ?, result = ? where id = ?",
                (part.life, _text(part.result), part.id),
            )

    def enliven(self, numbers: Iterable[int]) -> None:
        """Commit that the parts with these ids are live."""
        rows = [(Life.LIVE, number) for number in numbers]
        self._commit_all(("update parts set life = ? where id = ?", rows))

    def mark(self, part: Part) -> None:
        """Commit a part's life alone."""
        self._commit("update parts set life = ? where id = ?", (part.life, part.id))

    def drop(self, part: Part, cooling: Mapping[Ip, float]) -> None:
        """Forget a part; in the same commit its addresses begin to cool.

        ``cooling`` gives the end of it in seconds since the epoch.
        """
        rests = [(str(address), until) for address, until in cooling.items()]
        self._commit_all(
            ("delete from parts where id = ?", [(part.id,)]),
            ("insert or replace into cooling values (?, ?)", rests),
        )

    def parts(self) -> tuple[Part, ...]:
        """All parts, oldest first."""
        rows = self._db.execute(
            "select id, life, record, result from parts order by id"
        )
        return tuple(
            evolve(
                FROZEN.structure(json.loads(record), Part),
                id=number,
                life=Life(life),
                result=None if result is None else json.loads(result),
            )
            for number, life, record, result in rows
        )

    # -- the node ----------------------------------------------------------------------

    def node_objects(self) -> tuple[tuple[Object, ...], dict[Key, str]]:
        """What the node has of ours, and the values that were there before."""
        rows = self._db.execute("select record, earlier from node_objects").fetchall()
        objects: list[Object] = [
            FROZEN.structure(json.loads(record), Object)  # type: ignore[arg-type]
            for record, _ in rows
        ]
        earlier = {
            one.key: text
            for one, (_, text) in zip(objects, rows, strict=True)
            if text is not None
        }
        return tuple(objects), earlier

    def keep_node_objects(
        self, objects: Collection[Object], earlier: Mapping[Key, str]
    ) -> None:
        """Replace the record of what the node has."""
        rows = [
            (
                repr(one),
                json.dumps(FROZEN.unstructure(one, Object)),
                earlier.get(one.key),
            )
            for one in objects
        ]
        self._commit_all(
            ("delete from node_objects", [()]),
            ("insert into node_objects values (?, ?, ?)", rows),
        )

    def marks(self) -> dict[str, int]:
        """The number of each ENI, by ENI id."""
        return dict(self._db.execute("select eni, mark from marks").fetchall())

    def keep_mark(self, eni: str, mark: int) -> None:
        """Remember an ENI's number."""
        self._commit("insert or replace into marks values (?, ?)", (eni, mark))

    def drop_mark(self, eni: str) -> None:
        """Forget an ENI that is gone."""
        self._commit("delete from marks where eni = ?", (eni,))

    # -- addresses and calls -----------------------------------------------------------

    def cooling(self) -> dict[Ip, float]:
        """Addresses that may not be given out yet, and until when (epoch seconds)."""
        rows = self._db.execute("select address, until from cooling")
        return {ip_address(address): until for address, until in rows}

    def cooled(self, addresses: Iterable[Ip]) -> None:
        """Forget that these were cooling."""
        rows = [(str(address),) for address in addresses]
        self._commit_all(("delete from cooling where address = ?", rows))

    def keep(self, kept: Mapping[Ip, str], until: Mapping[Ip, float]) -> None:
        """Remember all that is kept, by key, and until when those cool that are new."""
        record = json.dumps({str(address): key for address, key in kept.items()})
        self._commit_all(
            ("insert or replace into facts values (?, ?)", [(KEPT, record)]),
            (
                "insert into cooling values (?, ?) on conflict (address)"
                " do update set until = max(until, excluded.until)",
                [(str(address), end) for address, end in until.items()],
            ),
        )

    def kept(self) -> dict[Ip, str]:
        """Addresses that rest for somebody, and under which key."""
        record = self.fact(KEPT) or "{}"
        return {ip_address(text): key for text, key in json.loads(record).items()}

    def keep_blocks(self, eni: str, blocks: Iterable[Block], reason: str = "") -> None:
        """Remember that these are an ENI's; ``reason`` if they are in quarantine."""
        rows = [(str(block), eni, reason) for block in blocks]
        self._commit_all(("insert or replace into blocks values (?, ?, ?)", rows))

    def drop_blocks(self, blocks: Iterable[Block]) -> None:
        """Forget blocks that are no longer this node's."""
        rows = [(str(block),) for block in blocks]
        self._commit_all(("delete from blocks where block = ?", rows))

    def blocks(self) -> dict[str, dict[Block, str]]:
        """What each ENI has: block to reason, empty if it is not in quarantine."""
        found: dict[str, dict[Block, str]] = {}
        for text, eni, reason in self._db.execute("select * from blocks"):
            block = ip_network(text) if "/" in text else ip_address(text)
            found.setdefault(eni, {})[block] = reason
        return found

    def keep_fact(self, name: str, record: str) -> None:
        """Remember what EC2 and IMDS said, for a start without them."""
        self._commit("insert or replace into facts values (?, ?)", (name, record))

    def fact(self, name: str) -> str | None:
        """What was said last, or None."""
        row = self._db.execute("select record from facts where name = ?", (name,))
        found = row.fetchone()
        return None if found is None else found[0]

    def intend(self, token: str, what: str) -> None:
        """Commit a cloud call's intent, before the call."""
        self._commit("insert or replace into intents values (?, ?)", (token, what))

    def done(self, token: str) -> None:
        """Forget an intent whose call has been followed up."""
        self._commit("delete from intents where token = ?", (token,))

    def intents(self) -> dict[str, str]:
        """Calls that were begun and not followed up."""
        return dict(self._db.execute("select token, what from intents").fetchall())


def _text(result: Mapping[str, Any] | None) -> str | None:
    return None if result is None else _encode(result)


def set_aside(path: Path) -> None:
    """Move a store's files out of the way, for whoever wants to look at them."""
    suffix = f".{int(time.time())}"
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        found = path.with_name(name)
        if found.exists():
            found.rename(path.with_name(name + suffix))
