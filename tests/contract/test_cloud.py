"""One suite for both clouds: the one in memory, and the adapters over HTTP.

Over HTTP answers the lab's EC2, which is moto with EC2's limits and refusals, and the
lab's IMDS.
"""

from __future__ import annotations

import socket
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network, IPv6Network

import pytest
from attrs import evolve, frozen

from eniplug.core.ec2 import CLUSTER_TAG, INSTANCE_TAG, Cloud, EniFacts, Limits
from eniplug.core.ec2_boto import Ec2
from eniplug.core.imds import ENDPOINT_VARIABLE, Imds, Metadata
from eniplug.hooks.capacity import CreateEni
from eniplug.hooks.errors import (
    CloudError,
    ElasticIpLimitError,
    EniLimitError,
    NoFreePrefixError,
    RetryError,
    SubnetFullError,
)
from eniplug.lab.cloud import POD_TAGS
from eniplug.lab.cloud import Cloud as LabCloud
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata
from eniplug.testing.subnet import MemorySubnet

SMALL = "10.0.0.0/28"
"""A subnet in which EC2 leaves 11 addresses, the instance's own among them."""


@frozen
class World:
    """A cloud, and the one instance that is in it, a t3.small."""

    cloud: Cloud
    metadata: Metadata
    instance: str
    subnet: str
    cidr: IPv4Network
    groups: tuple[str, ...]
    other_groups: tuple[str, ...]

    @property
    def primary(self) -> EniFacts:
        return self.cloud.enis(self.instance)[0]

    def create(
        self, count: int = 2, token: str = "t1", *, prefixes: int = 0
    ) -> EniFacts:
        return self.cloud.create_eni(
            self.subnet,
            self.groups,
            CreateEni(addresses=0 if prefixes else count, prefixes=prefixes),
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


def in_memory(cidr: str, more: str) -> World:
    network = IPv4Network(cidr)
    space = MemorySubnet(cidr=network, cidr6=IPv6Network("2001:db8:1234::/64"))
    subnets = {"subnet-1": space}
    if more:
        subnets["subnet-2"] = MemorySubnet(cidr=IPv4Network(more), tags=POD_TAGS)
    cloud = MemoryCloud(subnets=subnets)
    return World(
        cloud=cloud,
        metadata=MemoryMetadata(cloud=cloud),
        instance=cloud.instance_id,
        subnet="subnet-1",
        cidr=network,
        groups=cloud.groups,
        other_groups=("sg-2", "sg-3"),
    )


def listening() -> tuple[socket.socket, str]:
    sock = socket.create_server(("127.0.0.1", 0))
    return sock, f"http://127.0.0.1:{sock.getsockname()[1]}"


@pytest.fixture
def cidr(request: pytest.FixtureRequest) -> str:
    """The instance's subnet; a test that wants another one says so."""
    return getattr(request, "param", "10.0.0.0/24")


@pytest.fixture
def more(request: pytest.FixtureRequest) -> str:
    """Another subnet, which CNIs may make ENIs in; none unless a test says so."""
    return getattr(request, "param", "")


@pytest.fixture(params=["memory", "http"])
def world(
    request: pytest.FixtureRequest,
    cidr: str,
    more: str,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[World]:
    if request.param == "memory":
        yield in_memory(cidr, more)
        return
    with LabCloud() as lab:
        pods = [more] if more else []
        vpc = lab.create_vpc(
            subnets=[("us-east-1a", cidr)], pod_subnets=pods, ipv6=True
        )
        node = lab.launch("t3.small")
        sock, url = listening()
        lab.serve_ec2(sock)
        sock, imds_url = listening()
        lab.serve_imds(sock, lambda address: lab.nodes()[0])
        monkeypatch.setenv("AWS_ENDPOINT_URL_EC2", url)
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "a")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "b")
        cloud = Ec2("us-east-1")
        metadata = Imds({ENDPOINT_VARIABLE: imds_url})
        (subnet, network), *_ = vpc.subnets.items()
        others = lab.create_group("web"), lab.create_group("db")
        yield World(
            cloud, metadata, node.instance_id, subnet, network, (vpc.group,), others
        )
        cloud.close()


