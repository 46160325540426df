from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest
import urllib3
from attrs import define, evolve, field
from botocore.utils import InstanceMetadataFetcher, InstanceMetadataRegionFetcher

from eniplug.lab import netns, tools
from eniplug.lab.cloud import Cloud, VpcFacts
from eniplug.lab.facts import NodeFacts
from eniplug.lab.faults import Faults
from eniplug.lab.imds import ImdsServer
from eniplug.lab.metadata import Memory

TTL = "X-aws-ec2-metadata-token-ttl-seconds"
TOKEN = "X-aws-ec2-metadata-token"
MACS = "/latest/meta-data/network/interfaces/macs/"


@define
class Guest:
    """A program on a node, whose address on the VPC can be chosen."""

    url: str
    asks_from: str
    http: urllib3.PoolManager = field(factory=urllib3.PoolManager)
    token: str = ""

    def put(self, path: str = "/latest/api/token", **headers: str) -> Any:
        given = {name.replace("_", "-"): value for name, value in headers.items()}
        return self.http.request("PUT", self.url + path, headers=given, retries=False)

    def get(self, path: str, **headers: str) -> Any:
        if self.token:
            headers[TOKEN] = self.token
        return self.http.request("GET", self.url + path, headers=headers, retries=False)

    def log_in(self, seconds: int = 60) -> None:
        self.token = self.put(**{TTL: str(seconds)}).data.decode()

    def text(self, path: str) -> str:
        answer = self.get(path)
        assert answer.status == 200, path
        return str(answer.data.decode())


@pytest.fixture
def guest(cloud: Cloud, node: NodeFacts) -> Iterator[Guest]:
    """A guest that has no token yet."""
    sock = socket.create_server(("127.0.0.1", 0))
    guest = Guest(f"http://127.0.0.1:{sock.getsockname()[1]}", str(node.address))
    cloud.serve_imds(sock, who=lambda _: cloud.node_at(guest.asks_from))
    yield guest
    guest.http.clear()


# Tokens


def test_a_token_opens_the_metadata(guest: Guest, node: NodeFacts) -> None:
    answer = guest.put(**{TTL: "60"})
    guest.token = answer.data.decode()

    assert answer.status == 200
    assert answer.headers[TTL] == "60"
    assert guest.text("/latest/meta-data/instance-id") == node.instance_id


def test_without_a_token_there_is_nothing(guest: Guest) -> None:
    assert guest.get("/latest/meta-data/instance-id").status == 401


def test_a_wrong_token_is_refused(guest: Guest) -> None:
    guest.token = "wrong"

    assert guest.get("/latest/meta-data/instance-id").status == 401


def test_another_instances_token_is_refused(cloud: Cloud, guest: Guest) -> None:
    guest.log_in()
    guest.asks_from = str(cloud.launch("m5.large").address)

    assert guest.get("/latest/meta-data/instance-id").status == 401


def test_a_token_dies(node: NodeFacts) -> None:
    now = [0.0]
    sock = socket.create_server(("127.0.0.1", 0))
    url = f"http://127.0.0.1:{sock.getsockname()[1]}"
    memory = Memory(Faults())
    server = ImdsServer(sock, lambda _: node, memory, clock=lambda: now[0])
    guest = Guest(url, "")
    guest.log_in(60)

    now[0] = 59.9
    before = guest.get("/latest/meta-data/mac").status
    now[0] = 60.0
    after = guest.get("/latest/meta-data/mac").status
    server.close()

    assert (before, after) == (200, 401)


@pytest.mark.parametrize("seconds", ["", "0", "21601", "-1", "x", "1.5", "²"])
def test_a_token_has_a_life_of_one_second_to_six_hours(
    guest: Guest, seconds: str
) -> None:
    headers = {TTL: seconds.encode("utf-8").decode("latin-1")} if seconds else {}

    assert guest.put(**headers).status == 400


def test_the_longest_life_is_six_hours(guest: Guest) -> None:
    assert guest.put(**{TTL: "21600"}).status == 200


def test_a_token_is_not_for_proxies(guest: Guest) -> None:
    assert guest.put(**{TTL: "60", "X-Forwarded-For": "1.2.3.4"}).status == 403


