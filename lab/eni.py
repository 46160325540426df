"""The ENI: what it holds, where it is attached, and how EC2 describes it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from datetime import datetime
from fnmatch import fnmatchcase
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Any, TypeAlias

from eniplug.lab.facts import Attachment, EniFacts
from eniplug.lab.rules import invalid

Ip: TypeAlias = IPv4Address | IPv6Address

_ATTACHMENT_FILTERS = {
    f"attachment.{name}"
    for name in (
        "attachment-id",
        "delete-on-termination",
        "device-index",
        "instance-id",
        "instance-owner-id",
        "network-card-index",
        "status",
    )
}


class Eni:
    """An elastic network interface, of a subnet and perhaps an instance of moto's."""

    instance: Any
    attachment_id: str | None
    attach_time: datetime | None
    attachment_status: Attachment

    def __init__(self, backend: Any, id_: str, subnet: Any, mac: str) -> None:
        self.ec2_backend = backend
        self.id = id_
        self.subnet = subnet
        self.mac = mac
        self.addresses: tuple[IPv4Address, ...] = ()
        self.prefixes: tuple[IPv4Network, ...] = ()
        self.addresses6: tuple[IPv6Address, ...] = ()
        self.prefixes6: tuple[IPv6Network, ...] = ()
        self.groups: list[Any] = []
        self.description = ""
        self.source_dest_check = True
        self.delete_on_termination = False
        self.public_ip: str | None = None
        self.public_ip_auto_assign = False
        self.leave()

    def join(
        self, instance: Any, attachment: str, at: datetime, device: int, card: int
    ) -> None:
        """Begin to be attached at a place that is free."""
        self.instance = instance
        self.attachment_id = attachment
        self.attach_time = at
        self.device_index = device
        self.card = card
        self.attachment_status = "attaching"

    def leave(self) -> None:
        """Be attached to nothing."""
        self.instance = None
        self.attachment_id = None
        self.attach_time = None
        self.device_index = -1
        self.card = 0
        self.attachment_status = ""

    def set(self, values: Mapping[str, Any]) -> None:
        """Set attributes."""
        for name, value in values.items():
            setattr(self, name, value)

    @property
    def place(self) -> tuple[int, int]:
        """Network card and device index, (0, 0) for a primary ENI."""
        return self.card, self.device_index

    @property
    def status(self) -> str:
        """Whether an instance has it."""
        return "available" if self.instance is None else "in-use"

    @property
    def count(self) -> int:
        """How many of its IPv4 places are taken; a prefix is one."""
        return len(self.addresses) + len(self.prefixes)

    @property
    def count6(self) -> int:
        """How many of its IPv6 places are taken."""
        return len(self.addresses6) + len(self.prefixes6)

    def holds(self, source: Ip) -> bool:
        """Tell whether a packet may come from it with this source."""
        if source in self.addresses or source in self.addresses6:
            return True
        prefixes = self.prefixes if source.version == 4 else self.prefixes6  # noqa: PLR2004
        return any(source in prefix for prefix in prefixes)

    def facts(self) -> EniFacts:
        """Return it as a value."""
        return EniFacts(
            id=self.id,
            mac=self.mac,
            subnet=self.subnet.id,
            cidr=IPv4Network(self.subnet.cidr_block),
            cidr6=self.subnet.cidr6,
            addresses=self.addresses,
            prefixes=self.prefixes,
            addresses6=self.addresses6,
            prefixes6=self.prefixes6,
            public=IPv4Address(self.public_ip) if self.public_ip else None,
            groups=tuple((group.id, group.name) for group in self.groups),
            description=self.description,
            source_check=self.source_dest_check,
            delete_on_termination=self.delete_on_termination,
            instance="" if self.instance is None else self.instance.id,
            device=self.device_index,
            card=self.card,
            attachment=self.attachment_status,
        )

    def answer(self) -> dict[str, Any]:
        """Return what DescribeNetworkInterfaces says (API type NetworkInterface).

        InstanceNetworkInterface of DescribeInstances has the same names.
        """
        tags = self.ec2_backend.tags.get(self.id, {})
        return {
            "NetworkInterfaceId": self.id,
            "InterfaceType": "interface",
            "Status": self.status,
            "Description": self.description,
            "OwnerId": self.owner_id,
            "RequesterManaged": False,
            "AvailabilityZone": self.availability_zone,
            "VpcId": self.vpc_id,
            "SubnetId": self.subnet.id,
            "MacAddress": self.mac,
            "SourceDestCheck": self.source_dest_check,
            "PrivateIpAddress": self.private_ip_address,
            "PrivateDnsName": _dns(self.addresses[0]),
            "PrivateIpAddresses": [
                {
                    "PrivateIpAddress": str(address),
                    "PrivateDnsName": _dns(address),
                    "Primary": index == 0,
                    "Association": self.association_of(address),
                }
                for index, address in enumerate(self.addresses)
            ],
            "Ipv4Prefixes": [{"Ipv4Prefix": str(each)} for each in self.prefixes],
            "Ipv6Addresses": [{"Ipv6Address": str(each)} for each in self.addresses6],
            "Ipv6Prefixes": [{"Ipv6Prefix": str(each)} for each in self.prefixes6],
            "Groups": [{"GroupId": g.id, "GroupName": g.name} for g in self.groups],
            "Attachment": self.attachment,
            "Association": self.association,
            "TagSet": [{"Key": key, "Value": value} for key, value in tags.items()],
        }

    @property
    def attachment(self) -> dict[str, Any] | None:
        """Its attachment, in the form of the answer."""
        if self.instance is None:
            return None
        return {
            "AttachmentId": self.attachment_id,
            "AttachTime": self.attach_time,
            "DeleteOnTermination": self.delete_on_termination,
            "DeviceIndex": self.device_index,
            "NetworkCardIndex": self.card,
            "InstanceId": self.instance.id,
            "InstanceOwnerId": self.owner_id,
            "Status": self.attachment_status,
        }

    @property
    def association(self) -> dict[str, Any] | None:
        """Its own public address, in the form of the answer."""
        return self.association_of(self.addresses[0])

    def association_of(self, private: IPv4Address) -> dict[str, Any] | None:
        """The public address of one of its own, in the form of the answer."""
        every = [e for e in self.ec2_backend.addresses if e.eni is self]
        found = [one for one in every if one.private == private]
        public = self.public_ip if private == self.addresses[0] else None
        public = found[0].public_ip if found else public
        if not public:
            return None
        dns = f"ec2-{public.replace('.', '-')}.compute-1.amazonaws.com"
        return {
            "PublicIp": public,
            "PublicDnsName": dns,
            "IpOwnerId": self.owner_id if found else "amazon",
            "AllocationId": found[0].allocation_id if found else None,
            "AssociationId": found[0].association_id if found else None,
        }

    def matches(self, name: str, patterns: Iterable[str]) -> bool:
        """Tell whether a filter of DescribeNetworkInterfaces lets it through."""
        values = self._filter(name)
        return any(
            fnmatchcase(value, pattern) for pattern in patterns for value in values
        )

    def _filter(self, name: str) -> list[str]:
        tags = self.ec2_backend.tags.get(self.id, {})
        if name.startswith("tag:"):
            return [tags[name[4:]]] if name[4:] in tags else []
        look_up: dict[str, Callable[[], Iterable[Any]]] = {
            "network-interface-id": lambda: [self.id],
            "addresses.private-ip-address": lambda: self.addresses,
            "private-ip-address": lambda: self.addresses[:1],
            "ipv6-addresses.ipv6-address": lambda: self.addresses6,
            "subnet-id": lambda: [self.subnet.id],
            "vpc-id": lambda: [self.vpc_id],
            "group-id": lambda: [group.id for group in self.groups],
            "group-name": lambda: [group.name for group in self.groups],
            "availability-zone": lambda: [self.availability_zone],
            "description": lambda: [self.description],
            "mac-address": lambda: [self.mac],
            "status": lambda: [self.status],
            "owner-id": lambda: [self.owner_id],
            "requester-managed": lambda: [False],
            "interface-type": lambda: ["interface"],
            "source-dest-check": lambda: [self.source_dest_check],
            "tag-key": lambda: tags,
        }
        if name in look_up:
            return [_text(value) for value in look_up[name]()]
        if name not in _ATTACHMENT_FILTERS:
            raise invalid(f"The filter '{name}' is invalid")
        attachment = self.attachment or {}
        key = name.removeprefix("attachment.").title().replace("-", "")
        return [_text(attachment[key])] if attachment else []

    # What moto's instances and elastic addresses ask for

    @property
    def owner_id(self) -> str:
        """The account."""
        return str(self.ec2_backend.account_id)

    @property
    def availability_zone(self) -> str:
        """The subnet's zone."""
        return str(self.subnet.availability_zone)

    @property
    def vpc_id(self) -> str:
        """The subnet's VPC."""
        return str(self.subnet.vpc_id)

    @property
    def private_ip_address(self) -> str:
        """The primary address."""
        return str(self.addresses[0])

    def check_auto_public_ip(self) -> None:
        """Take a public address, if instances get one there."""
        if self.public_ip_auto_assign and not self.public_ip:
            self.public_ip = self.ec2_backend.choose_public()

    start = check_auto_public_ip

    def stop(self) -> None:
        """Give the public address back, as an instance does when it is stopped."""
        if self.public_ip_auto_assign:
            self.public_ip = None


def _dns(address: IPv4Address) -> str:
    return f"ip-{str(address).replace('.', '-')}.ec2.internal"


def _text(value: object) -> str:
    """Return a value as filters write it."""
    return str(value).lower() if isinstance(value, bool) else str(value)
