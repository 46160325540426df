"""EC2 as this program needs it: the port `Cloud`, and its adapter `Ec2` on boto3.

Nothing else imports boto3, and nothing of botocore leaves this file: what EC2 refuses
becomes an error of ours.  Each method is one API call (or the pages of one), tried
once: repeating is the caller's business, who knows who waits.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable, Mapping, Sequence
from contextlib import contextmanager
from ipaddress import IPv4Address, IPv4Network
from typing import TYPE_CHECKING, Any, Final, Protocol

from attrs import field, frozen
from botocore.exceptions import BotoCoreError, ClientError

from eniplug.hooks.errors import (
    CloudError,
    DeniedError,
    EniLimitError,
    EniplugError,
    RetryError,
    SubnetFullError,
    ThrottledError,
)
from eniplug.hooks.objects import Ip

if TYPE_CHECKING:
    from mypy_boto3_ec2 import EC2Client
    from mypy_boto3_ec2.type_defs import FilterTypeDef, TagTypeDef

INSTANCE_TAG: Final = "node.k8s.amazonaws.com/instance_id"
"""The tag by which an ENI tells the instance that it was made for."""

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
FULL: Final = frozenset({"InsufficientCidrBlocks", "InsufficientFreeAddressesInSubnet"})
LIMITED: Final = frozenset(
    {
        "AttachmentLimitExceeded",
        "InvalidInterface.IpAddressLimitExceeded",
        "NetworkInterfaceLimitExceeded",
        "PrivateIpAddressLimitExceeded",
    }
)
IN_USE: Final = frozenset({"InvalidNetworkInterface.InUse"})
GONE: Final = frozenset(
    {"InvalidAttachmentID.NotFound", "InvalidNetworkInterfaceID.NotFound"}
)


@frozen(kw_only=True)
class Limits:
    """What an instance type allows; EC2 says it, we know no table of types."""

    max_enis: int
    """ENIs on the default network card."""

    ipv4_per_eni: int
    """IPv4 addresses of one ENI, its own among them."""

    @property
    def eni_capacity(self) -> int:
        """Pods that one ENI can serve with secondary addresses."""
        return self.ipv4_per_eni - 1

    @property
    def max_pods(self) -> int:
        """AWS's figure: every secondary address, and two pods on the host network."""
        return self.max_enis * self.eni_capacity + 2


@frozen(kw_only=True)
class InstanceFacts:
    """One instance; ``devices`` are the (card, device) pairs that are taken."""

    id: str
    type: str
    devices: frozenset[tuple[int, int]]


@frozen(kw_only=True, hash=False)
class EniFacts:
    """One ENI as EC2 describes it.

    ``device`` and ``attachment_id`` are None while it is attached to nothing.
    ``kind`` is EC2's interface type: interface, efa, efa-only, trunk …
    """

    id: str
    mac: str
    subnet: str
    subnet_cidr: IPv4Network
    address: IPv4Address
    secondary: tuple[IPv4Address, ...] = ()
    device: int | None = None
    card: int = 0
    attachment_id: str | None = None
    status: str = "available"
    kind: str = "interface"
    tags: Mapping[str, str] = field(factory=dict)
    groups: tuple[str, ...] = ()
    description: str = ""

    @property
    def primary(self) -> bool:
        """Whether this is the interface the instance was born with."""
        return self.device == 0 and self.card == 0


