from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator, Mapping
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any

import pytest
from attrs import define, field
from botocore.exceptions import ClientError

from eniplug.lab.cloud import Cloud, VpcFacts
from eniplug.lab.errors import LabError
from eniplug.lab.facts import EniFacts, Network, NodeFacts
from eniplug.lab.faults import Faults
from kit.threads import running


@define
class Witness:
    """A listener that writes down what it is told, and fails when it is asked to."""

    told: list[tuple[str, Any]] = field(factory=list)
    fails: str = ""

    def _hear(self, what: str, value: Any) -> None:
        self.told.append((what, value))
        if what == self.fails:
            msg = "the fabric is torn"
            raise LabError(msg)

    def vpc(self, cidrs: tuple[Network, ...]) -> None:
        self._hear("vpc", cidrs)

    def instance(self, node: NodeFacts) -> None:
        self._hear("instance", node)

    def instance_gone(self, node: NodeFacts) -> None:
        self._hear("instance_gone", node)

    def attached(self, eni: EniFacts) -> None:
        self._hear("attached", eni)

    def detached(self, eni: EniFacts) -> None:
        self._hear("detached", eni)

    def addresses(self, eni: EniFacts) -> None:
        self._hear("addresses", eni)

    def attribute(self, eni: EniFacts) -> None:
        self._hear("attribute", eni)

    def public_ip(self, public: Mapping[IPv4Address, IPv4Address]) -> None:
        self._hear("public_ip", dict(public))

    def names(self) -> list[str]:
        return [what for what, _ in self.told]

    def last(self, what: str) -> Any:
        return [value for name, value in self.told if name == what][-1]


@pytest.fixture
def witness() -> Witness:
    return Witness()


@pytest.fixture
def cloud(witness: Witness) -> Iterator[Cloud]:
    """A cloud with a witness behind it."""
    with Cloud(witness) as cloud:
        yield cloud


@pytest.fixture
def eni(ec2: Any, node: NodeFacts, witness: Witness) -> str:
    """An ENI that is attached to nothing; the witness has forgotten what was."""
    made = ec2.create_network_interface(SubnetId=node.subnet)["NetworkInterface"]
    witness.told.clear()
    return str(made["NetworkInterfaceId"])


def attach(ec2: Any, node: NodeFacts, eni: str) -> str:
    attached = ec2.attach_network_interface(
        NetworkInterfaceId=eni, InstanceId=node.instance_id, DeviceIndex=1
    )
    return str(attached["AttachmentId"])


def described(ec2: Any, eni: str) -> Any:
    told = ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])
    return told["NetworkInterfaces"][0]


def wait_until(true: Callable[[], bool]) -> None:
    """Wait at most five seconds."""
    tick = threading.Event()
    for _ in range(500):
        if true():
            return
        tick.wait(0.01)
    pytest.fail("waited in vain")


# What the listener hears


def test_a_range_that_the_vpc_gets_or_loses_is_told_of(
    cloud: Cloud, vpc: VpcFacts, node: NodeFacts, witness: Witness
) -> None:
    assert cloud.associate_cidr("192.168.0.0/16") == (
        *map(str, vpc.cidrs),
        "192.168.0.0/16",
    )
    with_it = witness.last("vpc")
    cloud.disassociate_cidr("192.168.0.0/16")

    assert set(with_it) == {*vpc.cidrs, vpc.cidr6, IPv4Network("192.168.0.0/16")}
    assert set(witness.last("vpc")) == {*vpc.cidrs, vpc.cidr6}
    known = cloud.node_at(str(node.address))
    assert known is not None
    assert known.vpc_cidrs == vpc.cidrs


@pytest.mark.parametrize("cidr", ["10.0.0.0/16", "300.0.0.0/16", "10.9.0.0/30"])
def test_a_range_that_ec2_would_not_take_is_refused(
    cloud: Cloud, vpc: VpcFacts, cidr: str
) -> None:
    with pytest.raises(LabError):
        cloud.associate_cidr(cidr)


