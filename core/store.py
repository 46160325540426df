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
from collections.abc import Collection, Iterable, Mapping
from contextlib import closing
from ipaddress import ip_address
from pathlib import Path
from typing import Final

from attrs import evolve

from eniplug.core.codec import FROZEN
from eniplug.core.parts import Life, Part
from eniplug.hooks import Ip, Object
from eniplug.hooks.errors import ConfigError
from eniplug.hooks.objects import Key

FORMAT: Final = 1

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


class Store:
    """Parts, node objects, ENI marks, cooling addresses and the cloud's intents.

    Raises ConfigError when the file is corrupt or of a newer format: nothing is
    guessed; ``--rebuild`` sets it aside.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        try:
            self._open()
        except (sqlite3.DatabaseError, ConfigError) as error:
            self._db.close()
            if isinstance(error, ConfigError):
                raise
            msg = f"the store {path} cannot be read: {error}"
            remedy = "start the agent once with --rebuild"
            raise ConfigError(msg, remedy) from error

    def _open(self) -> None:
        self._db.execute("pragma journal_mode = wal")
        self._db.execute("pragma synchronous = normal")
        (version,) = self._db.execute("pragma user_version").fetchone()
        if version == 0:
            self._db.executescript(
                f"begin; {_SCHEMA} pragma user_version = {FORMAT}; commit;"
            )
        elif version != FORMAT:
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
        with closing(
            self._db.execute(
                "insert into parts (life, container_id, ifname, record)"
                " values (?, ?, ?, ?)",
                (part.life, *part.key, _record(part)),
            )
        ) as cursor:
            assert cursor.lastrowid is not None
            return evolve(part, id=cursor.lastrowid)

    def update(self, part: Part, *, whole: bool = False) -> None:
        """Commit a part's life and result; all of it when ``whole``."""
        if whole:
            self._db.execute("begin")
            self._db.execute(
                "update parts set record = ? where id = ?", (_record(part), part.id)
            )
        result = None if part.result is None else json.dumps(part.result)
        self._db.execute(
            "update parts set life = ?, result = ? where id = ?",
            (part.life, result, part.id),
        )
        if whole:
            self._db.execute("commit")

    def drop(self, part: Part, cooling: Mapping[Ip, float]) -> None:
        """Forget a part; in the same commit its addresses begin to cool.

        ``cooling`` gives the end of it in seconds since the epoch.
        """
        self._db.execute("begin")
        self._db.execute("delete from parts where id = ?", (part.id,))
        self._db.executemany(
            "insert or replace into cooling values (?, ?)",
            [(str(address), until) for address, until in cooling.items()],
        )
        self._db.execute("commit")

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
        self._db.execute("begin")
        self._db.execute("delete from node_objects")
        self._db.executemany(
            "insert into node_objects values (?, ?, ?)",
            [
                (
                    repr(one),
                    json.dumps(FROZEN.unstructure(one, Object)),
                    earlier.get(one.key),
                )
                for one in objects
            ],
        )
        self._db.execute("commit")

    def marks(self) -> dict[str, int]:
        """The number of each ENI, by ENI id."""
        return dict(self._db.execute("select eni, mark from marks").fetchall())

    def keep_mark(self, eni: str, mark: int) -> None:
        """Remember an ENI's number."""
        self._db.execute("insert or replace into marks values (?, ?)", (eni, mark))

    def drop_mark(self, eni: str) -> None:
        """Forget an ENI that is gone."""
        self._db.execute("delete from marks where eni = ?", (eni,))

    # -- addresses and calls -----------------------------------------------------------

    def cooling(self) -> dict[Ip, float]:
        """Addresses that may not be given out yet, and until when (epoch seconds)."""
        rows = self._db.execute("select address, until from cooling")
        return {ip_address(address): until for address, until in rows}

    def cooled(self, addresses: Iterable[Ip]) -> None:
        """Forget that these were cooling."""
        self._db.executemany(
            "delete from cooling where address = ?", [(str(a),) for a in addresses]
        )

    def intend(self, token: str, what: str) -> None:
        """Commit a cloud call's intent, before the call."""
        self._db.execute("insert or replace into intents values (?, ?)", (token, what))

    def done(self, token: str) -> None:
        """Forget an intent whose call has been followed up."""
        self._db.execute("delete from intents where token = ?", (token,))

    def intents(self) -> dict[str, str]:
        """Calls that were begun and not followed up."""
        return dict(self._db.execute("select token, what from intents").fetchall())


def _record(part: Part) -> str:
    return json.dumps(FROZEN.unstructure(evolve(part, result=None)))


def set_aside(path: Path) -> None:
    """Move a store's files out of the way, for whoever wants to look at them."""
    suffix = f".{int(time.time())}"
    for name in (path.name, f"{path.name}-wal", f"{path.name}-shm"):
        found = path.with_name(name)
        if found.exists():
            found.rename(path.with_name(name + suffix))