class Cloud(Protocol):
    """What this node asks of EC2.

    Each method raises ThrottledError, DeniedError, SubnetFullError (no address left),
    EniLimitError (no ENI or address more allowed), RetryError (in use just now) or
    CloudError (anything else).
    """

    def describe_instance(self, instance_id: str) -> InstanceFacts:
        """Describe an instance."""
        ...

    def limits(self, instance_type: str) -> Limits:
        """Return the limits of an instance type."""
        ...

    def enis(self, instance_id: str) -> tuple[EniFacts, ...]:
        """Describe the ENIs that are attached to an instance, by card and device."""
        ...

    def leaked(self, instance_id: str) -> tuple[EniFacts, ...]:
        """Describe the ENIs that were made for an instance and hang on nothing."""
        ...

    def assign(self, eni_id: str, count: int) -> tuple[IPv4Address, ...]:
        """Give an ENI ``count`` more addresses, and return just these."""
        ...

    def unassign(self, eni_id: str, addresses: Sequence[Ip]) -> None:
        """Take secondary addresses from an ENI."""
        ...

    def create_eni(
        self,
        subnet: str,
        groups: Sequence[str],
        count: int,
        *,
        token: str,
        description: str,
        tags: Mapping[str, str],
    ) -> EniFacts:
        """Make an ENI with ``count`` secondary addresses; one per ``token``."""
        ...

    def attach(self, eni_id: str, instance_id: str, device: int, card: int) -> str:
        """Attach an ENI; returns the attachment's id before the link is there."""
        ...

    def delete_on_termination(self, eni_id: str, attachment_id: str) -> None:
        """Let an attached ENI go when its instance goes."""
        ...

    def detach(self, attachment_id: str) -> None:
        """Begin to detach an ENI; quiet if it is not attached."""
        ...

    def delete_eni(self, eni_id: str) -> None:
        """Delete an ENI; quiet if it is gone, RetryError while it is attached."""
        ...


def in_our_words(action: str, code: str, message: str) -> EniplugError:
    """Translate EC2's error code (EC2 API reference, "Error codes")."""
    words = f"EC2 refuses {action}: {code}: {message}"
    if code in THROTTLING:
        return ThrottledError(words)
    if code in DENIED:
        return DeniedError(f"not allowed: ec2:{action} ({code})")
    # At capacity EC2 has been seen to answer with this general code.
    full = code == "InvalidParameterValue" and "sufficient free" in message
    if code in FULL or full:
        return SubnetFullError(words)
    if code in LIMITED:
        return EniLimitError(words)
    used = code == "InvalidParameterValue" and "currently in use" in message
    if code in IN_USE or used:
        return RetryError(words)
    return CloudError(words)


@contextmanager
def _asking(action: str) -> Generator[None]:
    try:
        yield
    except ClientError as error:
        said = error.response.get("Error", {})
        code, message = said.get("Code", ""), said.get("Message", "")
        raise in_our_words(action, code, message) from error
    except BotoCoreError as error:
        msg = f"no answer from EC2 to {action}: {error}"
        raise CloudError(msg) from error
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