def test_limits_are_asked_by_name(world: World) -> None:
    limits = Limits(max_enis=3, ipv4_per_eni=4, ipv6_per_eni=4, cards={0: 3})
    assert world.cloud.limits("t3.small") == limits
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

    vpc = world.primary.vpc
    assert [e.id for e in world.cloud.leaked(vpc)] == [eni.id]
    assert world.cloud.leaked("vpc-0123456789abcdef9") == ()
    assert world.cloud.leaked(vpc, "blue") == ()
    world.cloud.tag([eni.id], {CLUSTER_TAG: "blue"})
    assert [e.id for e in world.cloud.leaked(vpc, "blue")] == [eni.id]

    world.cloud.attach(eni.id, world.instance, 1, 0)

    assert world.cloud.leaked(world.primary.vpc) == ()


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

    assert len(new) == 2
    assert world.primary.secondary == new
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
    assert world.cloud.leaked(world.primary.vpc) == ()
    world.cloud.detach(eni.attachment_id or "")
    world.cloud.delete_eni(eni.id)


def test_an_unknown_subnet_is_refused(world: World) -> None:
    with pytest.raises(CloudError):
        world.cloud.create_eni(
            "subnet-0123456789abcdef9",
            (),
            CreateEni(addresses=1),
            token="t",
            description="",
            tags={},
        )


def test_the_metadata_service_tells_of_the_node_and_of_each_eni(world: World) -> None:
    world.cloud.assign(world.primary.id, 2)
    eni, metadata = world.primary, world.metadata

    assert metadata.instance_id() == world.instance
    assert metadata.instance_type() == "t3.small"
    assert metadata.region() == "us-east-1"
    assert metadata.zone() == "us-east-1a"
    assert metadata.mac() == eni.mac
    assert metadata.macs() == (eni.mac,)
    assert metadata.interface_id(eni.mac) == eni.id
    assert metadata.local_ipv4s(eni.mac) == (eni.address, *eni.secondary)
    assert metadata.eni(eni.mac) == evolve(
        world.primary,
        attachment_id=None,
        on_termination=False,
        kind="interface",
        tags={},
        description="",
    )
    assert metadata.vpc_cidrs(eni.mac) == (IPv4Network("10.0.0.0/16"),)
    assert metadata.security_groups(eni.mac) == world.groups


def test_the_metadata_service_does_not_know_what_is_not_attached(world: World) -> None:
    eni, metadata = world.create(), world.metadata

    assert metadata.macs() == (world.primary.mac,)
    assert metadata.interface_id(eni.mac) == ""
    assert metadata.eni(eni.mac) is None
    assert metadata.local_ipv4s(eni.mac) == ()
    assert metadata.security_groups(eni.mac) == ()


# -- limits ----------------------------------------------------------------------------


def test_an_eni_has_only_so_many_addresses(world: World) -> None:
    with pytest.raises(EniLimitError):
        world.cloud.assign(world.primary.id, 4)

    assert len(world.cloud.assign(world.primary.id, 3)) == 3
    with pytest.raises(EniLimitError):
        world.cloud.assign(world.primary.id, 1)


def test_an_instance_has_only_so_many_enis(world: World) -> None:
    for device in (1, 2):
        made = world.create(token=f"t{device}")
        world.cloud.attach(made.id, world.instance, device, 0)
    made = world.create(token="t3")

    with pytest.raises(EniLimitError):
        world.cloud.attach(made.id, world.instance, 3, 0)


def test_an_eni_with_too_many_addresses_is_not_attached(world: World) -> None:
    made = world.create(count=4)

    with pytest.raises(EniLimitError):
        world.cloud.attach(made.id, world.instance, 1, 0)