def test_a_range_that_the_vpc_has_not_cannot_be_taken(
    cloud: Cloud, vpc: VpcFacts
) -> None:
    with pytest.raises(LabError, match=r"has no range 192\.168"):
        cloud.disassociate_cidr("192.168.0.0/16")


def test_a_new_instance_is_told_of_with_its_eni(
    witness: Witness, node: NodeFacts
) -> None:
    assert witness.told[1:] == [
        ("instance", node),
        ("public_ip", {node.address: IPv4Address("198.51.100.11")}),
    ]


def test_node_facts_name_the_primary_eni(node: NodeFacts, vpc: VpcFacts) -> None:
    (eni,) = node.enis

    assert (node.address, node.mac, node.subnet) == (eni.primary, eni.mac, eni.subnet)
    assert node.public_ip == IPv4Address("198.51.100.11")
    assert node.vpc_cidrs == vpc.cidrs
    assert (eni.device, eni.card, eni.attachment) == (0, 0, "attached")
    assert eni.cidr == IPv4Network("10.0.1.0/24")
    assert eni.groups == ((vpc.group, "nodes"),)
    assert len(eni.addresses6) == 1


def test_an_eni_comes_and_goes(
    ec2: Any, node: NodeFacts, eni: str, witness: Witness
) -> None:
    attachment = attach(ec2, node, eni)
    ec2.detach_network_interface(AttachmentId=attachment)

    assert witness.names() == ["attached", "detached"]
    attached, detached = (facts for _, facts in witness.told)
    assert (attached.id, attached.instance, attached.device, attached.attachment) == (
        eni,
        node.instance_id,
        1,
        "attached",
    )
    assert (detached.id, detached.instance, detached.attachment) == (
        eni,
        node.instance_id,
        "detaching",
    )


def test_addresses_are_told_of_as_networks(
    ec2: Any, node: NodeFacts, eni: str, witness: Witness
) -> None:
    attach(ec2, node, eni)

    ec2.assign_private_ip_addresses(NetworkInterfaceId=eni, Ipv4PrefixCount=1)
    facts = witness.last("addresses")
    ec2.unassign_private_ip_addresses(
        NetworkInterfaceId=eni, Ipv4Prefixes=[str(facts.prefixes[0])]
    )

    own = {IPv4Network(facts.primary), *map(IPv6Network, facts.addresses6)}
    assert facts.networks == {*own, *facts.prefixes}
    assert witness.last("addresses").networks == own


def test_the_source_check_is_told_of(ec2: Any, eni: str, witness: Witness) -> None:
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni, SourceDestCheck={"Value": False}
    )

    assert witness.last("attribute").source_check is False


def test_public_addresses_are_told_of_all_together(
    ec2: Any, cloud: Cloud, node: NodeFacts, eni: str, witness: Witness
) -> None:
    attach(ec2, node, eni)
    elastic = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(AllocationId=elastic["AllocationId"], NetworkInterfaceId=eni)
    private = witness.last("attached").primary

    assert witness.last("public_ip") == {
        node.address: IPv4Address("198.51.100.11"),
        private: IPv4Address("198.51.100.254"),
    }
    cloud.terminate(node.instance_id)
    assert witness.last("public_ip") == {}


def test_an_elastic_address_goes_with_the_secondary_address_that_has_it(
    ec2: Any, node: NodeFacts, witness: Witness
) -> None:
    ec2.assign_private_ip_addresses(
        NetworkInterfaceId=node.eni.id, SecondaryPrivateIpAddressCount=1
    )
    _, private = witness.last("addresses").addresses
    elastic = ec2.allocate_address(Domain="vpc")
    ec2.associate_address(
        AllocationId=elastic["AllocationId"],
        NetworkInterfaceId=node.eni.id,
        PrivateIpAddress=str(private),
    )
    own = {node.address: IPv4Address("198.51.100.11")}
    assert witness.last("public_ip") == {
        **own,
        private: IPv4Address("198.51.100.254"),
    }
    (eni,) = ec2.describe_network_interfaces()["NetworkInterfaces"]
    told = [each["Association"]["PublicIp"] for each in eni["PrivateIpAddresses"]]
    assert told == ["198.51.100.11", "198.51.100.254"]

    ec2.unassign_private_ip_addresses(
        NetworkInterfaceId=node.eni.id, PrivateIpAddresses=[str(private)]
    )

    assert witness.last("public_ip") == own


