"""The port `eniplug.core.ec2.Cloud` on boto3.

Nothing else imports boto3, and nothing of botocore leaves this file.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import TYPE_CHECKING, Any, Final, TypeAlias

from botocore.exceptions import (
    BotoCoreError,
    ClientError,
    ConnectTimeoutError,
    HTTPClientError,
    ReadTimeoutError,
)
from botocore.exceptions import ConnectionError as NotConnectedError

from eniplug.core.ec2 import (
    CLUSTER_TAG,
    INSTANCE_TAG,
    ElasticIpFacts,
    EniFacts,
    InstanceFacts,
    Limits,
    SubnetFacts,
)
from eniplug.hooks.capacity import Block, CreateEni
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
from eniplug.hooks.objects import Family, Network

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagTypeDef

BOTOS_ENDPOINT: Final = "AWS_ENDPOINT_URL_EC2"
"""boto3's own variable for where EC2 is; it goes before the next."""

ENDPOINT_VARIABLE: Final = "AWS_EC2_ENDPOINT"
"""The AWS VPC CNI's."""

CONNECT_TIMEOUT: Final = 2.0
READ_TIMEOUT: Final = 10.0

THROTTLING: Final = frozenset(
    {
        "BandwidthLimitExceeded",
        "EC2ThrottledException",
        "PriorRequestNotComplete",
        "RequestLimitExceeded",
        "RequestThrottled",
        "RequestThrottledException",
        "SlowDown",
        "ThrottledException",
        "Throttling",
        "ThrottlingException",
        "TooManyRequestsException",
    }
)
DENIED: Final = frozenset(
    {"AccessDenied", "AccessDeniedException", "UnauthorizedOperation"}
)
AWAY: Final = frozenset(
    {"InternalError", "InternalFailure", "ServiceUnavailable", "Unavailable"}
    # What botocore makes of a load balancer's answer, which has no code of EC2's.
    | {"500", "502", "503", "504"}
)
FULL: Final = frozenset({"InsufficientCidrBlocks", "InsufficientFreeAddressesInSubnet"})
LIMITED: Final = frozenset(
    {
        "AttachmentLimitExceeded",
        "InvalidInterface.IpAddressLimitExceeded",
        "Ipv6AddressLimitExceeded",
        "NetworkInterfaceLimitExceeded",
        "PrivateIpAddressLimitExceeded",
    }
)
IN_USE: Final = frozenset({"InvalidIPAddress.InUse", "InvalidNetworkInterface.InUse"})
GONE: Final = frozenset(
    {
        "InvalidAllocationID.NotFound",
        "InvalidAssociationID.NotFound",
        "InvalidAttachmentID.NotFound",
        "InvalidNetworkInterfaceID.NotFound",
    }
)


def in_our_words(action: str, code: str, message: str) -> EniplugError:
    """Translate EC2's error code (EC2 API reference, "Error codes")."""
    words = f"EC2 refuses {action}: {code}: {message}"
    if code in THROTTLING:
        return ThrottledError(words)
    if code in DENIED:
        return DeniedError(f"not allowed: ec2:{action} ({code})")
    if code in AWAY:
        return CloudAwayError(words)
    # At capacity EC2 has been seen to answer with this general code.
    full = code == "InvalidParameterValue" and "sufficient free" in message
    if code in FULL or full:
        return SubnetFullError(words)
    if code == "AddressLimitExceeded":
        return ElasticIpLimitError(words)
    if code in LIMITED:
        return EniLimitError(words)
    used = code == "InvalidParameterValue" and "currently in use" in message
    if code in IN_USE or used:
        return RetryError(words)
    return CloudError(words)


@contextmanager
def _prefixes_asked(asked: bool) -> Generator[None]:
    """Say that it is prefixes that a subnet has none left of."""
    try:
        yield
    except SubnetFullError as error:
        if not asked:
            raise
        raise NoFreePrefixError(error.message) from error


Called: TypeAlias = Callable[[str, EniplugError | None], None]
"""Is told of a call: the action's name, and what came of it in place of an answer."""


def _tell(client: EC2Client, called: Called) -> None:
    """Have ``called`` told of every call that is made, also for a next page."""

    def answered(event_name: str, parsed: Mapping[str, Any], **_: object) -> None:
        action, said = event_name.rpartition(".")[2], parsed.get("Error")
        code, message = (said or {}).get("Code", ""), (said or {}).get("Message", "")
        called(action, in_our_words(action, code, message) if said else None)

    def failed(event_name: str, exception: Exception, **_: object) -> None:
        action = event_name.rpartition(".")[2]
        called(action, _unanswered(action, exception))

    client.meta.events.register("after-call.ec2", answered)
    client.meta.events.register("after-call-error.ec2", failed)


