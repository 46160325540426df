"""The lab's cloud over real HTTP on loopback."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator
from typing import TYPE_CHECKING, cast

import boto3
import pytest
from botocore.config import Config

from eniplug.lab.cloud import Cloud, VpcFacts
from eniplug.lab.facts import NodeFacts

if TYPE_CHECKING:
    from mypy_boto3_ec2.client import EC2Client

CONFIG = Config(retries={"total_max_attempts": 1}, proxies={})


@pytest.fixture
def cloud() -> Iterator[Cloud]:
    """EC2 and IMDS with nobody behind them, and no VPC yet."""
    with Cloud() as cloud:
        yield cloud


@pytest.fixture
def vpc(cloud: Cloud) -> VpcFacts:
    """10.0.0.0/16 and 100.64.0.0/16: a /24, a /28, and a /24 in another zone."""
    return cloud.create_vpc(
        ("10.0.0.0/16", "100.64.0.0/16"),
        (
            ("us-east-1a", "10.0.1.0/24"),
            ("us-east-1a", "100.64.0.0/28"),
            ("us-east-1b", "10.0.2.0/24"),
        ),
        ipv6=True,
    )


@pytest.fixture
def subnet(vpc: VpcFacts) -> str:
    """10.0.1.0/24 in us-east-1a."""
    return next(iter(vpc.subnets))


@pytest.fixture
def small(vpc: VpcFacts) -> str:
    """100.64.0.0/28 in us-east-1a, in which EC2 leaves 11 addresses."""
    return list(vpc.subnets)[1]


@pytest.fixture
def far(vpc: VpcFacts) -> str:
    """10.0.2.0/24 in us-east-1b."""
    return list(vpc.subnets)[2]


@pytest.fixture
def node(cloud: Cloud, vpc: VpcFacts) -> NodeFacts:
    """An m5.large in 10.0.1.0/24: three ENIs with ten addresses each."""
    return cloud.launch("m5.large")


@pytest.fixture(scope="session")
def port() -> Iterator[socket.socket]:
    """A port that every cloud in turn answers on."""
    with socket.create_server(("127.0.0.1", 0)) as sock:
        yield sock


@pytest.fixture(scope="session")
def client(port: socket.socket) -> Iterator[EC2Client]:
    """boto3's client, which takes longer to make than a cloud."""
    client = cast(
        "EC2Client",
        boto3.client(
            "ec2",
            endpoint_url=f"http://127.0.0.1:{port.getsockname()[1]}",
            region_name="us-east-1",
            aws_access_key_id="a",
            aws_secret_access_key="b",
            config=CONFIG,
        ),
    )
    yield client
    client.close()


@pytest.fixture
def endpoint(cloud: Cloud, port: socket.socket) -> str:
    """Where the cloud's EC2 answers."""
    cloud.serve_ec2(port.dup())
    return f"http://127.0.0.1:{port.getsockname()[1]}"


@pytest.fixture
def ec2(client: EC2Client, endpoint: str) -> EC2Client:
    """The cloud's EC2: it is tried once, and nothing is taken from outside."""
    assert client.meta.endpoint_url == endpoint
    return client


@pytest.fixture
def unmeasured(monkeypatch: pytest.MonkeyPatch) -> None:
    """Do not measure processes that a test interrupts.

    One that is interrupted inside coverage's own lock never gives it back, and hangs.
    """
    for name in [name for name in os.environ if name.startswith("COVERAGE_")]:
        monkeypatch.delenv(name)
