from __future__ import annotations

import os
import time
from pathlib import Path

import pytest
from attrs import define, field

from eniplug.cni.wire import encode_request
from eniplug.core.parts import AttachmentKey
from eniplug.core.tombstones import Tombstones


@define
class Undertaker:
    buried: list[tuple[AttachmentKey, float]] = field(factory=list)

    def __call__(self, key: AttachmentKey, before: float) -> bool:
        self.buried.append((key, before))
        return True


def leave(folder: Path, name: str, container: str, at: float) -> Path:
    environ = {"CNI_COMMAND": "DEL", "CNI_CONTAINERID": container, "CNI_IFNAME": "eth0"}
    path = folder / name
    path.write_bytes(encode_request(bytes(16), environ, b"{}"))
    os.utime(path, (at, at))
    return path


def test_a_del_that_was_missed_is_carried_out_once(tmp_path: Path) -> None:
    undertaker = Undertaker()
    leave(tmp_path, "1-1", "c1", 100.0)
    leave(tmp_path, "2-1", "c2", 200.0)
    tombstones = Tombstones(tmp_path, undertaker)

    tombstones.work_off()
    tombstones.work_off()

    assert undertaker.buried == [
        (AttachmentKey("c1", "eth0"), 100.0),
        (AttachmentKey("c2", "eth0"), 200.0),
    ]
    assert not list(tmp_path.iterdir())


def test_one_that_comes_later_is_found(tmp_path: Path) -> None:
    undertaker = Undertaker()
    tombstones = Tombstones(tmp_path, undertaker)
    tombstones.work_off()

    leave(tmp_path, "1-1", "c1", 100.0)
    tombstones.work_off()

    assert len(undertaker.buried) == 1


def test_one_that_is_still_being_written_is_left(tmp_path: Path) -> None:
    undertaker = Undertaker()
    half = leave(tmp_path, ".1-1", "c1", time.time())
    abandoned = leave(tmp_path, ".0-1", "c0", time.time() - 90)

    Tombstones(tmp_path, undertaker).work_off()

    assert undertaker.buried == []
    assert half.exists()
    assert not abandoned.exists()


def test_rubbish_is_removed_and_harms_nothing(tmp_path: Path) -> None:
    undertaker = Undertaker()
    (tmp_path / "0-1").write_bytes(b"rubbish")
    leave(tmp_path, "1-1", "c1", 100.0)

    Tombstones(tmp_path, undertaker).work_off()

    assert len(undertaker.buried) == 1
    assert not list(tmp_path.iterdir())


def test_without_the_folder_there_is_nothing_to_do(tmp_path: Path) -> None:
    Tombstones(tmp_path / "none", Undertaker()).work_off()


def test_a_del_that_fails_is_tried_again(tmp_path: Path) -> None:
    fails = [True]

    def bury(key: AttachmentKey, before: float) -> bool:
        del key, before
        if fails.pop() if fails else False:
            msg = "netlink"
            raise OSError(msg)
        return True

    leave(tmp_path, "1-1", "c1", 100.0)
    tombstones = Tombstones(tmp_path, bury)

    tombstones.work_off()
    assert list(tmp_path.iterdir())
    tombstones.work_off()

    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("count", [1, 30])
def test_they_are_worked_off_in_the_order_of_their_names(
    tmp_path: Path, count: int
) -> None:
    undertaker = Undertaker()
    for number in reversed(range(count)):
        leave(tmp_path, f"{number:03}-1", f"c{number}", float(number))

    Tombstones(tmp_path, undertaker).work_off()

    assert [at for _, at in undertaker.buried] == [float(n) for n in range(count)]