def test_a_device_index_is_taken_once(world: World) -> None:
    world.attached(device=1)
    made = world.create(token="t2")

    with pytest.raises(CloudError):
        world.cloud.attach(made.id, world.instance, 1, 0)


def test_an_eni_is_attached_once(world: World) -> None:
    eni = world.attached(device=1)

    with pytest.raises(RetryError):
        world.cloud.attach(eni.id, world.instance, 2, 0)


def test_one_token_makes_one_eni(world: World) -> None:
    assert world.create(token="t1") == world.create(token="t1")


@pytest.mark.parametrize("cidr", [SMALL], indirect=True)
def test_a_subnet_has_only_so_many_addresses(world: World) -> None:
    with pytest.raises(SubnetFullError):
        world.create(count=10)

    assert len(world.create(count=9).secondary) == 9
    with pytest.raises(SubnetFullError):
        world.create(count=0, token="t2")
    with pytest.raises(SubnetFullError):
        world.cloud.assign(world.primary.id, 1)


def test_an_attached_eni_is_not_deleted(world: World) -> None:
    eni = world.attached()

    with pytest.raises(RetryError):
        world.cloud.delete_eni(eni.id)


def test_the_primary_eni_is_not_detached(world: World) -> None:
    with pytest.raises(CloudError):
        world.cloud.detach(world.primary.attachment_id or "")


def test_only_addresses_that_an_eni_has_are_unassigned(world: World) -> None:
    with pytest.raises(CloudError):
        world.cloud.unassign(world.primary.id, [world.cidr[9]])


# -- prefixes, subnets, tags -----------------------------------------------------------


def test_prefixes_come_and_go(world: World) -> None:
    eni = world.primary

    new = world.cloud.assign_prefixes(eni.id, 2, 4)

    assert {prefix.prefixlen for prefix in new} == {28}
    assert set(world.primary.prefixes) == set(new)
    assert world.metadata.blocks(eni.mac) == set(new)
    world.cloud.unassign(eni.id, new[:1])
    assert world.primary.prefixes == new[1:]
    assert world.primary.holds(new[1][7])
    assert not world.primary.holds(new[0][7])


def test_wide_prefixes_come_and_go(world: World) -> None:
    eni = world.primary

    (new,) = world.cloud.assign_prefixes(eni.id, 1, 6)

    assert new.prefixlen == 80
    assert eni.subnet_cidr6 is not None
    assert new.network_address in eni.subnet_cidr6
    assert set(world.primary.prefixes6) == {new}
    assert world.metadata.blocks(eni.mac) == {new}
    world.cloud.unassign(eni.id, [new])
    assert not world.primary.prefixes6


def test_an_eni_is_born_with_prefixes(world: World) -> None:
    eni = world.create(prefixes=3)

    assert len(eni.prefixes) == 3
    assert eni.secondary == ()


def test_a_prefix_takes_the_place_of_an_address(world: World) -> None:
    world.cloud.assign_prefixes(world.primary.id, 2, 4)
    world.cloud.assign(world.primary.id, 1)

    with pytest.raises(EniLimitError):
        world.cloud.assign(world.primary.id, 1)
    with pytest.raises(EniLimitError):
        world.cloud.assign_prefixes(world.primary.id, 1, 4)


@pytest.mark.parametrize("cidr", [SMALL], indirect=True)
def test_a_subnet_without_a_whole_block_has_no_prefix(world: World) -> None:
    with pytest.raises(NoFreePrefixError):
        world.cloud.assign_prefixes(world.primary.id, 1, 4)
    with pytest.raises(NoFreePrefixError):
        world.create(prefixes=1)

    assert len(world.cloud.assign(world.primary.id, 1)) == 1


