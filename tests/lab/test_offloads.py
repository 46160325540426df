"""Segmentation is left to the last link: packets of many segments pass whole."""

from __future__ import annotations

import os
import time
from collections.abc import Generator, Iterator
from contextlib import contextmanager

import pytest

from eniplug.lab import netns
from kit.labs import LabHand, a_lab
from kit.names import MINE
from kit.streams import LARGE, Counted, Stream, streaming

pytestmark = [pytest.mark.root, pytest.mark.lab]

MTU = 9001
A_WHILE = 0.5
HERE = tuple(f"here{number}" for number in range(11))
"""More pods than the first ENI of the smallest type has addresses for."""


@contextmanager
def opened(lab: LabHand, *pods: str) -> Generator[list[int]]:
    """Open pods' namespaces."""
    paths = [netns.DIRECTORY / lab.names.pod(pod) for pod in pods]
    descriptors = [os.open(path, os.O_RDONLY | os.O_CLOEXEC) for path in paths]
    try:
        yield descriptors
    finally:
        for one in descriptors:
            os.close(one)


def size_of_a_packet(lab: LabHand, source: str, sink: str, address: str) -> float:
    """Send TCP from pod to pod; returns the mean of what comes in as one packet."""
    with opened(lab, source, sink) as (here, there):
        stream = Stream(source=here, sink=there, address=address, mbit=LARGE, mtu=MTU)
        with streaming([stream]):
            time.sleep(A_WHILE / 5)
            before = Counted.at(there)
            time.sleep(A_WHILE)
            after = Counted.at(there)
    return (after.bytes - before.bytes) / (after.packets - before.packets)


@pytest.fixture(scope="module", params=["flat-routes", "policy-routes"])
def lab(request: pytest.FixtureRequest) -> Iterator[LabHand]:
    plugins = ["secondary-ip", "pod-veth", request.param, "snat"]
    entry = {"type": "eniplug", "plugins": plugins}
    conflist = {"cniVersion": "1.0.0", "name": "vpc", "plugins": [entry]}
    with a_lab(f"{MINE}-offload", conflist=conflist) as lab:
        yield lab


def test_packets_of_many_segments_pass_on_every_path(lab: LabHand) -> None:
    addresses = lab.add(*HERE) | lab.add("far", node=2)
    (first, *_) = lab.status()["nodes"][0]["enis"]
    of_first = [pod for pod in HERE if addresses[pod] in first["addresses"]]
    of_second = next(pod for pod in HERE if pod not in of_first)

    paths = {
        "same node": (of_first[0], of_first[1]),
        "to the second ENI": (of_first[0], of_second),
        "to another node": (of_first[0], "far"),
        "by the second ENI to another node": (of_second, "far"),
    }
    for path, (source, sink) in paths.items():
        size = size_of_a_packet(lab, source, sink, addresses[sink])
        assert size > 2 * MTU, path
