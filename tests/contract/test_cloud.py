"""One suite for both clouds: the in-memory one, and the adapter against moto over HTTP.

moto 5.2 keeps no limits, so what hangs on them (the last part) runs on memory alone.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network

import boto3
import pytest
from attrs import frozen
from moto.server import ThreadedMotoServer

from eniplug.core.ec2 import INSTANCE_TAG, Cloud, Ec2, EniFacts, Limits
from eniplug.hooks.errors import (
    CloudError,
    EniLimitError,
    RetryError,
    SubnetFullError,
)
from eniplug.testing.cloud import MemoryCloud

REGION = "us-east-1"


@frozen
class World:
    """A cloud, and the one instance that is in it."""

    cloud: Cloud
    instance: str
    subnet: str
    cidr: IPv4Network
    groups: tuple[str, ...]

    @property
    def primary(self) -> EniFacts:
        return self.cloud.enis(self.instance)[0]

    def create(self, count: int = 2, token: str = "t1") -> EniFacts:
        return self.cloud.create_eni(
            self.subnet,
            self.groups,
            count,
            token=token,
            description="made here",
            tags={INSTANCE_TAG: self.instance, "team": "net"},
        )

    def attached(self, device: int = 1) -> EniFacts:
        made = self.create()
        attachment = self.cloud.attach(made.id, self.instance, device, 0)
        (eni,) = (e for e in self.cloud.enis(self.instance) if e.id == made.id)
        assert eni.attachment_id == attachment
        return eni


@pytest.fixture(scope="session")
def moto_url() -> Iterator[str]:
    server = ThreadedMotoServer("127.0.0.1", port=0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def memory() -> World:
    cloud = MemoryCloud()
    return World(
        cloud=cloud,
        instance=cloud.instance_id,
        subnet="subnet-1",
        cidr=cloud.subnets["subnet-1"],
        groups=cloud.groups,
    )


@pytest.fixture
def served(moto_url: str, monkeypatch: pytest.MonkeyPatch) -> Iterator[World]:
    monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", moto_url)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
    ec2 = boto3.client("ec2", region_name=REGION)
    vpc = ec2.create_vpc(CidrBlock="10.7.0.0/16")["Vpc"]["VpcId"]
    cidr = "10.7.3.0/24"
    subnet = ec2.create_subnet(VpcId=vpc, CidrBlock=cidr)["Subnet"]["SubnetId"]
    group = ec2.create_security_group(VpcId=vpc, GroupName="g", Description="g")
    image = ec2.describe_images()["Images"][0]["ImageId"]
    instance = ec2.run_instances(
        ImageId=image,
        MinCount=1,
        MaxCount=1,
        InstanceType="t3.small",
        SubnetId=subnet,
        SecurityGroupIds=[group["GroupId"]],
    )["Instances"][0]["InstanceId"]
    cloud = Ec2(REGION)
    groups = (group["GroupId"],)
    yield World(cloud, instance, subnet, IPv4Network(cidr), groups)
    ec2.terminate_instances(InstanceIds=[instance])
    ec2.close()
    cloud.close()


@pytest.fixture(params=["memory", "served"])
def world(request: pytest.FixtureRequest) -> World:
    made: World = request.getfixturevalue(request.param)
    return made


# -- both ----------------------------------------------------------------------------


def test_limits_are_asked_by_name(world: World) -> None:
    assert world.cloud.limits("t3.small") == Limits(max_enis=3, ipv4_per_eni=4)
    with pytest.raises(CloudError):
        world.cloud.limits("t3.none")


def test_the_instance_tells_its_type_and_its_devices(world: World) -> None:
    instance = world.cloud.describe_instance(world.instance)

    assert instance.type == "t3.small"
    assert instance.devices == {(0, 0)}


def test_an_unknown_instance_is_told(world: World) -> None:
    with pytest.raises(CloudError):
        world.cloud.describe_instance("i-0123456789abcdef9")


def test_the_primary_eni_is_described(world: World) -> None:
    (primary,) = world.cloud.enis(world.instance)

    assert primary.primary
    assert primary.status == "in-use"
    assert primary.subnet == world.subnet
    assert primary.subnet_cidr == world.cidr
    assert primary.address in world.cidr
    assert primary.groups == world.groups
    assert primary.secondary == ()
    assert primary.kind == "interface"
    assert primary.attachment_id is not None


def test_a_new_eni_has_what_was_asked_for(world: World) -> None:
    eni = world.create(count=2)

    assert len(eni.secondary) == 2
    assert eni.address not in eni.secondary
    assert all(address in world.cidr for address in eni.secondary)
    assert eni.tags == {INSTANCE_TAG: world.instance, "team": "net"}
    assert eni.description == "made here"
    assert eni.groups == world.groups
    assert eni.attachment_id is None
    assert eni.device is None


def test_an_unattached_eni_of_ours_is_leaked(world: World) -> None:
    eni = world.create()

    assert [e.id for e in world.cloud.leaked(world.instance)] == [eni.id]
    assert world.cloud.leaked("i-0123456789abcdef9") == ()

    world.cloud.attach(eni.id, world.instance, 1, 0)

    assert world.cloud.leaked(world.instance) == ()


def test_an_attached_eni_is_the_instances(world: World) -> None:
    eni = world.attached(device=1)

    world.cloud.delete_on_termination(eni.id, eni.attachment_id or "")

    assert eni.status == "in-use"
    assert (eni.device, eni.card) == (1, 0)
    assert [e.device for e in world.cloud.enis(world.instance)] == [0, 1]
    assert world.cloud.describe_instance(world.instance).devices == {(0, 0), (0, 1)}


def test_assigned_addresses_come_and_go(world: World) -> None:
    eni = world.primary

    new = world.cloud.assign(eni.id, 2)

    assert set(world.primary.secondary) <= set(new)
    assert len(world.primary.secondary) == 2
    world.cloud.unassign(eni.id, world.primary.secondary[:1])
    assert len(world.primary.secondary) == 1


def test_addresses_of_an_unknown_eni_are_refused(world: World) -> None:
    with pytest.raises(CloudError):
        world.cloud.assign("eni-0123456789abcdef9", 1)
    with pytest.raises(CloudError):
        world.cloud.unassign("eni-0123456789abcdef9", [IPv4Address("10.7.3.9")])


def test_a_detached_eni_can_be_deleted_and_twice_is_quiet(world: World) -> None:
    eni = world.attached()

    world.cloud.detach(eni.attachment_id or "")
    world.cloud.delete_eni(eni.id)

    assert [e.id for e in world.cloud.enis(world.instance)] == [world.primary.id]
    assert world.cloud.leaked(world.instance) == ()
    world.cloud.detach(eni.attachment_id or "")
    world.cloud.delete_eni(eni.id)


def test_an_unknown_subnet_is_refused(world: World) -> None:
    with pytest.raises(CloudError):
        world.cloud.create_eni(
            "subnet-0123456789abcdef9", (), 1, token="t", description="", tags={}
        )


# -- limits: on memory alone -----------------------------------------------------------


def test_an_eni_has_only_so_many_addresses(memory: World) -> None:
    with pytest.raises(EniLimitError):
        memory.cloud.assign(memory.primary.id, 4)

    assert len(memory.cloud.assign(memory.primary.id, 3)) == 3
    with pytest.raises(EniLimitError):
        memory.cloud.assign(memory.primary.id, 1)


def test_an_instance_has_only_so_many_enis(memory: World) -> None:
    for device in (1, 2):
        made = memory.create(token=f"t{device}")
        memory.cloud.attach(made.id, memory.instance, device, 0)
    made = memory.create(token="t3")

    with pytest.raises(EniLimitError):
        memory.cloud.attach(made.id, memory.instance, 3, 0)


def test_a_device_index_is_taken_once(memory: World) -> None:
    memory.attached(device=1)
    made = memory.create(token="t2")

    with pytest.raises(CloudError):
        memory.cloud.attach(made.id, memory.instance, 1, 0)


def test_one_token_makes_one_eni(memory: World) -> None:
    assert memory.create(token="t1") == memory.create(token="t1")


def test_a_subnet_has_only_so_many_addresses() -> None:
    cloud = MemoryCloud(
        subnets={"subnet-1": IPv4Network("10.0.0.0/28")},
        instance_limits=Limits(max_enis=3, ipv4_per_eni=20),
    )
    (primary,) = cloud.enis(cloud.instance_id)

    with pytest.raises(SubnetFullError):
        cloud.assign(primary.id, 11)

    assert len(cloud.assign(primary.id, 10)) == 10
    with pytest.raises(SubnetFullError):
        cloud.create_eni("subnet-1", (), 0, token="t", description="", tags={})


def test_an_attached_eni_is_not_deleted(memory: World) -> None:
    eni = memory.attached()

    with pytest.raises(RetryError):
        memory.cloud.delete_eni(eni.id)


def test_the_primary_eni_is_not_detached(memory: World) -> None:
    with pytest.raises(CloudError):
        memory.cloud.detach(memory.primary.attachment_id or "")