class Ec2:
    """`Cloud` on boto3; the endpoint comes from boto3's own variables.

    ``region`` is a region's name.  Raises CloudError when there is no such thing.
    """

    def __init__(self, region: str) -> None:
        # Half a second that only an agent has to spend.
        import boto3  # noqa: PLC0415
        from botocore.config import Config  # noqa: PLC0415

        config = Config(
            connect_timeout=CONNECT_TIMEOUT,
            read_timeout=READ_TIMEOUT,
            retries={"total_max_attempts": 1},
            user_agent_extra="eniplug",
        )
        with _asking("a client"):
            self._client: EC2Client = boto3.client(
                "ec2", region_name=region, config=config
            )
        self._cidrs: dict[str, IPv4Network] = {}

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

    def leaked(self, instance_id: str) -> tuple[EniFacts, ...]:
        """Describe ENIs made for an instance and attached to none."""
        return self._describe(
            [
                {"Name": f"tag:{INSTANCE_TAG}", "Values": [instance_id]},
                {"Name": "status", "Values": ["available"]},
            ]
        )

    def assign(self, eni_id: str, count: int) -> tuple[IPv4Address, ...]:
        """Give an ENI more addresses (AssignPrivateIpAddresses)."""
        with _asking("AssignPrivateIpAddresses"):
            answer = self._client.assign_private_ip_addresses(
                NetworkInterfaceId=eni_id, SecondaryPrivateIpAddressCount=count
            )
            return _addresses(answer.get("AssignedPrivateIpAddresses", ()))

    def unassign(self, eni_id: str, addresses: Sequence[Ip]) -> None:
        """Take secondary addresses from an ENI (UnassignPrivateIpAddresses)."""
        with _asking("UnassignPrivateIpAddresses"):
            self._client.unassign_private_ip_addresses(
                NetworkInterfaceId=eni_id,
                PrivateIpAddresses=[str(a) for a in addresses],
            )

    def create_eni(
        self,
        subnet: str,
        groups: Sequence[str],
        count: int,
        *,
        token: str,
        description: str,
        tags: Mapping[str, str],
    ) -> EniFacts:
        """Make an ENI (CreateNetworkInterface)."""
        pairs: list[TagTypeDef] = [{"Key": k, "Value": v} for k, v in tags.items()]
        with _asking("CreateNetworkInterface"):
            answer = self._client.create_network_interface(
                SubnetId=subnet,
                Groups=list(groups),
                SecondaryPrivateIpAddressCount=count,
                ClientToken=token,
                Description=description,
                TagSpecifications=[
                    {"ResourceType": "network-interface", "Tags": pairs}
                ],
            )
            return _eni(answer["NetworkInterface"], self._subnet_cidrs([subnet]))

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

    def detach(self, attachment_id: str) -> None:
        """Begin to detach an ENI (DetachNetworkInterface)."""
        with _quiet_if_gone(), _asking("DetachNetworkInterface"):
            self._client.detach_network_interface(AttachmentId=attachment_id)

    def delete_eni(self, eni_id: str) -> None:
        """Delete an ENI (DeleteNetworkInterface)."""
        with _quiet_if_gone(), _asking("DeleteNetworkInterface"):
            self._client.delete_network_interface(NetworkInterfaceId=eni_id)

    def _describe(self, filters: Sequence[FilterTypeDef]) -> tuple[EniFacts, ...]:
        with _asking("DescribeNetworkInterfaces"):
            pages = self._client.get_paginator("describe_network_interfaces")
            found: list[Mapping[str, Any]] = [
                eni
                for page in pages.paginate(Filters=filters)
                for eni in page["NetworkInterfaces"]
            ]
            cidrs = self._subnet_cidrs(eni["SubnetId"] for eni in found)
            return tuple(_eni(eni, cidrs) for eni in found)

    def _subnet_cidrs(self, subnets: Iterable[str]) -> Mapping[str, IPv4Network]:
        """Return subnets' CIDRs (DescribeSubnets); a subnet never changes its own."""
        unknown = sorted({*subnets} - self._cidrs.keys())
        if unknown:
            with _asking("DescribeSubnets"):
                answer = self._client.describe_subnets(SubnetIds=unknown)
                for one in answer["Subnets"]:
                    self._cidrs |= _subnet(one)
        return self._cidrs


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
    )


def _addresses(said: Iterable[Mapping[str, Any]]) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(one["PrivateIpAddress"]) for one in said)


def _subnet(said: Mapping[str, Any]) -> dict[str, IPv4Network]:
    return {said["SubnetId"]: IPv4Network(said["CidrBlock"])}


def _eni(said: Mapping[str, Any], cidrs: Mapping[str, IPv4Network]) -> EniFacts:
    place = said.get("Attachment", {})
    return EniFacts(
        id=said["NetworkInterfaceId"],
        mac=said["MacAddress"].lower(),
        subnet=said["SubnetId"],
        subnet_cidr=cidrs[said["SubnetId"]],
        address=IPv4Address(said["PrivateIpAddress"]),
        secondary=_addresses(
            one for one in said.get("PrivateIpAddresses", ()) if not one.get("Primary")
        ),
        device=place.get("DeviceIndex"),
        card=place.get("NetworkCardIndex", 0),
        attachment_id=place.get("AttachmentId"),
        status=said.get("Status", "available"),
        kind=said.get("InterfaceType", "interface"),
        tags={tag["Key"]: tag["Value"] for tag in said.get("TagSet", ())},
        groups=tuple(group["GroupId"] for group in said.get("Groups", ())),
        description=said.get("Description", ""),
    )