def test_a_stopped_instance_has_no_public_address(
    ec2: Any, node: NodeFacts, witness: Witness
) -> None:
    ec2.stop_instances(InstanceIds=[node.instance_id])
    stopped = witness.last("public_ip")

    ec2.start_instances(InstanceIds=[node.instance_id])

    assert stopped == {}
    assert witness.last("public_ip") == {
        node.address: IPv4Address("198.51.100.11"),
    }


def test_a_terminated_instance_is_told_of_with_its_enis(
    ec2: Any, cloud: Cloud, node: NodeFacts, eni: str, witness: Witness
) -> None:
    attach(ec2, node, eni)

    cloud.terminate(node.instance_id)

    gone = witness.last("instance_gone")
    assert [each.id for each in gone.enis] == [node.eni.id, eni]
    assert cloud.nodes() == ()
    assert cloud.node_at(str(node.address)) is None


# When the listener fails


def test_a_failed_attach_leaves_the_eni_available(
    ec2: Any, node: NodeFacts, eni: str, witness: Witness
) -> None:
    witness.fails = "attached"

    with pytest.raises(ClientError, match="InternalError"):
        attach(ec2, node, eni)

    assert described(ec2, eni)["Status"] == "available"
    witness.fails = ""
    attach(ec2, node, eni)


def test_a_failed_assign_leaves_the_addresses(
    ec2: Any, cloud: Cloud, node: NodeFacts, witness: Witness
) -> None:
    witness.fails = "addresses"

    with pytest.raises(ClientError, match="InternalError"):
        ec2.assign_private_ip_addresses(
            NetworkInterfaceId=node.eni.id, SecondaryPrivateIpAddressCount=1
        )

    assert cloud.nodes() == (node,)


def test_a_failed_launch_leaves_nothing(
    cloud: Cloud, vpc: VpcFacts, witness: Witness
) -> None:
    before = cloud.describe()
    witness.fails = "instance"

    with pytest.raises(LabError, match="the fabric is torn"):
        cloud.launch()

    assert cloud.describe() == before
    assert witness.names() == ["vpc", "instance", "instance_gone"]


# Time


def test_an_attachment_takes_its_time(
    ec2: Any, cloud: Cloud, node: NodeFacts, eni: str, witness: Witness
) -> None:
    cloud.set_faults(Faults(attach_s=0.3))

    attach(ec2, node, eni)

    assert described(ec2, eni)["Attachment"]["Status"] == "attaching"
    assert witness.told == []
    wait_until(lambda: described(ec2, eni)["Attachment"]["Status"] == "attached")
    assert witness.names() == ["attached"]


def test_a_detachment_takes_the_device_at_once_and_the_eni_later(
    ec2: Any, cloud: Cloud, node: NodeFacts, eni: str, witness: Witness
) -> None:
    attachment = attach(ec2, node, eni)
    cloud.set_faults(Faults(detach_s=0.3))

    ec2.detach_network_interface(AttachmentId=attachment)

    assert witness.names() == ["attached", "detached"]
    assert described(ec2, eni)["Attachment"]["Status"] == "detaching"
    with pytest.raises(ClientError, match="in use"):
        ec2.delete_network_interface(NetworkInterfaceId=eni)
    wait_until(lambda: bool(described(ec2, eni)["Status"] == "available"))


