from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread

import pytest

from eniplug.core.ec2_boto import ENDPOINT_VARIABLE, Ec2, in_our_words
from eniplug.hooks.capacity import CreateEni
from eniplug.hooks.errors import (
    CloudAwayError,
    CloudError,
    CloudSlowError,
    DeniedError,
    ElasticIpLimitError,
    EniLimitError,
    EniplugError,
    NoFreePrefixError,
    RetryError,
    SubnetFullError,
    ThrottledError,
)


@pytest.mark.parametrize(
    ("code", "message", "error"),
    [
        ("RequestLimitExceeded", "Request limit exceeded.", ThrottledError),
        ("Throttling", "Rate exceeded", ThrottledError),
        ("AddressLimitExceeded", "The maximum number", ElasticIpLimitError),
        ("InvalidIPAddress.InUse", "in use", RetryError),
        ("ThrottlingException", "Rate exceeded", ThrottledError),
        ("EC2ThrottledException", "", ThrottledError),
        ("TooManyRequestsException", "", ThrottledError),
        ("InsufficientFreeAddressesInSubnet", "Insufficient", SubnetFullError),
        ("InsufficientCidrBlocks", "Not enough blocks", SubnetFullError),
        (
            "InvalidParameterValue",
            "There aren't sufficient free Ipv4 addresses or prefixes",
            SubnetFullError,
        ),
        ("AttachmentLimitExceeded", "Interface count 4 exceeds", EniLimitError),
        ("PrivateIpAddressLimitExceeded", "", EniLimitError),
        ("Ipv6AddressLimitExceeded", "", EniLimitError),
        ("InvalidInterface.IpAddressLimitExceeded", "", EniLimitError),
        ("NetworkInterfaceLimitExceeded", "", EniLimitError),
        ("UnauthorizedOperation", "You are not authorized", DeniedError),
        ("AccessDenied", "", DeniedError),
        ("InvalidNetworkInterface.InUse", "", RetryError),
        ("InvalidParameterValue", "'eni-1' is currently in use", RetryError),
        ("InvalidParameterValue", "device index '1' is taken", CloudError),
        ("InvalidNetworkInterfaceID.NotFound", "", CloudError),
        ("AuthFailure", "", CloudError),
        ("InternalError", "", CloudAwayError),
        ("Unavailable", "", CloudAwayError),
        ("502", "Bad Gateway", CloudAwayError),
        ("", "", CloudError),
    ],
)
def test_each_code_becomes_one_error(
    code: str, message: str, error: type[EniplugError]
) -> None:
    assert type(in_our_words("AttachNetworkInterface", code, message)) is error


def test_a_denial_names_the_action_to_grant() -> None:
    error = in_our_words("CreateNetworkInterface", "UnauthorizedOperation", "encoded")

    assert error.message.startswith("not allowed: ec2:CreateNetworkInterface")


def test_a_refusal_keeps_ec2s_own_words() -> None:
    error = in_our_words("AttachNetworkInterface", "AuthFailure", "clock skew")

    assert error.message == (
        "EC2 refuses AttachNetworkInterface: AuthFailure: clock skew"
    )


DEAD = "http://127.0.0.1:9"
"""Where nobody listens."""


class Refusals(ThreadingHTTPServer):
    """An EC2 that answers every call in one way, and counts the calls."""

    status = 400
    body = ""
    asked = 0


