"""EC2's behaviour over HTTP: what plain moto gets wrong stands here, call by call."""

from __future__ import annotations

from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import IPv4Network, IPv6Network
from typing import Any

import pytest
from botocore.exceptions import ClientError

from eniplug.lab.cloud import Cloud, VpcFacts
from eniplug.lab.facts import NodeFacts
from eniplug.lab.faults import Faults

NO_ENI = "eni-0123456789abcdef0"


@contextmanager
def refused(code: str, words: str = "") -> Generator[None]:
    with pytest.raises(ClientError) as error:
        yield
    told: Any = error.value.response
    assert told["Error"]["Code"] == code
    assert words in told["Error"]["Message"]


def create(ec2: Any, subnet: str, **more: Any) -> Any:
    return ec2.create_network_interface(SubnetId=subnet, **more)["NetworkInterface"]


def create_id(ec2: Any, subnet: str, **more: Any) -> str:
    return str(create(ec2, subnet, **more)["NetworkInterfaceId"])


def describe(ec2: Any, eni: str) -> Any:
    found = ec2.describe_network_interfaces(NetworkInterfaceIds=[eni])
    return found["NetworkInterfaces"][0]


def attach(ec2: Any, eni: str, node: NodeFacts, device: int = 1) -> str:
    attached = ec2.attach_network_interface(
        NetworkInterfaceId=eni,
        InstanceId=node.instance_id,
        DeviceIndex=device,
        NetworkCardIndex=0,
    )
    return str(attached["AttachmentId"])


def free(ec2: Any, subnet: str) -> int:
    found = ec2.describe_subnets(SubnetIds=[subnet])
    return int(found["Subnets"][0]["AvailableIpAddressCount"])


def addresses(eni: Any) -> list[str]:
    return [each["PrivateIpAddress"] for each in eni["PrivateIpAddresses"]]


# Instances


def test_describe_instances_tells_the_primary_eni(ec2: Any, node: NodeFacts) -> None:
    told = ec2.describe_instances(InstanceIds=[node.instance_id])
    instance = told["Reservations"][0]["Instances"][0]
    (eni,) = instance["NetworkInterfaces"]

    assert instance["PrivateIpAddress"] == str(node.address)
    assert instance["PublicIpAddress"] == "198.51.100.11"
    assert instance["MetadataOptions"]["HttpTokens"] == "required"
    assert eni["MacAddress"] == node.mac
    assert eni["Attachment"]["DeviceIndex"] == 0
    assert eni["Attachment"]["DeleteOnTermination"] is True
    assert eni["Association"]["PublicIp"] == "198.51.100.11"


def test_an_eni_without_public_address_has_no_association(
    ec2: Any, subnet: str
) -> None:
    assert "Association" not in create(ec2, subnet)


def run(ec2: Any, subnet: str, count: int = 1, kind: str = "m5.large") -> Any:
    return ec2.run_instances(
        ImageId="ami-1",
        InstanceType=kind,
        MinCount=count,
        MaxCount=count,
        SubnetId=subnet,
    )["Instances"]


def test_instances_are_launched_all_or_none(ec2: Any, small: str) -> None:
    with refused("InsufficientFreeAddressesInSubnet"):
        run(ec2, small, 12)

    assert ec2.describe_instances()["Reservations"] == []
    assert free(ec2, small) == 11


def test_an_unknown_instance_type_is_refused(ec2: Any, subnet: str) -> None:
    with refused("InvalidParameterValue", "Invalid value 'm5.larg' for InstanceType."):
        run(ec2, subnet, kind="m5.larg")


def test_public_addresses_go_up_from_11(ec2: Any, subnet: str) -> None:
    launched = run(ec2, subnet, 3)

    described = ec2.describe_instances(
        InstanceIds=[each["InstanceId"] for each in launched]
    )

    instances = described["Reservations"][0]["Instances"]
    assert [each["PublicIpAddress"] for each in instances] == [
        "198.51.100.11",
        "198.51.100.12",
        "198.51.100.13",
    ]


def test_instance_types_tell_their_limits(ec2: Any, vpc: VpcFacts) -> None:
    found = ec2.describe_instance_types(InstanceTypes=["m5.large", "p4d.24xlarge"])

    limits = {
        each["InstanceType"]: each["NetworkInfo"] for each in found["InstanceTypes"]
    }
    assert limits["m5.large"]["MaximumNetworkInterfaces"] == 3
    assert limits["m5.large"]["Ipv4AddressesPerInterface"] == 10
    assert len(limits["p4d.24xlarge"]["NetworkCards"]) == 4