def test_the_subnets_of_a_zone_are_listed(world: World) -> None:
    vpc = world.primary.vpc
    (before,) = world.cloud.describe_subnets(vpc, "us-east-1a")
    world.cloud.assign(world.primary.id, 2)
    world.cloud.assign_prefixes(world.primary.id, 1, 4)

    (after,) = world.cloud.describe_subnets(vpc, "us-east-1a")

    assert after.id == world.subnet
    assert after.cidr == world.cidr
    assert after.cidr6 == world.primary.subnet_cidr6
    assert before.free - after.free == 18


@pytest.mark.parametrize("more", ["10.0.4.0/23", "10.0.4.0/26"], indirect=True)
def test_the_subnet_with_most_free_addresses_is_listed_first(
    world: World, more: str
) -> None:
    vpc = world.primary.vpc

    found = world.cloud.describe_subnets(vpc, "us-east-1a")

    assert len(found) == 2
    assert found[0].free > found[1].free
    by_cidr = {one.cidr: one for one in found}
    assert by_cidr[world.cidr].tags == {}
    assert by_cidr[IPv4Network(more)].tags == POD_TAGS


def test_subnets_of_other_zones_and_vpcs_are_not_listed(world: World) -> None:
    list_subnets = world.cloud.describe_subnets

    assert list_subnets(world.primary.vpc, "us-east-1b") == ()
    assert list_subnets("vpc-0123456789abcdef9", "us-east-1a") == ()


@pytest.mark.parametrize("more", ["10.0.4.0/24"], indirect=True)
def test_an_eni_of_another_subnet_serves_the_instance(world: World, more: str) -> None:
    subnets = world.cloud.describe_subnets(world.primary.vpc, "us-east-1a")
    (other,) = (one for one in subnets if one.tags)
    want = CreateEni(addresses=2)

    made = world.cloud.create_eni(
        other.id, world.groups, want, token="o", description="", tags={}
    )
    world.cloud.attach(made.id, world.instance, 1, 0)

    _, second = world.cloud.enis(world.instance)
    assert second.subnet == other.id
    assert second.subnet_cidr == IPv4Network(more)
    assert all(one in second.subnet_cidr for one in (second.address, *second.secondary))
    shown = world.metadata.eni(second.mac)
    assert shown is not None
    assert shown.subnet_cidr == IPv4Network(more)


def test_tags_are_put_on_an_eni(world: World) -> None:
    eni = world.create()

    world.cloud.tag([eni.id], {"team": "storage", "cost": "1"})

    (found,) = world.cloud.leaked(world.primary.vpc)
    assert found.tags["team"] == "storage"
    assert found.tags["cost"] == "1"


def test_an_eni_is_given_other_security_groups(world: World) -> None:
    eni = world.attached()
    world.cloud.set_groups(eni.id, world.other_groups)

    _, second = world.cloud.enis(world.instance)

    assert set(second.groups) == set(world.other_groups)
    assert set(world.metadata.security_groups(second.mac)) == set(world.other_groups)
    assert set(world.metadata.security_groups(world.primary.mac)) == set(world.groups)


def test_an_eni_that_is_not_there_is_given_no_groups(world: World) -> None:
    with pytest.raises(CloudError, match="eni-0"):
        world.cloud.set_groups("eni-0123456789abcdef0", world.groups)


def test_an_eni_tells_whether_it_goes_with_its_instance(world: World) -> None:
    made = world.create()
    attachment = world.cloud.attach(made.id, world.instance, 1, 0)
    assert [e.on_termination for e in world.cloud.enis(world.instance)][1:] == [False]

    world.cloud.delete_on_termination(made.id, attachment)

    assert [e.on_termination for e in world.cloud.enis(world.instance)][1:] == [True]


def test_an_eni_has_an_ipv6_address_of_its_own_or_prefixes(world: World) -> None:
    want = CreateEni(prefixes6=1)
    create = world.cloud.create_eni

    wide = create(world.subnet, (), want, token="w", description="", tags={})

    assert len(world.primary.addresses6) == len(world.create().addresses6) == 1
    assert len(wide.prefixes6) == 1
    assert wide.addresses6 == ()