def test_a_detach_overtakes_the_attachment(
    ec2: Any, cloud: Cloud, node: NodeFacts, eni: str, witness: Witness
) -> None:
    cloud.set_faults(Faults(attach_s=0.1))
    attachment = attach(ec2, node, eni)

    ec2.detach_network_interface(AttachmentId=attachment)
    again = attach(ec2, node, eni)

    wait_until(lambda: described(ec2, eni)["Attachment"]["Status"] == "attached")
    assert described(ec2, eni)["Attachment"]["AttachmentId"] == again
    assert witness.names() == ["detached", "attached"]


def test_close_cancels_what_is_still_to_come(
    ec2: Any, cloud: Cloud, node: NodeFacts, eni: str, witness: Witness
) -> None:
    cloud.set_faults(Faults(attach_s=3600))
    attach(ec2, node, eni)

    cloud.close()

    assert witness.told == []
    assert running() == [threading.main_thread().name]


# The VPC and what is launched


def test_more_subnets_say_that_they_are_for_enis(cloud: Cloud, ec2: Any) -> None:
    vpc = cloud.create_vpc(pod_subnets=["10.0.64.0/18", "10.0.128.0/18"])

    found = {each["SubnetId"]: each for each in ec2.describe_subnets()["Subnets"]}

    home, *more = (found[id_] for id_ in vpc.subnets)
    assert not home.get("Tags")
    assert [each["CidrBlock"] for each in more] == ["10.0.64.0/18", "10.0.128.0/18"]
    for each in more:
        assert each["Tags"] == [{"Key": "kubernetes.io/role/cni", "Value": "1"}]
        assert each["AvailabilityZone"] == home["AvailabilityZone"]
    assert cloud.launch().subnet == home["SubnetId"]


def test_the_default_vpc_has_one_subnet_with_room(cloud: Cloud) -> None:
    vpc = cloud.create_vpc()

    (subnet,) = cloud.describe()["subnets"]
    assert vpc.cidrs == (IPv4Network("10.0.0.0/16"),)
    assert vpc.subnets == {subnet["id"]: IPv4Network("10.0.0.0/18")}
    assert subnet["zone"] == "us-east-1a"
    assert subnet["free"] == 16384 - 5


@pytest.mark.parametrize(
    ("cidrs", "subnets"),
    [
        (("10.0.0.0/8",), ()),
        (("nonsense",), ()),
        (("10.0.0.0/16",), (("us-east-1a", "10.1.0.0/24"),)),
        (("10.0.0.0/16",), (("mars-1a", "10.0.0.0/24"),)),
        (("10.0.0.0/16",), (("us-east-1a", "10.0.0.0/24"),) * 2),
    ],
)
def test_a_vpc_that_cannot_be_is_refused(
    cloud: Cloud, cidrs: tuple[str, ...], subnets: tuple[tuple[str, str], ...]
) -> None:
    with pytest.raises(LabError, match="EC2 refuses the VPC"):
        cloud.create_vpc(cidrs, subnets)


def test_nodes_are_launched_where_it_is_said(cloud: Cloud, far: str) -> None:
    node = cloud.launch("m5.large", subnet=far)

    assert (node.subnet, node.zone) == (far, "us-east-1b")
    assert node.address in IPv4Network("10.0.2.0/24")


def test_public_addresses_follow_the_order_of_launch(
    cloud: Cloud, vpc: VpcFacts
) -> None:
    nodes = [cloud.launch() for _ in range(3)]
    cloud.terminate(nodes[1].instance_id)

    again = cloud.launch()

    assert [str(node.public_ip) for node in (*nodes, again)] == [
        "198.51.100.11",
        "198.51.100.12",
        "198.51.100.13",
        "198.51.100.12",
    ]


def test_an_unknown_instance_type_is_refused_with_near_ones(
    cloud: Cloud, vpc: VpcFacts
) -> None:
    with pytest.raises(LabError, match="no instance type") as refused:
        cloud.launch("m5.larg")

    assert "m5.large" in refused.value.remedy


def test_nothing_is_launched_without_a_vpc_or_in_no_subnet(cloud: Cloud) -> None:
    with pytest.raises(LabError, match="no VPC"):
        cloud.launch()
    cloud.create_vpc()
    with pytest.raises(LabError, match="does not exist"):
        cloud.launch(subnet="subnet-1")