def test_tokens_are_only_under_latest(guest: Guest) -> None:
    assert guest.put("/2021-07-15/api/token", **{TTL: "60"}).status == 403
    assert guest.put("/latest/meta-data/mac", **{TTL: "60"}).status == 404


def test_version_one_answers_where_tokens_are_optional(
    cloud: Cloud, guest: Guest
) -> None:
    node = cloud.launch("m5.large", token_required=False)
    guest.asks_from = str(node.address)

    assert guest.text("/latest/meta-data/instance-id") == node.instance_id
    guest.token = "wrong"
    assert guest.get("/latest/meta-data/instance-id").status == 401


def test_imds_can_be_switched_off(guest: Guest, node: NodeFacts, ec2: Any) -> None:
    guest.log_in()

    ec2.modify_instance_metadata_options(
        InstanceId=node.instance_id, HttpEndpoint="disabled"
    )

    assert guest.get("/latest/meta-data/mac").status == 403
    assert guest.put(**{TTL: "60"}).status == 403


def test_an_address_that_no_instance_has_is_refused(guest: Guest) -> None:
    guest.log_in()
    guest.asks_from = "10.0.1.250"

    assert guest.get("/latest/meta-data/mac").status == 403


def test_an_address_in_a_prefix_is_the_instances(
    guest: Guest, node: NodeFacts, ec2: Any
) -> None:
    assigned = ec2.assign_private_ip_addresses(
        NetworkInterfaceId=node.eni.id, Ipv4PrefixCount=1
    )
    prefix = assigned["AssignedIpv4Prefixes"][0]["Ipv4Prefix"]
    guest.asks_from = prefix.replace("/28", "")
    guest.log_in()

    assert guest.text("/latest/meta-data/instance-id") == node.instance_id


# What is told


def test_directories_are_listed(guest: Guest, node: NodeFacts) -> None:
    guest.log_in()

    assert guest.text("/") == "latest/"
    assert guest.text("/latest/") == "dynamic/\nmeta-data/"
    assert guest.text(MACS) == f"{node.mac}/"
    assert guest.text("/latest/meta-data/placement") == guest.text(
        "/2021-07-15/meta-data/placement/"
    )


@pytest.mark.parametrize(
    "path",
    [
        "/latest/meta-data/nothing",
        "/latest/meta-data/mac/more",
        "/latest/user-data",
        "/nothing",
        f"{MACS}02:00:00:00:00:00/",
    ],
)
def test_what_is_not_there_is_not_found(guest: Guest, path: str) -> None:
    guest.log_in()

    assert guest.get(path).status == 404


def test_a_key_with_nothing_to_say_is_not_found(guest: Guest, node: NodeFacts) -> None:
    guest.log_in()

    for key in ("ipv4-prefix", "ipv6-prefix", "network-card"):
        assert guest.get(f"{MACS}{node.mac}/{key}").status == 404


def test_an_attached_eni_is_told_of(
    guest: Guest, node: NodeFacts, ec2: Any, vpc: VpcFacts
) -> None:
    guest.log_in()
    eni = ec2.create_network_interface(
        SubnetId=node.subnet, SecondaryPrivateIpAddressCount=2, Groups=[vpc.group]
    )["NetworkInterface"]

    attachment = ec2.attach_network_interface(
        NetworkInterfaceId=eni["NetworkInterfaceId"],
        InstanceId=node.instance_id,
        DeviceIndex=1,
    )["AttachmentId"]

    path = MACS + eni["MacAddress"]
    assert guest.text(f"{path}/interface-id") == eni["NetworkInterfaceId"]
    assert guest.text(f"{path}/device-number") == "1"
    assert guest.text(f"{path}/local-ipv4s").split("\n") == [
        each["PrivateIpAddress"] for each in eni["PrivateIpAddresses"]
    ]
    assert guest.text(f"{path}/security-group-ids") == vpc.group
    assert guest.text(f"{path}/subnet-ipv4-cidr-block") == "10.0.1.0/24"
    ranges = guest.text(f"{path}/vpc-ipv4-cidr-blocks")
    assert ranges == "10.0.0.0/16\n100.64.0.0/16"
    ec2.detach_network_interface(AttachmentId=attachment)
    assert guest.get(f"{path}/").status == 404