def test_an_eni_has_only_so_many_ipv6_addresses(world: World) -> None:
    assert len(world.cloud.assign_prefixes(world.primary.id, 3, 6)) == 3

    with pytest.raises(EniLimitError):
        world.cloud.assign_prefixes(world.primary.id, 1, 6)


MINE = {INSTANCE_TAG: "i-0", "for": "web"}


def test_an_elastic_ip_bears_its_tags_from_birth(world: World) -> None:
    one = world.cloud.allocate_elastic_ip(MINE)
    world.cloud.allocate_elastic_ip({INSTANCE_TAG: "i-1", "for": "web"})

    (found,) = world.cloud.elastic_ips({INSTANCE_TAG: "i-0"})

    assert found == one
    assert found.tags == MINE
    assert found.association is None
    assert len(world.cloud.elastic_ips({"for": "web"})) == 2


def test_an_elastic_ip_is_associated_with_one_private_address(world: World) -> None:
    one, eni = world.cloud.allocate_elastic_ip(MINE), world.attached()
    private = eni.secondary[1]

    association = world.cloud.associate(one.id, eni.id, private)
    again = world.cloud.associate(one.id, eni.id, private)

    (found,) = world.cloud.elastic_ips(MINE)
    assert found == evolve(
        one, association=association, eni=eni.id, private=eni.secondary[1]
    )
    assert again == association


def test_an_elastic_ip_that_is_associated_stays_there(world: World) -> None:
    one, eni = world.cloud.allocate_elastic_ip(MINE), world.attached()
    world.cloud.associate(one.id, eni.id, eni.secondary[0])

    with pytest.raises(CloudError, match="associated"):
        world.cloud.associate(one.id, eni.id, eni.secondary[1])
    with pytest.raises(RetryError):
        world.cloud.release(one.id)


def test_a_second_elastic_ip_puts_the_first_aside(world: World) -> None:
    eni = world.attached()
    first, second = (world.cloud.allocate_elastic_ip(MINE) for _ in range(2))
    world.cloud.associate(first.id, eni.id, eni.secondary[0])

    world.cloud.associate(second.id, eni.id, eni.secondary[0])

    left = {o.id: o.association is None for o in world.cloud.elastic_ips(MINE)}
    assert left == {first.id: True, second.id: False}


def test_an_elastic_ip_is_refused_to_an_address_that_the_eni_has_not(
    world: World,
) -> None:
    one, eni = world.cloud.allocate_elastic_ip(MINE), world.attached()

    with pytest.raises(CloudError):
        world.cloud.associate(one.id, eni.id, world.primary.address)
    with pytest.raises(CloudError):
        world.cloud.associate("eipalloc-0", eni.id, eni.secondary[0])


def test_an_elastic_ip_is_given_back_once_and_for_all(world: World) -> None:
    one, eni = world.cloud.allocate_elastic_ip(MINE), world.attached()
    association = world.cloud.associate(one.id, eni.id, eni.secondary[0])

    for _ in range(2):
        world.cloud.disassociate(association)
    for _ in range(2):
        world.cloud.release(one.id)

    assert world.cloud.elastic_ips(MINE) == ()


def test_an_elastic_ip_outlives_its_eni(world: World) -> None:
    one, eni = world.cloud.allocate_elastic_ip(MINE), world.create()
    world.cloud.associate(one.id, eni.id, eni.secondary[0])

    world.cloud.delete_eni(eni.id)

    assert world.cloud.elastic_ips(MINE) == (one,)


def test_there_are_only_so_many_elastic_ips(world: World) -> None:
    for _ in range(5):
        world.cloud.allocate_elastic_ip(MINE)

    with pytest.raises(ElasticIpLimitError, match="AllocateAddress"):
        world.cloud.allocate_elastic_ip(MINE)