def _unanswered(action: str, error: Exception) -> EniplugError:
    """Say in our words that no answer came."""
    if isinstance(error, ConnectTimeoutError | ReadTimeoutError):
        return CloudSlowError(f"EC2 did not answer {action} in time: {error}")
    if isinstance(error, NotConnectedError | HTTPClientError):
        return CloudAwayError(f"EC2 cannot be reached for {action}: {error}")
    return CloudError(f"no answer from EC2 to {action}: {error}")


@contextmanager
def _asking(action: str) -> Generator[None]:
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        code, message = said.get("Code", ""), said.get("Message", "")
        raise in_our_words(action, code, message) from error
    except BotoCoreError as error:
        raise _unanswered(action, error) from error
    except (LookupError, ValueError) as error:
        msg = f"EC2's answer to {action} cannot be read: {error!r}"
        raise CloudError(msg) from error


@contextmanager
def _quiet_if_gone() -> Generator[None]:
    """Take it for success that EC2 does not know it any more."""
    try:
        yield
    except CloudError as error:
        cause = error.__cause__
        said = cause.response.get("Error", {}) if isinstance(cause, ClientError) else {}
        if said.get("Code") not in GONE:
            raise


def _endpoint(environ: Mapping[str, str]) -> str | None:
    """Return where EC2 is, None when that is left to boto3."""
    if environ.get(BOTOS_ENDPOINT):
        return None
    return environ.get(ENDPOINT_VARIABLE) or None