def test_terminate_takes_what_is_so_marked_and_frees_the_rest(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    kept, marked = create_id(ec2, subnet), create_id(ec2, subnet)
    attach(ec2, kept, node, 1)
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=marked,
        Attachment={
            "AttachmentId": attach(ec2, marked, node, 2),
            "DeleteOnTermination": True,
        },
    )

    ec2.terminate_instances(InstanceIds=[node.instance_id])

    assert describe(ec2, kept)["Status"] == "available"
    for gone in (marked, node.eni.id):
        with refused("InvalidNetworkInterfaceID.NotFound"):
            describe(ec2, gone)
    assert free(ec2, subnet) == 250


def test_a_terminated_instance_has_no_address(ec2: Any, node: NodeFacts) -> None:
    ec2.terminate_instances(InstanceIds=[node.instance_id])

    (reservation,) = ec2.describe_instances()["Reservations"]
    instance = reservation["Instances"][0]
    assert instance["State"]["Name"] == "terminated"
    assert instance["NetworkInterfaces"] == []
    assert not instance.get("PrivateIpAddress")


def test_metadata_options_that_are_not_named_stay(ec2: Any, node: NodeFacts) -> None:
    changed = ec2.modify_instance_metadata_options(
        InstanceId=node.instance_id, HttpPutResponseHopLimit=3
    )["InstanceMetadataOptions"]

    assert changed["HttpTokens"] == "required"
    assert changed["HttpPutResponseHopLimit"] == 3
    assert changed["HttpEndpoint"] == "enabled"


# CreateNetworkInterface


def test_a_created_eni_is_as_it_was_asked_for(
    ec2: Any, vpc: VpcFacts, subnet: str
) -> None:
    eni = create(
        ec2,
        subnet,
        Groups=[vpc.group],
        Description="aws-K8S-i-1",
        SecondaryPrivateIpAddressCount=4,
        TagSpecifications=[
            {
                "ResourceType": "network-interface",
                "Tags": [{"Key": "cluster", "Value": "c1"}],
            }
        ],
    )

    assert eni["Status"] == "available"
    assert eni["Description"] == "aws-K8S-i-1"
    assert [group["GroupId"] for group in eni["Groups"]] == [vpc.group]
    assert eni["TagSet"] == [{"Key": "cluster", "Value": "c1"}]
    assert [each["Primary"] for each in eni["PrivateIpAddresses"]] == [
        True,
        *4 * [False],
    ]
    assert len(set(addresses(eni))) == 5


def test_a_small_subnet_has_eleven_addresses_all_different(
    ec2: Any, small: str
) -> None:
    made = [addresses(create(ec2, small))[0] for _ in range(11)]

    assert sorted(map(int, (each.split(".")[3] for each in made))) == [*range(4, 15)]
    assert free(ec2, small) == 0
    with refused("InsufficientFreeAddressesInSubnet"):
        create(ec2, small)


def test_macs_are_local_and_all_different(ec2: Any, subnet: str) -> None:
    macs = {create(ec2, subnet)["MacAddress"] for _ in range(10)}

    assert len(macs) == 10
    assert all(mac.startswith("02:") for mac in macs)


def test_prefixes_are_twenty_eights_of_the_subnet(ec2: Any, subnet: str) -> None:
    eni = create(ec2, subnet, Ipv4PrefixCount=2)

    nets = [IPv4Network(each["Ipv4Prefix"]) for each in eni["Ipv4Prefixes"]]
    assert len(set(nets)) == 2
    assert all(net.subnet_of(IPv4Network("10.0.1.0/24")) for net in nets)
    assert {net.prefixlen for net in nets} == {28}
    assert free(ec2, subnet) == 251 - 1 - 32


def test_a_prefix_can_be_chosen_once(ec2: Any, subnet: str) -> None:
    chosen = [{"Ipv4Prefix": "10.0.1.64/28"}]

    eni = create(ec2, subnet, PrivateIpAddress="10.0.1.4", Ipv4Prefixes=chosen)

    assert eni["Ipv4Prefixes"] == chosen
    with refused("InvalidIPAddress.InUse"):
        create(ec2, subnet, PrivateIpAddress="10.0.1.5", Ipv4Prefixes=chosen)


