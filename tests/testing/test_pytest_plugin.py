"""The kit's fixtures, as an author has them."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eniplug.hooks import CreateEni
from eniplug.hooks.errors import CoolingError, PoolEmptyError
from eniplug.lab.errors import LabError
from eniplug.testing.builders import NODE, a_pod, a_pool
from eniplug.testing.clock import HandClock
from eniplug.testing.cloud import MemoryCloud
from eniplug.testing.lab import a_lab
from eniplug.testing.pool import MemoryPool
from eniplug.testing.world import a_world

NOBODY = 65534


@pytest.fixture
def nobody() -> Iterator[None]:
    """Be somebody who is not root."""
    me = os.geteuid()
    os.seteuid(NOBODY)
    yield
    os.seteuid(me)


def test_the_clock_moves_by_hand(hand_clock: HandClock) -> None:
    began = hand_clock()
    hand_clock.advance(5)

    assert hand_clock() - began == 5


def test_the_cloud_has_ec2s_limits(memory_cloud: MemoryCloud) -> None:
    one = memory_cloud.create_eni(
        "subnet-1", ("sg-1",), CreateEni(), token="t", description="", tags={}
    )

    assert one.subnet == "subnet-1"
    assert memory_cloud.named("create_eni")


def test_the_pool_gives_addresses_and_takes_them_back(memory_pool: MemoryPool) -> None:
    lease = memory_pool.take()
    memory_pool.give_back(lease)

    with pytest.raises(CoolingError):
        memory_pool.take(address=lease.address)
    memory_pool.clock.advance(30)
    assert memory_pool.take(address=lease.address) == lease


def test_a_pool_of_two_enis_has_pairs_and_comes_to_an_end() -> None:
    pool = a_pool()

    enis = {lease.eni.id for _ in range(9) for lease in pool.take_pair()}

    assert enis == {"eni-1", "eni-2"}
    with pytest.raises(PoolEmptyError):
        pool.take()


def test_a_pools_holders_are_counted_by_what_they_are() -> None:
    pool = a_pool(a_pod(1, namespace="web"), a_pod(2, namespace="db"))

    assert pool.held() == 2
    assert pool.held(namespace="web") == 1
    assert pool.held(namespace="web", name="web-2") == 0


def test_pytest_has_the_fixtures_and_nothing_else_is_imported() -> None:
    code = "import sys, eniplug.testing.pytest_plugin; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    ours = {name for name in done.stdout.split() if name.startswith("eniplug.")}
    heavy = {"attrs", "boto3", "moto", "pyroute2"}

    assert ours == {"eniplug.testing", "eniplug.testing.pytest_plugin"}
    assert heavy.isdisjoint(done.stdout.split())


def test_an_authors_tests_find_fixtures_and_marks(tmp_path: Path) -> None:
    (tmp_path / "test_mine.py").write_text(
        "import pytest\n"
        "@pytest.mark.root\n"
        "def test_mine(hand_clock, memory_cloud, memory_pool):\n"
        "    assert hand_clock() and memory_cloud and memory_pool\n"
    )
    words = ("-q", "--strict-markers", "-p", "no:cacheprovider", "-c", "/dev/null")

    done = subprocess.run(
        [sys.executable, "-m", "pytest", *words, "--rootdir=.", "test_mine.py"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
    )

    assert "1 passed" in done.stdout, done.stdout


@pytest.mark.root
@pytest.mark.usefixtures("nobody")
def test_without_root_a_lab_says_so() -> None:
    with pytest.raises(LabError, match="takes root") as why, a_lab("kt"):
        pass

    assert why.value.remedy == "run it with sudo"


@pytest.mark.root
@pytest.mark.usefixtures("nobody")
def test_without_root_the_kernels_laws_say_so() -> None:
    with pytest.raises(PermissionError, match="run it as root"), a_world(NODE):
        pass
