"""moto's instance and subnet, as far as they are not EC2's.

moto makes them under names of its modules: `install` puts ours in their place.
"""

from __future__ import annotations

from ipaddress import IPv6Network
from typing import Any

from moto.core.utils import utcnow
from moto.ec2.models import instances, subnets
from moto.ec2.utils import random_eni_attach_id

from eniplug.lab.eni import Eni
from eniplug.lab.rules import Limits


class Subnet(subnets.Subnet):
    """moto's subnet, counting what our ENIs hold."""

    @property
    def available_ip_address_count(self) -> int:
        """AvailableIpAddressCount: what is left, prefixes counted."""
        return int(self.ec2_backend.space(self).free)

    @property
    def ipv6_cidr_block_association_set(self) -> list[dict[str, Any]]:
        """Its IPv6 ranges, in the form of the answer."""
        return [
            {
                "AssociationId": each["associationId"],
                "Ipv6CidrBlock": each["ipv6CidrBlock"],
                "Ipv6CidrBlockState": each["ipv6CidrBlockState"],
            }
            for each in self.ipv6_cidr_block_associations.values()
        ]

    @property
    def cidr6(self) -> IPv6Network | None:
        """Its IPv6 range, if it has one."""
        for each in self.ipv6_cidr_block_associations.values():
            if each["ipv6CidrBlockState"]["State"] == "associated":
                return IPv6Network(each["ipv6CidrBlock"])
        return None

    def get_available_subnet_ip(self, instance: instances.Instance) -> str:
        """Choose an address for an instance; its ENI claims it next."""
        return str(self.ec2_backend.space(self).draw(1)[0])

    def request_ip(self, ip: str, instance: instances.Instance) -> None:
        """Leave it to the ENI that claims it next."""


class Instance(instances.Instance):
    """moto's instance, at a card and device index for each ENI."""

    nics: dict[Any, Any]

    @property
    def limits(self) -> Limits:
        """What its type allows."""
        limits: Limits = self.ec2_backend.limits(self.instance_type)
        return limits

    @property
    def enis(self) -> list[Eni]:
        """Its ENIs, by card and device index."""
        return sorted(self.nics.values(), key=lambda eni: eni.place)

    @property
    def network_interfaces(self) -> Any:
        """NetworkInterfaces, in the form of the answer."""
        return [eni.answer() for eni in self.enis]

    @property
    def private_ip(self) -> str | None:
        """Its address, which goes when it is terminated."""
        return self.nics[0].private_ip_address if 0 in self.nics else None

    @property
    def private_ip_address(self) -> str | None:
        """The same; moto has both."""
        return self.private_ip

    @property
    def private_dns_name(self) -> str:
        """Its name, from its address."""
        return super().private_dns_name if 0 in self.nics else ""

    @property
    def public_ip(self) -> str | None:
        """The primary ENI's public address."""
        return self.nics[0].public_ip if 0 in self.nics else None

    @property
    def public_ip_address(self) -> str | None:
        """The same; moto has both."""
        return self.public_ip

    def attach_eni(self, eni: Any, device_index: int) -> str:
        """Attach an ENI that it is launched with."""
        eni.join(self, random_eni_attach_id(), utcnow(), device_index, 0)
        eni.attachment_status = "attached"
        self.nics[device_index] = eni
        return str(eni.attachment_id)


def install() -> None:
    """Have moto make our instances and subnets; again is fine."""
    instances.Instance = Instance  # type: ignore[misc]
    subnets.Subnet = Subnet  # type: ignore[misc]