def test_ipv6_addresses_and_prefixes_are_of_the_subnet(ec2: Any, subnet: str) -> None:
    eni = create(ec2, subnet, Ipv6AddressCount=2)
    prefixed = create(ec2, subnet, Ipv6PrefixCount=1)

    within = IPv6Network("2001:db8:1234::/64")
    for each in eni["Ipv6Addresses"]:
        assert IPv6Network(each["Ipv6Address"]).subnet_of(within)
    prefix = IPv6Network(prefixed["Ipv6Prefixes"][0]["Ipv6Prefix"])
    assert prefix.prefixlen == 80
    assert prefix.subnet_of(within)


def test_the_same_client_token_makes_one_eni(ec2: Any, subnet: str) -> None:
    first = create_id(ec2, subnet, ClientToken="t1")

    assert create_id(ec2, subnet, ClientToken="t1") == first
    with refused("IdempotentParameterMismatch"):
        create(ec2, subnet, ClientToken="t1", Description="other")


def test_an_address_in_use_or_elsewhere_is_refused(ec2: Any, subnet: str) -> None:
    create(ec2, subnet, PrivateIpAddress="10.0.1.9")

    with refused("InvalidIPAddress.InUse"):
        create(ec2, subnet, PrivateIpAddress="10.0.1.9")
    with refused("InvalidParameterValue"):
        create(ec2, subnet, PrivateIpAddress="10.0.9.9")
    assert free(ec2, subnet) == 250


def test_addresses_can_be_listed_with_the_primary_among_them(
    ec2: Any, subnet: str
) -> None:
    eni = create(
        ec2,
        subnet,
        PrivateIpAddresses=[
            {"PrivateIpAddress": "10.0.1.20", "Primary": False},
            {"PrivateIpAddress": "10.0.1.10", "Primary": True},
        ],
    )

    assert addresses(eni) == ["10.0.1.10", "10.0.1.20"]


def test_an_unknown_group_or_subnet_is_refused(ec2: Any, subnet: str) -> None:
    with refused("InvalidGroup.NotFound"):
        create(ec2, subnet, Groups=["sg-00000000000000000"])
    with refused("InvalidSubnetID.NotFound"):
        create(ec2, "subnet-00000000000000000")


def test_a_dry_run_makes_nothing(ec2: Any, subnet: str) -> None:
    with refused("DryRunOperation"):
        create(ec2, subnet, DryRun=True)

    assert free(ec2, subnet) == 251


@pytest.mark.parametrize(
    "code",
    [
        "InsufficientFreeAddressesInSubnet",
        "InsufficientCidrBlocks",
        "InvalidParameterValue",
    ],
)
def test_a_full_subnet_answers_in_the_chosen_form(
    cloud: Cloud, ec2: Any, subnet: str, code: str
) -> None:
    cloud.set_faults(Faults(full_subnet=code))

    with refused(code):
        create(ec2, subnet)


def test_a_full_subnet_answers_by_default_for_what_was_asked(
    cloud: Cloud, ec2: Any, subnet: str
) -> None:
    eni = create_id(ec2, subnet)
    cloud.set_faults(Faults(full_subnet=True))

    with refused("InsufficientFreeAddressesInSubnet"):
        assign(ec2, eni, SecondaryPrivateIpAddressCount=1)
    with refused("InsufficientCidrBlocks"):
        assign(ec2, eni, Ipv4PrefixCount=1)


def test_a_fragmented_subnet_has_addresses_but_no_prefix(
    cloud: Cloud, ec2: Any, subnet: str
) -> None:
    eni = create_id(ec2, subnet)
    cloud.set_faults(Faults(fragmented=True))

    assert len(assign(ec2, eni, SecondaryPrivateIpAddressCount=3)[0]) == 3
    with refused("InsufficientCidrBlocks"):
        assign(ec2, eni, Ipv4PrefixCount=1)


# AttachNetworkInterface, DetachNetworkInterface, DeleteNetworkInterface