def test_a_full_subnet_launches_nothing(cloud: Cloud, small: str) -> None:
    for _ in range(11):
        cloud.launch("t3.nano", subnet=small)

    with pytest.raises(LabError, match="InsufficientFreeAddressesInSubnet"):
        cloud.launch("t3.nano", subnet=small)


def test_nodes_can_be_launched_while_subnets_are_said_to_be_full(
    cloud: Cloud, vpc: VpcFacts
) -> None:
    cloud.set_faults(Faults(full_subnet=True, fragmented=True))

    assert cloud.launch().address in IPv4Network("10.0.1.0/24")


def test_an_unknown_instance_is_not_terminated(cloud: Cloud, vpc: VpcFacts) -> None:
    with pytest.raises(LabError, match="i-0123456789abcdef0"):
        cloud.terminate("i-0123456789abcdef0")


def test_a_node_is_known_by_every_address_that_it_holds(
    ec2: Any, cloud: Cloud, node: NodeFacts, eni: str
) -> None:
    attach(ec2, node, eni)
    (now,) = cloud.nodes()

    assert [each.id for each in now.enis] == [node.eni.id, eni]
    for each in now.enis:
        assert cloud.node_at(str(each.primary)) == now
    assert cloud.node_at(str(node.eni.addresses6[0])) == now
    assert cloud.node_at("10.0.1.1") is None


# What is told of it


def test_the_description_is_json(
    ec2: Any, cloud: Cloud, node: NodeFacts, eni: str
) -> None:
    cloud.set_faults(Faults(attach_s=1, rate={"*": (1, 1)}))

    told = cloud.describe()

    assert json.loads(json.dumps(told)).keys() == told.keys()
    (instance,) = told["instances"]
    assert instance["instance_id"] == node.instance_id
    assert instance["enis"][0]["addresses"] == [str(node.address)]
    assert {each["id"] for each in told["enis"]} == {node.eni.id, eni}
    assert told["subnets"][0]["free"] == 251 - 2
    assert told["faults"] == {"attach_s": 1, "rate": {"*": [1, 1]}}


def test_one_seed_makes_one_world() -> None:
    def world(seed: int) -> dict[str, Any]:
        with Cloud(seed=seed) as cloud:
            cloud.create_vpc()
            cloud.launch()
            return cloud.describe()

    assert world(1) == world(1)
    assert world(1) != world(2)


def test_clouds_of_one_process_know_nothing_of_each_other(
    cloud: Cloud, node: NodeFacts
) -> None:
    with Cloud(seed=2) as other:
        other.create_vpc()
        launched = other.launch()

        assert other.nodes() == (launched,)
        assert other.node_at(str(node.address)) is None
    assert cloud.nodes() == (node,)


_ALONE = """
import socket, warnings
warnings.simplefilter("error")
from eniplug.lab.cloud import Cloud
with Cloud() as cloud:
    cloud.create_vpc()
    sock = socket.create_server(("127.0.0.1", 0))
    cloud.serve_ec2(sock)
    cloud.serve_imds(socket.create_server(("127.0.0.1", 0)))
    print(cloud.launch().address)
"""


def test_the_cloud_runs_with_every_warning_an_error() -> None:
    alone = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE")}

    done = subprocess.run(
        (sys.executable, "-c", _ALONE),
        env=alone,
        capture_output=True,
        text=True,
        timeout=60,
    )

    assert done.stderr == ""
    assert re.fullmatch(r"10\.0\.\d+\.\d+\n", done.stdout)


def test_facts_faults_and_rules_do_not_load_moto() -> None:
    code = "import sys, eniplug.lab.facts, eniplug.lab.faults, eniplug.lab.space;"
    code += "sys.exit(any(name.split('.')[0] == 'moto' for name in sys.modules))"

    assert subprocess.run((sys.executable, "-c", code), timeout=60).returncode == 0