class Ec2:
    """`Cloud` on boto3, which has variables of its own for endpoint and credentials.

    ``region`` is a region's name, ``read_timeout`` in seconds.  Raises CloudError when
    there is no such region, or the endpoint is no URL.  ``called`` is told of each
    call.
    """

    def __init__(
        self,
        region: str,
        read_timeout: float = READ_TIMEOUT,
        environ: Mapping[str, str] = os.environ,
        called: Called = lambda *_: None,
    ) -> None:
        # Half a second that only an agent has to spend.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=read_timeout,
            retries={"total_max_attempts": 1},
            user_agent_extra="eniplug",
        )
        with _asking("a client"):
            self._client: EC2Client = boto3.client(
                "ec2",
                region_name=region,
                endpoint_url=_endpoint(environ),
                config=config,
            )
        _tell(self._client, called)
        self._known: dict[str, SubnetFacts] = {}

    def close(self) -> None:
        """Close the connections."""
        self._client.close()

    def describe_instance(self, instance_id: str) -> InstanceFacts:
        """Describe an instance (DescribeInstances)."""
        with _asking("DescribeInstances"):
            answer = self._client.describe_instances(InstanceIds=[instance_id])
            for reservation in answer["Reservations"]:
                for instance in reservation.get("Instances", ()):
                    return _instance(instance)
        msg = f"EC2 knows no instance {instance_id}"
        raise CloudError(msg)

    def limits(self, instance_type: str) -> Limits:
        """Return the limits of an instance type (DescribeInstanceTypes, by name)."""
        with _asking("DescribeInstanceTypes"):
            answer = self._client.describe_instance_types(
                InstanceTypes=[instance_type]  # type: ignore[list-item]
            )
            return _limits(answer["InstanceTypes"][0])

    def enis(self, instance_id: str) -> tuple[EniFacts, ...]:
        """Describe an instance's ENIs (DescribeNetworkInterfaces)."""
        found = self._describe(
            [{"Name": "attachment.instance-id", "Values": [instance_id]}]
        )
        return tuple(sorted(found, key=lambda eni: (eni.card, eni.device or 0)))

    def describe_subnets(self, vpc: str, zone: str) -> tuple[SubnetFacts, ...]:
        """Describe a zone's subnets (DescribeSubnets)."""
        with _asking("DescribeSubnets"):
            pages = self._client.get_paginator("describe_subnets").paginate(
                Filters=[
                    {"Name": "vpc-id", "Values": [vpc]},
                    {"Name": "availability-zone", "Values": [zone]},
                ]
            )
            found = [_subnet(one) for page in pages for one in page["Subnets"]]
        self._known |= {one.id: one for one in found}
        return tuple(sorted(found, key=lambda one: (-one.free, one.id)))

    def leaked(self, vpc: str, cluster: str = "") -> tuple[EniFacts, ...]:
        """Describe ENIs that CNIs made in a VPC and that are attached to none."""
        filters: list[FilterTypeDef] = [
            {"Name": "tag-key", "Values": [INSTANCE_TAG]},
            {"Name": "status", "Values": ["available"]},
            {"Name": "vpc-id", "Values": [vpc]},
        ]
        if cluster:
            filters.append({"Name": f"tag:{CLUSTER_TAG}", "Values": [cluster]})
        return self._describe(filters)

    def assign(self, eni_id: str, count: int) -> tuple[IPv4Address, ...]:
        """Give an ENI more addresses (AssignPrivateIpAddresses)."""
        with _asking("AssignPrivateIpAddresses"):
            answer = self._client.assign_private_ip_addresses(
                NetworkInterfaceId=eni_id, SecondaryPrivateIpAddressCount=count
            )
            return _addresses(answer.get("AssignedPrivateIpAddresses", ()))

    def assign_prefixes(
        self, eni_id: str, count: int, family: Family
    ) -> tuple[Network, ...]:
        """Give an ENI more prefixes (AssignPrivateIpAddresses, AssignIpv6Addresses)."""
        if family == 4:  # noqa: PLR2004
            with _prefixes_asked(True), _asking("AssignPrivateIpAddresses"):
                answer = self._client.assign_private_ip_addresses(
                    NetworkInterfaceId=eni_id, Ipv4PrefixCount=count
                )
                return _prefixes4(answer.get("AssignedIpv4Prefixes", ()))
        with _prefixes_asked(True), _asking("AssignIpv6Addresses"):
            answer6 = self._client.assign_ipv6_addresses(
                NetworkInterfaceId=eni_id, Ipv6PrefixCount=count
            )
            given = answer6.get("AssignedIpv6Prefixes", ())
            return tuple(IPv6Network(one) for one in given)

    def unassign(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Take blocks of one family and kind from an ENI (Unassign…Addresses)."""
        texts = [str(block) for block in blocks]
        kind = type(blocks[0])
        if kind in {IPv6Address, IPv6Network}:
            key = "Ipv6Addresses" if kind is IPv6Address else "Ipv6Prefixes"
            with _asking("UnassignIpv6Addresses"):
                self._client.unassign_ipv6_addresses(
                    NetworkInterfaceId=eni_id, **{key: texts}
                )
            return
        key = "PrivateIpAddresses" if kind is IPv4Address else "Ipv4Prefixes"
        with _asking("UnassignPrivateIpAddresses"):
            self._client.unassign_private_ip_addresses(
                NetworkInterfaceId=eni_id, **{key: texts}
            )

    def create_eni(
        self,
        subnet: str,
        groups: Sequence[str],
        want: CreateEni,
        *,
        token: str,
        description: str,
        tags: Mapping[str, str],
    ) -> EniFacts:
        """Make an ENI (CreateNetworkInterface)."""
        pairs = _tag_list(tags)
        counts = {
            "SecondaryPrivateIpAddressCount": want.addresses,
            "Ipv4PrefixCount": want.prefixes,
            "Ipv6PrefixCount": want.prefixes6,
        }
        with _prefixes_asked(bool(want.prefixes)), _asking("CreateNetworkInterface"):
            answer = self._client.create_network_interface(
                SubnetId=subnet,
                Groups=list(groups),
                ClientToken=token,
                Description=description,
                TagSpecifications=[
                    {"ResourceType": "network-interface", "Tags": pairs}
                ],
                **{name: count for name, count in counts.items() if count},  # type: ignore[arg-type]
            )
            return _eni(answer["NetworkInterface"], self._subnets([subnet]))

    def attach(self, eni_id: str, instance_id: str, device: int, card: int) -> str:
        """Attach an ENI (AttachNetworkInterface)."""
        # EC2 has refused an omitted card index on types with several cards.
        with _asking("AttachNetworkInterface"):
            answer = self._client.attach_network_interface(
                NetworkInterfaceId=eni_id,
                InstanceId=instance_id,
                DeviceIndex=device,
                NetworkCardIndex=card,
            )
        return answer["AttachmentId"]

    def delete_on_termination(self, eni_id: str, attachment_id: str) -> None:
        """Tie an ENI to its instance's life (ModifyNetworkInterfaceAttribute)."""
        with _asking("ModifyNetworkInterfaceAttribute"):
            self._client.modify_network_interface_attribute(
                NetworkInterfaceId=eni_id,
                Attachment={
                    "AttachmentId": attachment_id,
                    "DeleteOnTermination": True,
                },
            )

    def set_groups(self, eni_id: str, groups: Sequence[str]) -> None:
        """Give an ENI other security groups (ModifyNetworkInterfaceAttribute)."""
        with _asking("ModifyNetworkInterfaceAttribute"):
            self._client.modify_network_interface_attribute(
                NetworkInterfaceId=eni_id, Groups=list(groups)
            )

    def detach(self, attachment_id: str) -> None:
        """Begin to detach an ENI (DetachNetworkInterface)."""
        with _quiet_if_gone(), _asking("DetachNetworkInterface"):
            self._client.detach_network_interface(AttachmentId=attachment_id)

    def delete_eni(self, eni_id: str) -> None:
        """Delete an ENI (DeleteNetworkInterface)."""
        with _quiet_if_gone(), _asking("DeleteNetworkInterface"):
            self._client.delete_network_interface(NetworkInterfaceId=eni_id)

    def tag(self, eni_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """Put tags on ENIs (CreateTags)."""
        with _asking("CreateTags"):
            self._client.create_tags(Resources=list(eni_ids), Tags=_tag_list(tags))

    def elastic_ips(self, tags: Mapping[str, str]) -> tuple[ElasticIpFacts, ...]:
        """Describe Elastic IPs by their tags (DescribeAddresses)."""
        filters: list[FilterTypeDef] = [
            {"Name": f"tag:{key}", "Values": [value]} for key, value in tags.items()
        ]
        with _asking("DescribeAddresses"):
            answer = self._client.describe_addresses(Filters=filters)
            return tuple(map(_elastic_ip, answer["Addresses"]))

    def allocate_elastic_ip(self, tags: Mapping[str, str]) -> ElasticIpFacts:
        """Get an Elastic IP (AllocateAddress)."""
        with _asking("AllocateAddress"):
            answer = self._client.allocate_address(
                Domain="vpc",
                TagSpecifications=[
                    {"ResourceType": "elastic-ip", "Tags": _tag_list(tags)}
                ],
            )
            return ElasticIpFacts(
                id=answer["AllocationId"],
                public=IPv4Address(answer["PublicIp"]),
                tags=dict(tags),
            )

    def associate(self, allocation_id: str, eni_id: str, private: IPv4Address) -> str:
        """Give an ENI's address an Elastic IP (AssociateAddress)."""
        with _asking("AssociateAddress"):
            answer = self._client.associate_address(
                AllocationId=allocation_id,
                NetworkInterfaceId=eni_id,
                PrivateIpAddress=str(private),
                AllowReassociation=False,
            )
            return answer["AssociationId"]

    def disassociate(self, association_id: str) -> None:
        """Take an Elastic IP from its private address (DisassociateAddress)."""
        with _quiet_if_gone(), _asking("DisassociateAddress"):
            self._client.disassociate_address(AssociationId=association_id)

    def release(self, allocation_id: str) -> None:
        """Give an Elastic IP back (ReleaseAddress)."""
        with _quiet_if_gone(), _asking("ReleaseAddress"):
            self._client.release_address(AllocationId=allocation_id)

    def _describe(self, filters: Sequence[FilterTypeDef]) -> tuple[EniFacts, ...]:
        with _asking("DescribeNetworkInterfaces"):
            pages = self._client.get_paginator("describe_network_interfaces")
            found: list[Mapping[str, Any]] = [
                eni
                for page in pages.paginate(Filters=filters)
                for eni in page["NetworkInterfaces"]
            ]
            subnets = self._subnets(eni["SubnetId"] for eni in found)
            return tuple(_eni(eni, subnets) for eni in found)

    def _subnets(self, ids: Iterable[str]) -> Mapping[str, SubnetFacts]:
        """Return subnets by id (DescribeSubnets); CIDRs stay as they are."""
        unknown = sorted({*ids} - self._known.keys())
        if unknown:
            with _asking("DescribeSubnets"):
                answer = self._client.describe_subnets(SubnetIds=unknown)
                for one in map(_subnet, answer["Subnets"]):
                    self._known[one.id] = one
        return self._known


# -- EC2's shapes; a field that must be there and is not raises LookupError ------------


def _instance(said: Mapping[str, Any]) -> InstanceFacts:
    places = [nic.get("Attachment", {}) for nic in said.get("NetworkInterfaces", ())]
    return InstanceFacts(
        id=said["InstanceId"],
        type=said["InstanceType"],
        devices=frozenset(
            (place.get("NetworkCardIndex", 0), place["DeviceIndex"])
            for place in places
            if place
        ),
    )


def _limits(said: Mapping[str, Any]) -> Limits:
    info = said["NetworkInfo"]
    cards = {
        card["NetworkCardIndex"]: card["MaximumNetworkInterfaces"]
        for card in info.get("NetworkCards", ())
    }
    # The type's own figure counts all cards; pods' ENIs hang on the default card.
    everywhere = info["MaximumNetworkInterfaces"]
    return Limits(
        max_enis=cards.get(info.get("DefaultNetworkCardIndex", 0), everywhere),
        ipv4_per_eni=info["Ipv4AddressesPerInterface"],
        ipv6_per_eni=info.get("Ipv6AddressesPerInterface", 0),
        # EC2 user guide, "Prefix delegation": instances of the Nitro system.
        prefixes=said.get("Hypervisor") == "nitro" or bool(said.get("BareMetal")),
        cards=cards,
    )


def _tag_list(tags: Mapping[str, str]) -> list[TagTypeDef]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _tags(said: Iterable[Mapping[str, str]]) -> dict[str, str]:
    return {tag["Key"]: tag["Value"] for tag in said}


def _addresses(said: Iterable[Mapping[str, Any]]) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(one["PrivateIpAddress"]) for one in said)


def _prefixes4(said: Iterable[Mapping[str, Any]]) -> tuple[IPv4Network, ...]:
    return tuple(IPv4Network(one["Ipv4Prefix"]) for one in said)


def _subnet(said: Mapping[str, Any]) -> SubnetFacts:
    cidrs6 = [
        IPv6Network(one["Ipv6CidrBlock"])
        for one in said.get("Ipv6CidrBlockAssociationSet", ())
        if one.get("Ipv6CidrBlockState", {}).get("State") == "associated"
    ]
    return SubnetFacts(
        id=said["SubnetId"],
        cidr=IPv4Network(said["CidrBlock"]),
        free=said["AvailableIpAddressCount"],
        cidr6=cidrs6[0] if cidrs6 else None,
        tags=_tags(said.get("Tags", ())),
    )


def _eni(said: Mapping[str, Any], subnets: Mapping[str, SubnetFacts]) -> EniFacts:
    place, subnet = said.get("Attachment", {}), subnets[said["SubnetId"]]
    prefixes6 = said.get("Ipv6Prefixes", ())
    return EniFacts(
        id=said["NetworkInterfaceId"],
        mac=said["MacAddress"].lower(),
        subnet=subnet.id,
        subnet_cidr=subnet.cidr,
        address=IPv4Address(said["PrivateIpAddress"]),
        vpc=said.get("VpcId", ""),
        secondary=_addresses(
            one for one in said.get("PrivateIpAddresses", ()) if not one.get("Primary")
        ),
        prefixes=_prefixes4(said.get("Ipv4Prefixes", ())),
        subnet_cidr6=subnet.cidr6,
        addresses6=tuple(
            IPv6Address(one["Ipv6Address"]) for one in said.get("Ipv6Addresses", ())
        ),
        prefixes6=tuple(IPv6Network(one["Ipv6Prefix"]) for one in prefixes6),
        device=place.get("DeviceIndex"),
        card=place.get("NetworkCardIndex", 0),
        attachment_id=place.get("AttachmentId"),
        on_termination=bool(place.get("DeleteOnTermination")),
        status=said.get("Status", "available"),
        kind=said.get("InterfaceType", "interface"),
        tags=_tags(said.get("TagSet", ())),
        groups=tuple(group["GroupId"] for group in said.get("Groups", ())),
        description=said.get("Description", ""),
    )


def _elastic_ip(said: Mapping[str, Any]) -> ElasticIpFacts:
    private = said.get("PrivateIpAddress")
    return ElasticIpFacts(
        id=said["AllocationId"],
        public=IPv4Address(said["PublicIp"]),
        association=said.get("AssociationId") or None,
        eni=said.get("NetworkInterfaceId") or None,
        private=IPv4Address(private) if private else None,
        tags=_tags(said.get("Tags", ())),
    )
