from __future__ import annotations

from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from threading import Thread

import pytest

from eniplug.core.imds import ENDPOINT_VARIABLE, Imds
from eniplug.hooks.errors import CloudError
from eniplug.testing.clock import HandClock

MAC = "02:aa:bb:cc:dd:ee"
MACS = "network/interfaces/macs"
KEYS = {
    "instance-id": "i-0123",
    "instance-type": "c5.large",
    "placement/region": "eu-central-1",
    "placement/availability-zone": "eu-central-1b",
    "mac": MAC.upper(),
    f"{MACS}/": f"{MAC}/\n02:aa:bb:cc:dd:ef/",
    f"{MACS}/{MAC}/interface-id": "eni-1",
    f"{MACS}/{MAC}/device-number": "2",
    f"{MACS}/{MAC}/network-card": "1",
    f"{MACS}/{MAC}/local-ipv4s": "10.0.0.5\n10.0.0.9",
    f"{MACS}/{MAC}/subnet-ipv4-cidr-block": "10.0.0.0/24",
    f"{MACS}/{MAC}/vpc-ipv4-cidr-blocks": "10.0.0.0/16\n100.64.0.0/16",
    f"{MACS}/{MAC}/security-group-ids": "sg-1\nsg-2",
    f"{MACS}/{MAC}/subnet-id": "subnet-1",
    f"{MACS}/{MAC}/vpc-id": "vpc-1",
}


class Service(ThreadingHTTPServer):
    """A metadata service that demands tokens of version 2."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.keys = dict(KEYS)
        self.tokens = 0
        self.valid: str | None = None
        self.status = 200


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_PUT(self) -> None:
        service = self.service
        ttl = int(self.headers.get("X-aws-ec2-metadata-token-ttl-seconds", "0"))
        if self.path != "/latest/api/token" or not 1 <= ttl <= 21600:
            self.say(400, "")
        elif service.status != 200:
            self.say(service.status, "")
        else:
            service.tokens += 1
            service.valid = f"token-{service.tokens}"
            self.say(200, service.valid)

    def do_GET(self) -> None:
        service = self.service
        key = self.path.removeprefix("/latest/meta-data/")
        if self.headers.get("X-aws-ec2-metadata-token") != service.valid:
            self.say(401, "")
        elif key in service.keys:
            self.say(200, service.keys[key])
        else:
            self.say(404, "<html>Not Found</html>")

    @property
    def service(self) -> Service:
        assert isinstance(self.server, Service)
        return self.server

    def say(self, status: int, text: str) -> None:
        self.send_response(status)
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text.encode())

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        pass


@pytest.fixture
def service() -> Iterator[Service]:
    with Service() as service:
        service.daemon_threads = True
        thread = Thread(target=service.serve_forever, args=(0.02,))
        thread.start()
        yield service
        service.shutdown()
        thread.join()


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def imds(service: Service, clock: HandClock) -> Imds:
    # With the slash that people like to end URLs with.
    url = f"http://127.0.0.1:{service.server_port}/"
    return Imds({ENDPOINT_VARIABLE: url}, clock)


def test_the_instance_tells_who_it_is(imds: Imds) -> None:
    assert imds.instance_id() == "i-0123"
    assert imds.instance_type() == "c5.large"
    assert imds.region() == "eu-central-1"
    assert imds.zone() == "eu-central-1b"
    assert imds.mac() == MAC


def test_an_eni_is_told_by_its_mac(imds: Imds) -> None:
    assert imds.macs() == (MAC, "02:aa:bb:cc:dd:ef")
    assert imds.interface_id(MAC) == "eni-1"
    assert imds.local_ipv4s(MAC) == (IPv4Address("10.0.0.5"), IPv4Address("10.0.0.9"))
    assert imds.vpc_cidrs(MAC) == (
        IPv4Network("10.0.0.0/16"),
        IPv4Network("100.64.0.0/16"),
    )
    assert imds.security_groups(MAC) == ("sg-1", "sg-2")


def test_all_that_an_eni_has_for_pods_is_told(service: Service, imds: Imds) -> None:
    service.keys |= {
        f"{MACS}/{MAC}/ipv4-prefix": "10.0.0.16/28\n10.0.0.32/28",
        f"{MACS}/{MAC}/ipv6-prefix": "2001:db8:0:0:1::/80",
    }

    assert imds.blocks(MAC) == {
        IPv4Address("10.0.0.9"),
        IPv4Network("10.0.0.16/28"),
        IPv4Network("10.0.0.32/28"),
        IPv6Network("2001:db8:0:0:1::/80"),
    }


def test_an_eni_is_told_whole(imds: Imds) -> None:
    eni = imds.eni(MAC)

    assert eni is not None
    assert (eni.id, eni.card, eni.device) == ("eni-1", 1, 2)
    assert eni.subnet_cidr == IPv4Network("10.0.0.0/24")
    assert eni.address == IPv4Address("10.0.0.5")
    assert eni.secondary == (IPv4Address("10.0.0.9"),)
    assert eni.groups == ("sg-1", "sg-2")


def test_an_eni_without_an_address_serves_nobody(service: Service, imds: Imds) -> None:
    del service.keys[f"{MACS}/{MAC}/local-ipv4s"]

    assert imds.eni(MAC) is None


def test_what_is_not_there_is_empty(imds: Imds) -> None:
    other = "02:00:00:00:00:01"

    assert imds.interface_id(other) == ""
    assert imds.eni(other) is None
    assert imds.local_ipv4s(other) == ()
    assert imds.vpc_cidrs(other) == ()
    assert imds.security_groups(other) == ()
    assert imds.blocks(other) == frozenset()


def test_an_instance_without_an_id_is_an_error(service: Service, imds: Imds) -> None:
    del service.keys["instance-id"]

    with pytest.raises(CloudError, match="IMDS has no instance-id"):
        imds.instance_id()


def test_one_token_serves_many_questions(service: Service, imds: Imds) -> None:
    for _ in range(5):
        imds.instance_id()

    assert service.tokens == 1


def test_a_token_is_replaced_before_its_end(
    service: Service, imds: Imds, clock: HandClock
) -> None:
    imds.instance_id()
    clock.advance(21600 - 61)
    imds.instance_id()
    assert service.tokens == 1

    clock.advance(1)
    imds.instance_id()

    assert service.tokens == 2


def test_a_token_that_the_service_forgot_is_replaced(
    service: Service, imds: Imds
) -> None:
    imds.instance_id()
    service.valid = "another"

    assert imds.instance_id() == "i-0123"
    assert service.tokens == 2


def test_a_service_that_gives_no_token_is_an_error(
    service: Service, imds: Imds
) -> None:
    service.status = 403

    with pytest.raises(CloudError, match="gives no token: 403"):
        imds.instance_id()


def test_nonsense_is_an_error(service: Service, imds: Imds) -> None:
    service.keys[f"{MACS}/{MAC}/local-ipv4s"] = "10.0.0.5\nhere"

    with pytest.raises(CloudError, match="nonsense at network/interfaces"):
        imds.local_ipv4s(MAC)


@pytest.mark.parametrize(
    "url", ["http://127.0.0.1:9", "http://[::1]:9/", "http://host:port", "http://a..b"]
)
def test_a_service_that_is_not_there_is_an_error(url: str) -> None:
    imds = Imds({ENDPOINT_VARIABLE: url})

    with pytest.raises(CloudError, match="no answer from IMDS"):
        imds.macs()
