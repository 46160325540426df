from __future__ import annotations

import threading
import time
from collections.abc import Generator
from contextlib import contextmanager
from typing import Any

import boto3
import pytest
import urllib3
from botocore.config import Config
from botocore.exceptions import ClientError

from eniplug.lab.cloud import Cloud, VpcFacts
from eniplug.lab.faults import Faults
from eniplug.lab.front import Bucket


@contextmanager
def refused(code: str, status: int, words: str = "") -> Generator[None]:
    with pytest.raises(ClientError) as error:
        yield
    told: Any = error.value.response
    assert told["Error"]["Code"] == code
    assert told["ResponseMetadata"]["HTTPStatusCode"] == status
    assert words in told["Error"]["Message"]


def test_calls_are_counted_by_action(cloud: Cloud, ec2: Any, vpc: VpcFacts) -> None:
    before = cloud.calls()

    ec2.describe_vpcs()
    ec2.describe_vpcs()
    ec2.describe_subnets()

    assert before == {}
    assert cloud.calls() == {"DescribeVpcs": 2, "DescribeSubnets": 1}


def test_refused_calls_are_counted_too(cloud: Cloud, ec2: Any, vpc: VpcFacts) -> None:
    cloud.set_faults(Faults(down=True))

    with refused("Unavailable", 503):
        ec2.describe_vpcs()

    assert cloud.calls()["DescribeVpcs"] == 1


def test_a_denied_action_is_named(cloud: Cloud, ec2: Any, vpc: VpcFacts) -> None:
    cloud.set_faults(Faults(denied=("DescribeVpcs",)))

    with refused("UnauthorizedOperation", 403, "ec2:DescribeVpcs"):
        ec2.describe_vpcs()

    assert len(ec2.describe_subnets()["Subnets"]) == 3


def test_a_chosen_error_comes_as_often_as_said(
    cloud: Cloud, ec2: Any, vpc: VpcFacts
) -> None:
    cloud.set_faults(Faults(fail={"DescribeVpcs": ("InternalError", 2)}))

    for _ in range(2):
        with refused("InternalError", 500):
            ec2.describe_vpcs()

    assert len(ec2.describe_vpcs()["Vpcs"]) == 1


def test_an_empty_bucket_is_request_limit_exceeded(
    cloud: Cloud, ec2: Any, vpc: VpcFacts
) -> None:
    cloud.set_faults(Faults(rate={"DescribeVpcs": (2, 0)}))
    ec2.describe_vpcs()
    ec2.describe_vpcs()

    with refused("RequestLimitExceeded", 503):
        ec2.describe_vpcs()

    ec2.describe_subnets()


def test_each_action_has_a_bucket_of_its_own(
    cloud: Cloud, ec2: Any, vpc: VpcFacts
) -> None:
    cloud.set_faults(Faults(rate={"*": (1, 0)}))
    ec2.describe_vpcs()
    ec2.describe_subnets()

    with refused("RequestLimitExceeded", 503):
        ec2.describe_subnets()


def test_boto3_retries_a_throttled_call_by_itself(
    cloud: Cloud, endpoint: str, vpc: VpcFacts
) -> None:
    retrying: Any = boto3.client(
        "ec2",
        endpoint_url=endpoint,
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 3}, proxies={}),
    )
    cloud.set_faults(Faults(fail={"DescribeVpcs": ("RequestLimitExceeded", 1)}))

    told = retrying.describe_vpcs()
    retrying.close()

    assert told["ResponseMetadata"]["RetryAttempts"] == 1


def test_latency_is_spent_side_by_side(cloud: Cloud, ec2: Any, vpc: VpcFacts) -> None:
    cloud.set_faults(Faults(call_ms=(300, 300)))
    threads = [threading.Thread(target=ec2.describe_vpcs) for _ in range(4)]

    start = time.monotonic()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    took = time.monotonic() - start

    assert cloud.calls()["DescribeVpcs"] == 4
    assert 0.3 <= took < 4 * 0.3


def test_no_address_is_given_twice_when_calls_come_together(
    ec2: Any, small: str
) -> None:
    made: list[str] = []

    def create() -> None:
        eni = ec2.create_network_interface(SubnetId=small)["NetworkInterface"]
        made.append(eni["PrivateIpAddress"])

    threads = [threading.Thread(target=create) for _ in range(11)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()

    assert len(set(made)) == 11


def test_faults_that_are_set_again_begin_anew(
    cloud: Cloud, ec2: Any, vpc: VpcFacts
) -> None:
    cloud.set_faults(Faults(down=True))
    cloud.set_faults(Faults())

    assert len(ec2.describe_vpcs()["Vpcs"]) == 1


def test_a_call_that_is_signed_for_another_region_is_refused(
    endpoint: str, vpc: VpcFacts
) -> None:
    elsewhere: Any = boto3.client(
        "ec2",
        endpoint_url=endpoint,
        region_name="eu-west-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(retries={"total_max_attempts": 1}, proxies={}),
    )

    with refused("AuthFailure", 401, "us-east-1"):
        elsewhere.describe_vpcs()
    elsewhere.close()


def test_a_call_that_is_not_signed_is_refused(endpoint: str) -> None:
    with urllib3.PoolManager() as http:
        answer = http.request("POST", endpoint, body="Action=DescribeVpcs&Version=1")

    assert answer.status == 401
    assert b"<Code>AuthFailure</Code>" in answer.data


def test_nonsense_gets_an_error_and_no_crash(endpoint: str, ec2: Any) -> None:
    with urllib3.PoolManager() as http:
        answer = http.request("POST", endpoint, body=b"\xff\xfe\x00<>&")

    assert answer.status == 401
    assert ec2.describe_vpcs()["Vpcs"] == []


def test_a_bucket_fills_up_again_with_time() -> None:
    now = [0.0]
    bucket = Bucket(2, 0.5, clock=lambda: now[0])
    assert [bucket.take() for _ in range(3)] == [True, True, False]

    now[0] = 2.0

    assert [bucket.take() for _ in range(2)] == [True, False]


def test_a_bucket_holds_no_more_than_its_size() -> None:
    now = [0.0]
    bucket = Bucket(2, 10, clock=lambda: now[0])

    now[0] = 1000.0

    assert [bucket.take() for _ in range(3)] == [True, True, False]
