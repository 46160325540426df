from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_address
from pathlib import Path
from typing import cast

import pytest
from attrs import evolve

from eniplug.core.parts import Life
from eniplug.hooks import Lease, LinkState, NftTable, Rule, Sysctl
from eniplug.hooks.errors import ConfigError, StoreError
from eniplug.testing.builders import ADDRESSES, PRIMARY, a_pod
from kit.parts import a_part
from kit.stores import Stores, stores

PART = a_part(
    a_pod(annotations={"a": "b"}, runtime={"bandwidth": {"IngressRate": 1}}, slot=3),
    Lease(address=ADDRESSES[0], eni=PRIMARY),
)


@pytest.fixture
def made(tmp_path: Path) -> Iterator[Stores]:
    with stores(tmp_path) as made:
        yield made


def test_a_part_comes_back_as_it_was(made: Stores) -> None:
    store = made.open()
    begun = store.begin(PART)
    store.update(evolve(begun, life=Life.LIVE, result={"ips": []}))
    store.close()

    (found,) = made.open().parts()

    assert found == evolve(PART, life=Life.LIVE, result={"ips": []})
    assert found.id == begun.id


def test_a_marked_part_keeps_its_result(made: Stores) -> None:
    store = made.open()
    live = evolve(store.begin(PART), life=Life.LIVE, result={"ips": []})
    store.update(live)

    store.mark(evolve(live, life=Life.DYING, result=None))

    (found,) = made.open().parts()
    assert (found.life, found.result) == (Life.DYING, {"ips": []})


def test_of_a_commit_that_fails_nothing_is_there(made: Stores) -> None:
    store = made.open()
    part = store.begin(PART)

    with pytest.raises(StoreError):
        store.drop(part, {ADDRESSES[0]: cast("float", None)})

    store.keep_mark("eni-2", 2)
    (found,) = made.open().parts()
    assert found.id == part.id


def test_an_address_cools_from_the_commit_that_forgets_its_part(made: Stores) -> None:
    store = made.open()
    part = store.begin(PART)

    store.drop(part, {ADDRESSES[0]: 130.5})

    assert store.parts() == ()
    assert store.cooling() == {ADDRESSES[0]: 130.5}
    store.cooled([ADDRESSES[0]])
    assert store.cooling() == {}


def test_node_objects_and_earlier_values_come_back(made: Stores) -> None:
    store = made.open()
    objects = (
        LinkState(link="ens5", setting="rp_filter", value=2),
        Sysctl(path="net/ipv4/ip_forward", value="1"),
        NftTable(family="inet", name="eniplug-routes", text="chain a {}"),
        Rule(priority=512, table=512, family=6),
    )
    earlier = {objects[0].key: "1", objects[1].key: "0"}

    store.keep_node_objects(objects, earlier)

    assert made.open().node_objects() == (objects, earlier)


def test_marks_and_intents_come_back(made: Stores) -> None:
    store = made.open()

    store.keep_mark("eni-2", 2)
    store.intend("t1", "create")
    store.intend("t2", "create")
    store.done("t1")

    again = made.open()
    assert again.marks() == {"eni-2": 2}
    assert again.intents() == {"t2": "create"}


@pytest.mark.parametrize("damage", [b"nonsense" * 100, b"SQLite format 3\0garbage"])
def test_a_corrupt_store_stops_with_the_remedy(made: Stores, damage: bytes) -> None:
    made.path.write_bytes(damage)

    with pytest.raises(ConfigError, match=r"state\.db") as caught:
        made.open()

    assert "--rebuild" in caught.value.details


def test_a_truncated_store_stops_with_the_remedy(made: Stores) -> None:
    path = made.path
    store = made.open()
    for number in range(50):
        store.begin(a_part(a_pod(number), Lease(address=ADDRESSES[0], eni=PRIMARY)))
    store.close()
    os.truncate(path, path.stat().st_size // 2)

    with pytest.raises(ConfigError) as caught:
        made.open()

    assert "--rebuild" in caught.value.details


def test_a_newer_format_is_left_alone(made: Stores) -> None:
    path = made.path
    made.open().close()
    with sqlite3.connect(path) as db:
        db.execute("pragma user_version = 99")
    db.close()

    with pytest.raises(ConfigError, match="format 99"):
        made.open()


WRITER = """
import sys
from pathlib import Path
from typing import cast
from eniplug.core.store import Store
store = Store(Path(sys.argv[1]))
number = 0
while True:
    number += 1
    store.keep_mark(f"eni-{number}", number)
    print(number, flush=True)
"""


def test_nothing_committed_is_lost_when_the_process_is_killed(made: Stores) -> None:
    path = made.path
    with subprocess.Popen(
        [sys.executable, "-c", WRITER, path], stdout=subprocess.PIPE, text=True
    ) as writer:
        assert writer.stdout is not None
        for line in writer.stdout:
            if int(line) >= 200:
                break
        writer.send_signal(signal.SIGKILL)
        rest = [int(n) for n in writer.stdout.read().split()]
    told = max([200, *rest[:-1]])

    assert len(made.open().marks()) >= told


def test_an_ipv6_address_cools_too(made: Stores) -> None:
    store = made.open()
    part = store.begin(PART)

    store.drop(part, {ip_address("2001:db8::7"): 1.0})

    assert list(store.cooling()) == [ip_address("2001:db8::7")]