def test_an_attachment_is_told_of(ec2: Any, node: NodeFacts, subnet: str) -> None:
    eni = create_id(ec2, subnet)

    attachment = attach(ec2, eni, node, 2)

    told = describe(ec2, eni)
    assert told["Status"] == "in-use"
    assert told["Attachment"]["AttachmentId"] == attachment
    assert told["Attachment"]["InstanceId"] == node.instance_id
    assert told["Attachment"]["DeviceIndex"] == 2
    assert told["Attachment"]["Status"] == "attached"
    assert told["Attachment"]["DeleteOnTermination"] is False


def test_a_fourth_eni_on_an_m5_large_is_refused(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    for device in (1, 2):
        attach(ec2, create_id(ec2, subnet), node, device)

    words = "Interface count 4 exceeds the limit for m5.large"
    with refused("AttachmentLimitExceeded", words):
        attach(ec2, create_id(ec2, subnet), node, 3)


def test_a_taken_device_index_is_refused_and_changes_nothing(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    first, second = create_id(ec2, subnet), create_id(ec2, subnet)
    attach(ec2, first, node)

    with refused("InvalidParameterValue", "attached at device index '1'."):
        attach(ec2, second, node)

    assert describe(ec2, first)["Status"] == "in-use"
    assert describe(ec2, second)["Status"] == "available"


def test_an_attached_eni_is_not_attached_again(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    eni = create_id(ec2, subnet)
    attachment = attach(ec2, eni, node, 1)

    with refused("InvalidNetworkInterface.InUse"):
        attach(ec2, eni, node, 2)

    assert describe(ec2, eni)["Attachment"]["AttachmentId"] == attachment


def test_network_cards_have_device_indexes_of_their_own(
    cloud: Cloud, ec2: Any, vpc: VpcFacts, subnet: str
) -> None:
    node = cloud.launch("p4d.24xlarge")
    eni = create_id(ec2, subnet)

    ec2.attach_network_interface(
        NetworkInterfaceId=eni,
        InstanceId=node.instance_id,
        DeviceIndex=1,
        NetworkCardIndex=3,
    )
    attach(ec2, create_id(ec2, subnet), node, 1)

    assert describe(ec2, eni)["Attachment"]["NetworkCardIndex"] == 3
    (now,) = cloud.nodes()
    assert [(each.card, each.device) for each in now.enis] == [(0, 0), (0, 1), (3, 1)]


def test_a_card_that_the_type_has_not_is_refused(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    with refused("InvalidParameterValue", "Network card index 1"):
        ec2.attach_network_interface(
            NetworkInterfaceId=create_id(ec2, subnet),
            InstanceId=node.instance_id,
            DeviceIndex=1,
            NetworkCardIndex=1,
        )


def test_an_eni_with_too_many_addresses_for_the_type_is_refused(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    eni = create_id(ec2, subnet, SecondaryPrivateIpAddressCount=10)

    with refused("InvalidInterface.IpAddressLimitExceeded", "Address count 11"):
        attach(ec2, eni, node)


def test_an_eni_of_another_zone_is_refused(ec2: Any, node: NodeFacts, far: str) -> None:
    with refused("InvalidParameterCombination", "availability zone"):
        attach(ec2, create_id(ec2, far), node)


def test_an_unknown_eni_or_instance_is_refused(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    with refused("InvalidNetworkInterfaceID.NotFound"):
        attach(ec2, NO_ENI, node)
    with refused("InvalidInstanceID.NotFound"):
        ec2.attach_network_interface(
            NetworkInterfaceId=create_id(ec2, subnet),
            InstanceId="i-0123456789abcdef0",
            DeviceIndex=1,
        )


def test_nothing_is_attached_to_a_terminated_instance(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    ec2.terminate_instances(InstanceIds=[node.instance_id])

    with refused("IncorrectInstanceState"):
        attach(ec2, create_id(ec2, subnet), node)


def test_a_detached_eni_is_available_and_can_be_deleted(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    eni = create_id(ec2, subnet)

    ec2.detach_network_interface(AttachmentId=attach(ec2, eni, node))

    assert describe(ec2, eni)["Status"] == "available"
    assert "Attachment" not in describe(ec2, eni)
    ec2.delete_network_interface(NetworkInterfaceId=eni)
    with refused("InvalidNetworkInterfaceID.NotFound"):
        ec2.delete_network_interface(NetworkInterfaceId=eni)


def test_the_primary_eni_cannot_be_detached(ec2: Any, node: NodeFacts) -> None:
    attachment = describe(ec2, node.eni.id)["Attachment"]["AttachmentId"]

    with refused("OperationNotPermitted"):
        ec2.detach_network_interface(AttachmentId=attachment)


def test_an_unknown_attachment_is_refused(ec2: Any, node: NodeFacts) -> None:
    with refused("InvalidAttachmentID.NotFound"):
        ec2.detach_network_interface(AttachmentId="eni-attach-0123456789abcdef0")


def test_an_attached_eni_cannot_be_deleted(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    eni = create_id(ec2, subnet)
    attach(ec2, eni, node)

    with refused("InvalidParameterValue", "is currently in use"):
        ec2.delete_network_interface(NetworkInterfaceId=eni)


# Assign and unassign


def assign(ec2: Any, eni: str, **more: Any) -> tuple[list[str], list[str]]:
    answer = ec2.assign_private_ip_addresses(NetworkInterfaceId=eni, **more)
    new = [each["PrivateIpAddress"] for each in answer["AssignedPrivateIpAddresses"]]
    return new, [each["Ipv4Prefix"] for each in answer["AssignedIpv4Prefixes"]]


def test_assign_answers_with_the_new_addresses_only(ec2: Any, subnet: str) -> None:
    eni = create(ec2, subnet, SecondaryPrivateIpAddressCount=2)

    new, prefixes = assign(
        ec2, eni["NetworkInterfaceId"], SecondaryPrivateIpAddressCount=3
    )

    assert len(new) == 3
    assert not {*new} & {*addresses(eni)}
    assert prefixes == []
    assert addresses(describe(ec2, eni["NetworkInterfaceId"])) == addresses(eni) + new


def test_assign_takes_no_other_enis_address(ec2: Any, subnet: str) -> None:
    create(ec2, subnet, PrivateIpAddress="10.0.1.9")
    eni = create_id(ec2, subnet, PrivateIpAddress="10.0.1.10")

    assert assign(ec2, eni, PrivateIpAddresses=["10.0.1.11"])[0] == ["10.0.1.11"]
    with refused("InvalidIPAddress.InUse"):
        assign(ec2, eni, PrivateIpAddresses=["10.0.1.12", "10.0.1.9"])
    assert addresses(describe(ec2, eni)) == ["10.0.1.10", "10.0.1.11"]


def test_assign_holds_to_the_limit_of_the_instance_type(
    ec2: Any, node: NodeFacts
) -> None:
    assign(ec2, node.eni.id, SecondaryPrivateIpAddressCount=8)
    assign(ec2, node.eni.id, Ipv4PrefixCount=1)

    with refused("PrivateIpAddressLimitExceeded"):
        assign(ec2, node.eni.id, SecondaryPrivateIpAddressCount=1)
    with refused("PrivateIpAddressLimitExceeded"):
        assign(ec2, node.eni.id, Ipv4PrefixCount=1)


def test_prefixes_are_assigned_and_told_of(ec2: Any, subnet: str) -> None:
    eni = create_id(ec2, subnet, PrivateIpAddress="10.0.1.4")

    chosen = assign(ec2, eni, Ipv4Prefixes=["10.0.1.224/28"])
    addresses_, drawn = assign(ec2, eni, Ipv4PrefixCount=1)

    assert chosen == ([], ["10.0.1.224/28"])
    assert addresses_ == []
    told = [each["Ipv4Prefix"] for each in describe(ec2, eni)["Ipv4Prefixes"]]
    assert told == ["10.0.1.224/28", *drawn]


def test_unassign_gives_addresses_and_prefixes_back(ec2: Any, subnet: str) -> None:
    eni = create_id(ec2, subnet)
    new, _ = assign(ec2, eni, SecondaryPrivateIpAddressCount=2)
    _, prefixes = assign(ec2, eni, Ipv4PrefixCount=1)

    ec2.unassign_private_ip_addresses(
        NetworkInterfaceId=eni, PrivateIpAddresses=new[:1], Ipv4Prefixes=prefixes
    )

    assert addresses(describe(ec2, eni))[1:] == new[1:]
    assert describe(ec2, eni)["Ipv4Prefixes"] == []
    assert free(ec2, subnet) == 251 - 2


def test_unassign_refuses_what_is_not_there_and_the_primary(
    ec2: Any, subnet: str
) -> None:
    eni = create_id(ec2, subnet, PrivateIpAddress="10.0.1.9")
    assign(ec2, eni, PrivateIpAddresses=["10.0.1.10"])

    for wrong in (["10.0.1.10", "10.0.1.11"], ["10.0.1.9"], ["nonsense"]):
        with refused("InvalidParameterValue"):
            ec2.unassign_private_ip_addresses(
                NetworkInterfaceId=eni, PrivateIpAddresses=wrong
            )
    with refused("InvalidParameterValue"):
        ec2.unassign_private_ip_addresses(
            NetworkInterfaceId=eni, Ipv4Prefixes=["10.0.1.64/28"]
        )
    assert addresses(describe(ec2, eni)) == ["10.0.1.9", "10.0.1.10"]


def test_an_assign_of_nothing_is_refused(ec2: Any, subnet: str) -> None:
    with refused("MissingParameter"):
        assign(ec2, create_id(ec2, subnet))


def test_ipv6_addresses_come_and_go(ec2: Any, subnet: str) -> None:
    eni = create_id(ec2, subnet, Ipv6AddressCount=1)
    before = describe(ec2, eni)["Ipv6Addresses"]

    added = ec2.assign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6AddressCount=1)
    prefixed = ec2.assign_ipv6_addresses(NetworkInterfaceId=eni, Ipv6PrefixCount=1)

    (new,) = added["AssignedIpv6Addresses"]
    (prefix,) = prefixed["AssignedIpv6Prefixes"]
    assert new not in {each["Ipv6Address"] for each in before}
    assert describe(ec2, eni)["Ipv6Prefixes"] == [{"Ipv6Prefix": prefix}]
    gone = ec2.unassign_ipv6_addresses(
        NetworkInterfaceId=eni, Ipv6Addresses=[new], Ipv6Prefixes=[prefix]
    )
    assert gone["UnassignedIpv6Addresses"] == [new]
    assert gone["UnassignedIpv6Prefixes"] == [prefix]
    assert describe(ec2, eni)["Ipv6Addresses"] == before
    assert describe(ec2, eni)["Ipv6Prefixes"] == []


def test_a_subnet_without_ipv6_gives_none(ec2: Any, vpc: VpcFacts) -> None:
    subnet = ec2.create_subnet(
        VpcId=vpc.id, CidrBlock="10.0.3.0/24", AvailabilityZone="us-east-1a"
    )["Subnet"]

    with refused("InvalidParameterValue", "has no IPv6 CIDR block"):
        create(ec2, subnet["SubnetId"], Ipv6AddressCount=1)


# ModifyNetworkInterfaceAttribute


def test_attributes_take_effect(
    ec2: Any, node: NodeFacts, vpc: VpcFacts, subnet: str
) -> None:
    group = ec2.create_security_group(GroupName="x", Description="d", VpcId=vpc.id)
    eni = create_id(ec2, subnet, Groups=[vpc.group])
    attachment = attach(ec2, eni, node)

    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni,
        Attachment={"AttachmentId": attachment, "DeleteOnTermination": True},
    )
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni, SourceDestCheck={"Value": False}
    )
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni, Groups=[group["GroupId"]]
    )
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni, Description={"Value": "new"}
    )

    told = describe(ec2, eni)
    assert told["Attachment"]["DeleteOnTermination"] is True
    assert told["SourceDestCheck"] is False
    assert [each["GroupId"] for each in told["Groups"]] == [group["GroupId"]]
    assert told["Description"] == "new"
    one = ec2.describe_network_interface_attribute(
        NetworkInterfaceId=eni, Attribute="sourceDestCheck"
    )
    assert one["SourceDestCheck"]["Value"] is False


def test_an_attribute_of_another_attachment_is_refused(
    ec2: Any, node: NodeFacts
) -> None:
    with refused("InvalidAttachmentID.NotFound"):
        ec2.modify_network_interface_attribute(
            NetworkInterfaceId=node.eni.id,
            Attachment={"AttachmentId": "eni-attach-1", "DeleteOnTermination": False},
        )


# DescribeNetworkInterfaces


def test_every_filter_that_cnis_use_works(
    ec2: Any, node: NodeFacts, vpc: VpcFacts, subnet: str
) -> None:
    mine = create(
        ec2,
        subnet,
        Groups=[vpc.group],
        Description="aws-K8S-" + node.instance_id,
        SecondaryPrivateIpAddressCount=1,
        TagSpecifications=[
            {
                "ResourceType": "network-interface",
                "Tags": [
                    {
                        "Key": "node.k8s.amazonaws.com/instance_id",
                        "Value": node.instance_id,
                    }
                ],
            }
        ],
    )
    eni = mine["NetworkInterfaceId"]
    create(ec2, subnet)
    attachment = attach(ec2, eni, node)

    for name, value in {
        "tag:node.k8s.amazonaws.com/instance_id": node.instance_id,
        "tag-key": "node.k8s.amazonaws.com/*",
        "description": "aws-K8S-*",
        "attachment.device-index": "1",
        "attachment.attachment-id": attachment,
        "attachment.delete-on-termination": "false",
        "private-ip-address": mine["PrivateIpAddress"],
        "addresses.private-ip-address": addresses(mine)[1],
        "mac-address": mine["MacAddress"],
        "network-interface-id": eni,
    }.items():
        assert found(ec2, name, value) == [eni], name
    for name, value, count in (
        ("status", "in-use", 2),
        ("status", "available", 1),
        ("attachment.status", "attached", 2),
        ("attachment.instance-id", node.instance_id, 2),
        ("subnet-id", subnet, 3),
        ("vpc-id", vpc.id, 3),
        ("group-id", vpc.group, 2),
        ("interface-type", "interface", 3),
        ("source-dest-check", "true", 3),
        ("availability-zone", "us-east-1b", 0),
        ("tag:other", "*", 0),
    ):
        assert len(found(ec2, name, value)) == count, name


def found(ec2: Any, name: str, value: str) -> list[str]:
    enis = ec2.describe_network_interfaces(Filters=[{"Name": name, "Values": [value]}])[
        "NetworkInterfaces"
    ]
    return [each["NetworkInterfaceId"] for each in enis]


def test_filters_are_joined_by_and_their_values_by_or(
    ec2: Any, node: NodeFacts, subnet: str, far: str
) -> None:
    here, there = create_id(ec2, subnet), create_id(ec2, far)

    enis = ec2.describe_network_interfaces(
        Filters=[
            {"Name": "subnet-id", "Values": [subnet, far]},
            {"Name": "status", "Values": ["available"]},
        ]
    )["NetworkInterfaces"]

    assert {each["NetworkInterfaceId"] for each in enis} == {here, there}


@pytest.mark.parametrize("name", ["nonsense", "attachment.nonsense"])
def test_an_unknown_filter_is_refused(ec2: Any, node: NodeFacts, name: str) -> None:
    with refused("InvalidParameterValue", f"The filter '{name}' is invalid"):
        found(ec2, name, "x")


def test_enis_come_in_pages(ec2: Any, subnet: str) -> None:
    made = {create_id(ec2, subnet) for _ in range(12)}

    pages = [
        [each["NetworkInterfaceId"] for each in page["NetworkInterfaces"]]
        for page in ec2.get_paginator("describe_network_interfaces").paginate(
            PaginationConfig={"PageSize": 5}
        )
    ]

    assert [len(page) for page in pages] == [5, 5, 2]
    assert {eni for page in pages for eni in page} == made


def test_a_page_that_there_is_not_is_refused(ec2: Any, vpc: VpcFacts) -> None:
    with refused("InvalidParameterValue"):
        ec2.describe_network_interfaces(NextToken="x")


def test_an_unknown_attribute_is_refused(ec2: Any, subnet: str) -> None:
    with refused("InvalidParameterValue"):
        ec2.describe_network_interface_attribute(
            NetworkInterfaceId=create_id(ec2, subnet), Attribute="nonsense"
        )


def test_an_unknown_eni_is_not_found(ec2: Any, vpc: VpcFacts) -> None:
    with refused("InvalidNetworkInterfaceID.NotFound"):
        describe(ec2, NO_ENI)


# Tags, subnets, VPCs, addresses


def test_tags_come_and_go(ec2: Any, subnet: str) -> None:
    eni = create_id(ec2, subnet)

    ec2.create_tags(Resources=[eni], Tags=[{"Key": "a", "Value": "1"}])

    assert describe(ec2, eni)["TagSet"] == [{"Key": "a", "Value": "1"}]
    ec2.delete_tags(Resources=[eni], Tags=[{"Key": "a"}])
    assert describe(ec2, eni)["TagSet"] == []


def test_tags_of_an_eni_that_is_not_there_are_refused(ec2: Any, vpc: VpcFacts) -> None:
    with refused("InvalidNetworkInterfaceID.NotFound"):
        ec2.create_tags(Resources=[NO_ENI], Tags=[{"Key": "a", "Value": "1"}])
    with refused("InvalidNetworkInterfaceID.NotFound"):
        ec2.delete_tags(Resources=[NO_ENI], Tags=[{"Key": "a"}])


def test_a_subnet_counts_addresses_and_prefixes(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    assert free(ec2, subnet) == 250

    create(ec2, subnet, Ipv4PrefixCount=1)

    assert free(ec2, subnet) == 250 - 1 - 16


def test_a_subnet_tells_its_ipv6_range(ec2: Any, subnet: str) -> None:
    told = ec2.describe_subnets(SubnetIds=[subnet])["Subnets"][0]

    (association,) = told["Ipv6CidrBlockAssociationSet"]
    assert association["Ipv6CidrBlock"] == "2001:db8:1234::/64"
    assert association["Ipv6CidrBlockState"] == {"State": "associated"}


def test_there_is_one_vpc_with_its_ranges(ec2: Any, vpc: VpcFacts) -> None:
    (told,) = ec2.describe_vpcs()["Vpcs"]

    ranges = told["CidrBlockAssociationSet"]
    assert [each["CidrBlock"] for each in ranges] == ["10.0.0.0/16", "100.64.0.0/16"]


def test_vpcs_have_ipv6_ranges_of_their_own(ec2: Any, vpc: VpcFacts) -> None:
    other = ec2.create_vpc(CidrBlock="10.9.0.0/16", AmazonProvidedIpv6CidrBlock=True)

    ranges = [
        each["Ipv6CidrBlock"]
        for told in ec2.describe_vpcs()["Vpcs"]
        for each in told["Ipv6CidrBlockAssociationSet"]
    ]

    assert ranges == ["2001:db8:1234::/56", "2001:db8:1234:100::/56"]
    told = other["Vpc"]["Ipv6CidrBlockAssociationSet"]
    assert told[0]["Ipv6CidrBlock"] == ranges[1]


def test_there_is_one_image(ec2: Any, node: NodeFacts) -> None:
    (image,) = ec2.describe_images()["Images"]

    assert image["ImageId"] == node.image


def test_groups_are_found_by_name(ec2: Any, vpc: VpcFacts) -> None:
    (told,) = ec2.describe_security_groups(
        Filters=[{"Name": "group-name", "Values": ["nodes"]}]
    )["SecurityGroups"]

    assert told["GroupId"] == vpc.group


def test_elastic_addresses_count_down_and_move(
    ec2: Any, node: NodeFacts, subnet: str
) -> None:
    elastic = ec2.allocate_address(Domain="vpc")
    eni = create_id(ec2, subnet)

    ec2.associate_address(AllocationId=elastic["AllocationId"], NetworkInterfaceId=eni)

    assert elastic["PublicIp"] == "198.51.100.254"
    told = describe(ec2, eni)["Association"]
    assert told["PublicIp"] == "198.51.100.254"
    assert told["AllocationId"] == elastic["AllocationId"]
    ec2.disassociate_address(AssociationId=told["AssociationId"])
    assert "Association" not in describe(ec2, eni)


def test_an_elastic_address_outlives_its_eni(ec2: Any, subnet: str) -> None:
    elastic = ec2.allocate_address(Domain="vpc")
    eni = create_id(ec2, subnet)
    ec2.associate_address(AllocationId=elastic["AllocationId"], NetworkInterfaceId=eni)

    ec2.delete_network_interface(NetworkInterfaceId=eni)

    (told,) = ec2.describe_addresses()["Addresses"]
    assert told["PublicIp"] == elastic["PublicIp"]
    assert not told.get("NetworkInterfaceId")


def test_an_action_that_there_is_not_is_refused(ec2: Any, vpc: VpcFacts) -> None:
    with refused("InvalidAction", "ResetNetworkInterfaceAttribute"):
        ec2.reset_network_interface_attribute(NetworkInterfaceId=NO_ENI)