class Handler(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        server = self.server
        assert isinstance(server, Refusals)
        server.asked += 1
        self.rfile.read(int(self.headers["Content-Length"]))
        body = server.body.encode()
        self.send_response(server.status)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def server(monkeypatch: pytest.MonkeyPatch) -> Iterator[Refusals]:
    with Refusals(("127.0.0.1", 0), Handler) as server:
        url = f"http://127.0.0.1:{server.server_port}"
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        thread = Thread(target=server.serve_forever, args=(0.02,))
        thread.start()
        yield server
        server.shutdown()
        thread.join()


@pytest.fixture
def ec2(server: Refusals) -> Iterator[Ec2]:
    ec2 = Ec2("us-east-1")
    yield ec2
    ec2.close()


def refuse(code: str) -> str:
    return (
        f"<Response><Errors><Error><Code>{code}</Code><Message>no</Message></Error>"
        "</Errors><RequestID>r</RequestID></Response>"
    )


def test_a_refused_call_is_tried_once(server: Refusals, ec2: Ec2) -> None:
    server.status, server.body = 503, refuse("RequestLimitExceeded")

    with pytest.raises(ThrottledError):
        ec2.assign("eni-1", 1)

    assert server.asked == 1


def test_what_is_gone_needs_no_deleting(server: Refusals, ec2: Ec2) -> None:
    server.body = refuse("InvalidNetworkInterfaceID.NotFound")
    ec2.delete_eni("eni-1")
    server.body = refuse("InvalidAttachmentID.NotFound")
    ec2.detach("eni-attach-1")

    server.body = refuse("AuthFailure")
    with pytest.raises(CloudError, match="AuthFailure"):
        ec2.delete_eni("eni-1")


def test_an_answer_that_lacks_a_field_is_an_error_of_the_cloud(
    server: Refusals, ec2: Ec2
) -> None:
    server.status, server.body = 200, "<R><networkInterface/></R>"

    with pytest.raises(CloudError, match="cannot be read"):
        ec2.create_eni("subnet-1", (), CreateEni(), token="t", description="", tags={})


def test_an_ec2_that_is_not_there_is_an_error_of_the_cloud(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", DEAD)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    ec2 = Ec2("us-east-1")

    with pytest.raises(CloudAwayError, match="cannot be reached for DescribeInst"):
        ec2.describe_instance("i-1")

    ec2.close()


def test_ec2_is_where_the_aws_vpc_cnis_variable_says(
    server: Refusals, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"http://127.0.0.1:{server.server_port}"
    monkeypatch.delenv("AWS_ENDPOINT_URL_EC2")
    ec2 = Ec2("us-east-1", environ={ENDPOINT_VARIABLE: url})
    server.body = refuse("AuthFailure")

    with pytest.raises(CloudError, match="AuthFailure"):
        ec2.delete_eni("eni-1")

    ec2.close()


def test_boto3s_own_variable_goes_before_it(server: Refusals) -> None:
    environ = {**os.environ, ENDPOINT_VARIABLE: DEAD}
    ec2 = Ec2("us-east-1", environ=environ)
    server.body = refuse("AuthFailure")

    with pytest.raises(CloudError, match="AuthFailure"):
        ec2.delete_eni("eni-1")

    ec2.close()


def test_an_endpoint_that_is_no_url_is_told() -> None:
    with pytest.raises(CloudError, match="Invalid endpoint: nowhere"):
        Ec2("us-east-1", environ={ENDPOINT_VARIABLE: "nowhere"})


def test_a_load_balancer_that_answers_in_ec2s_place_is_an_ec2_that_is_away(
    server: Refusals, ec2: Ec2
) -> None:
    server.status, server.body = 503, ""

    with pytest.raises(CloudAwayError):
        ec2.describe_instance("i-1")


def test_every_call_is_told_with_what_came_of_it(server: Refusals) -> None:
    told: list[tuple[str, str]] = []
    ec2 = Ec2(
        "us-east-1",
        called=lambda action, error: told.append(
            (action, "" if error is None else error.reason)
        ),
    )

    server.status = 200
    server.body = "<DescribeSubnetsResponse><subnetSet/></DescribeSubnetsResponse>"
    ec2.describe_subnets("vpc-1", "us-east-1a")
    server.status, server.body = 400, refuse("RequestLimitExceeded")
    with pytest.raises(ThrottledError):
        ec2.delete_eni("eni-1")
    ec2.close()

    assert told == [("DescribeSubnets", ""), ("DeleteNetworkInterface", "throttled")]


def test_a_call_without_an_answer_is_told_too(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", DEAD)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    told: list[tuple[str, EniplugError | None]] = []
    ec2 = Ec2(
        "us-east-1",
        called=lambda action, error: told.append((action, error)),
    )

    with pytest.raises(CloudAwayError) as raised:
        ec2.delete_eni("eni-1")
    ec2.close()

    [(action, error)] = told
    assert action == "DeleteNetworkInterface"
    assert type(error) is type(raised.value)


FULL = ["InsufficientFreeAddressesInSubnet", "InsufficientCidrBlocks"]


@pytest.mark.parametrize("code", FULL)
def test_it_is_said_what_a_subnet_has_none_left_of(
    server: Refusals, ec2: Ec2, code: str
) -> None:
    server.body = refuse(code)

    with pytest.raises(NoFreePrefixError):
        ec2.assign_prefixes("eni-1", 1, 4)
    with pytest.raises(SubnetFullError):
        ec2.assign("eni-1", 1)
    for want, error in (
        (CreateEni(prefixes=1), NoFreePrefixError),
        (CreateEni(addresses=1), SubnetFullError),
    ):
        with pytest.raises(error):
            ec2.create_eni("s", (), want, token="t", description="", tags={})


def test_an_ec2_that_does_not_answer_in_time_is_slow(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", f"http://127.0.0.1:{port}")
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        ec2 = Ec2("us-east-1", read_timeout=0.2)

        with pytest.raises(CloudSlowError, match="DescribeInstances in time"):
            ec2.describe_instance("i-1")

        ec2.close()


def test_boto3_is_loaded_only_for_a_client() -> None:
    code = "import sys, eniplug.core.ec2_boto; sys.exit('boto3' in sys.modules)"

    assert subprocess.run([sys.executable, "-c", code], timeout=30).returncode == 0