def test_lag_is_heeded(cloud: Cloud, guest: Guest, node: NodeFacts, ec2: Any) -> None:
    guest.log_in()
    cloud.set_faults(Faults(imds_address_lag_s=3600))

    ec2.assign_private_ip_addresses(
        NetworkInterfaceId=node.eni.id, SecondaryPrivateIpAddressCount=1
    )

    assert guest.text(f"{MACS}{node.mac}/local-ipv4s") == str(node.address)


def test_the_identity_document_names_region_and_instance(
    guest: Guest, node: NodeFacts
) -> None:
    guest.log_in()

    document = json.loads(guest.text("/latest/dynamic/instance-identity/document"))

    assert document["region"] == "us-east-1"
    assert document["instanceId"] == node.instance_id
    assert document["privateIp"] == str(node.address)


def test_botocore_finds_credentials_and_region(guest: Guest) -> None:
    credentials: Any = InstanceMetadataFetcher(
        base_url=guest.url + "/", env={}
    ).retrieve_iam_role_credentials()
    region = InstanceMetadataRegionFetcher(
        base_url=guest.url + "/", env={}
    ).retrieve_region()

    assert credentials["access_key"].startswith("ASIA")
    assert region == "us-east-1"


def test_a_silent_client_does_not_hold_up_the_end(cloud: Cloud, guest: Guest) -> None:
    host, port = guest.url.removeprefix("http://").split(":")
    silent = socket.create_connection((host, int(port)))
    guest.log_in()

    cloud.close()

    assert silent.recv(1) == b""
    silent.close()


# The hop limit


POD, ROUTER, NODE = "lt-imds-pod", "lt-imds-hop", "lt-imds-node"


@pytest.fixture
def hop() -> Iterator[tuple[netns.Inside, netns.Inside]]:
    """A pod and an IMDS host with one router between them: 10.9.1.2, 10.9.2.2."""
    names = (POD, ROUTER, NODE)
    for name in names:
        netns.remove(name)
        netns.create(name)
    pod, router, far = (netns.Inside(name) for name in names)
    try:
        router.call(netns.write, {"ipv4/ip_forward": 1})
        for inside, name, net in ((pod, POD, 1), (far, NODE, 2)):
            peer = f"type veth peer name eth0 netns {name}"
            router.call(
                tools.ip,
                [
                    f"link add v{net} {peer}",
                    f"link set v{net} up",
                    f"addr add 10.9.{net}.1/24 dev v{net}",
                ],
            )
            inside.call(
                tools.ip,
                [
                    "link set eth0 up",
                    f"addr add 10.9.{net}.2/24 dev eth0",
                    f"route add default via 10.9.{net}.1",
                ],
            )
        yield pod, far
    finally:
        for inside in (pod, router, far):
            inside.close()
        for name in names:
            netns.remove(name)


@pytest.mark.root
@pytest.mark.parametrize(("limit", "answered"), [(1, False), (2, True)])
def test_the_hop_limit_is_the_ttl_of_the_token(
    hop: tuple[netns.Inside, netns.Inside], node: NodeFacts, limit: int, answered: bool
) -> None:
    pod, far = hop
    sock = far.call(socket.create_server, ("10.9.2.2", 80))
    seen: list[str] = []
    met = threading.Event()

    def who(address: str) -> NodeFacts:
        seen.append(address)
        met.set()
        return evolve(node, hop_limit=limit)

    server = ImdsServer(sock, who, Memory(Faults()))
    client = pod.call(socket.create_connection, ("10.9.2.2", 80), 5)
    client.settimeout(1)
    try:
        client.sendall(f"PUT /latest/api/token HTTP/1.1\r\n{TTL}: 60\r\n\r\n".encode())
        assert met.wait(5)
        if answered:
            assert client.recv(100).startswith(b"HTTP/1.1 200")
        else:
            with pytest.raises(TimeoutError):
                client.recv(100)
    finally:
        client.close()
        server.close()
    assert seen == ["10.9.1.2"]
