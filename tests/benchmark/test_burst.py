"""Chains of real executables, run as a container runtime does."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest

from bench.burst import Contender, Pod
from eniplug.lab import netns
from kit.netns import namespace, run

pytestmark = pytest.mark.root

CNI = next(
    (one for one in map(Path, ("/usr/lib/cni", "/usr/libexec/cni")) if one.is_dir()),
    Path("/opt/cni/bin"),
)


@pytest.fixture
def host() -> Iterator[netns.Inside]:
    with namespace() as name:
        inside = netns.Inside(name)
        yield inside
        inside.close()


@pytest.fixture
def pods() -> Iterator[Sequence[Pod]]:
    with ExitStack() as stack:
        names = [stack.enter_context(namespace()) for _ in range(4)]
        yield [Pod(number=n, namespace=name) for n, name in enumerate(names)]


def contender(host: netns.Inside, path: Path, *chain: Mapping[str, Any]) -> Contender:
    return Contender(name="theirs", chain=chain, host=host, path=path, version="0.4.0")


def bridge(tmp_path: Path) -> Mapping[str, Any]:
    ipam = {"type": "host-local", "subnet": "10.77.0.0/24", "dataDir": str(tmp_path)}
    return {"type": "bridge", "bridge": "cni0", "ipam": ipam}


def test_a_chain_of_others_runs_there_and_back(
    host: netns.Inside, pods: Sequence[Pod], tmp_path: Path
) -> None:
    tuning = {"type": "tuning", "sysctl": {"net.core.somaxconn": "500"}}
    theirs = contender(host, CNI, bridge(tmp_path), tuning)

    took = theirs.run("ADD", pods, 4)

    assert 0 < max(took.each) <= took.whole
    found = {ip_address(pod.address) for pod in pods}
    assert len(found) == 4
    assert all(one in ip_network("10.77.0.0/24") for one in found)
    for pod in pods:  # tuning works only with what the bridge has printed
        said = run("cat", "/proc/sys/net/core/somaxconn", inside=pod.namespace)
        assert said.strip() == "500"

    theirs.run("DEL", pods, 2)

    assert [pod.result for pod in pods] == [None] * 4
    assert "eth0" not in run("ip", "link", inside=pods[0].namespace)


def test_a_failure_has_the_executables_words(
    host: netns.Inside, pods: Sequence[Pod], tmp_path: Path
) -> None:
    theirs = contender(host, CNI, bridge(tmp_path))
    theirs.run("ADD", pods, 1)

    with pytest.raises(RuntimeError, match="eth0"):
        theirs.run("ADD", pods[:1], 1)

    theirs.run("DEL", pods, 1)


def test_as_many_run_side_by_side_as_are_asked(
    host: netns.Inside, pods: Sequence[Pod], tmp_path: Path
) -> None:
    slow = tmp_path / "slow"
    slow.write_text("#!/bin/sh\nsleep 0.3\necho '{}'\n")
    slow.chmod(0o755)
    theirs = contender(host, tmp_path, {"type": "slow"})

    alone, together = theirs.run("ADD", pods, 1), theirs.run("ADD", pods, 4)

    assert min(*alone.each, *together.each) >= 0.3
    assert alone.whole >= 1.2 > together.whole
