"""Elastic IPs: an account's public addresses, each for any address of an ENI."""

from __future__ import annotations

from ipaddress import IPv4Address
from typing import Any, Final

from moto.ec2.models.elastic_ip_addresses import ElasticAddress
from moto.ec2.utils import random_eip_association_id

from eniplug.lab.attachments import Attachments
from eniplug.lab.rules import Ec2Error, invalid

QUOTA: Final = 5
"""An account's in a region (EC2 User Guide, "Elastic IP address quota")."""


class Elastic(ElasticAddress):
    """moto's Elastic IP, at home at one of an ENI's addresses: ``private``."""

    private: IPv4Address | None = None

    @property
    def private_ip_address(self) -> str | None:
        """The private address, as DescribeAddresses tells it."""
        return None if self.private is None else str(self.private)


class ElasticIps(Attachments):
    """EC2 with Elastic IPs for primary and secondary private addresses."""

    def allocate_address(
        self,
        domain: str,
        address: str | None = None,
        tags: dict[str, str] | None = None,
    ) -> Any:
        """Make an Elastic IP, counted down from the end of the range."""
        every: list[Any] = self.addresses
        if len(every) >= QUOTA:
            message = "The maximum number of addresses has been reached."
            raise Ec2Error("AddressLimitExceeded", message)
        del domain  # there is but "vpc"
        make: Any = Elastic
        one = make(self, "vpc", address or self.choose_public(elastic=True), tags)
        every.append(one)
        return one

    def associate_address(
        self,
        instance: Any = None,
        eni: Any = None,
        address: str | None = None,
        allocation_id: str | None = None,
        reassociate: bool = False,
        *,
        private: str | None = None,
    ) -> Any:
        """Give an ENI's address, its primary one by default, an Elastic IP.

        One that is there already is put aside, and stays allocated.
        """
        found: list[Any] = (
            self.address_by_ip([address])
            if address
            else self.address_by_allocation([str(allocation_id)])
        )
        one, eni = found[0], eni or instance.nics[0]
        home = IPv4Address(private) if private else eni.addresses[0]
        if home not in eni.addresses:
            raise invalid(f"The address '{home}' is not an address of {eni.id}")
        if (one.eni, one.private) == (eni, home):
            return one
        if one.eni is not None and not reassociate:
            message = f"resource {one.allocation_id} is already associated"
            raise Ec2Error("Resource.AlreadyAssociated", message)
        self._part(one)
        for other in self._at(eni):
            if other.private == home:
                self._part(other)
        one.eni, one.instance, one.private = eni, eni.instance, home
        one.association_id = random_eip_association_id()
        if home == eni.addresses[0]:
            eni.public_ip = one.public_ip
        self.publish()
        return one

    def disassociate_address(
        self, address: str | None = None, association_id: str | None = None
    ) -> None:
        """Take an Elastic IP from where it is."""
        found: list[Any] = (
            self.address_by_ip([address])
            if address
            else self.address_by_association([str(association_id)])
        )
        self._part(found[0])
        self.publish()

    def release_address(
        self, address: str | None = None, allocation_id: str | None = None
    ) -> None:
        """Give an Elastic IP back; moto would take it from where it is."""
        found: list[Any] = (
            self.address_by_ip([address])
            if address
            else self.address_by_allocation([str(allocation_id)])
        )
        if found[0].eni is not None:
            message = f"Address {found[0].allocation_id} is in use."
            raise Ec2Error("InvalidIPAddress.InUse", message)
        self.addresses.remove(found[0])
        self.tags.pop(found[0].id, None)

    def unassign(self, eni_id: str, addresses: list[str], prefixes: list[str]) -> None:
        """Take addresses from an ENI, and Elastic IPs from those."""
        super().unassign(eni_id, addresses, prefixes)
        gone = [e for e in self._at(self.enis[eni_id]) if str(e.private) in addresses]
        for one in gone:
            self._part(one)
        if gone:
            self.publish()

    def _at(self, eni: Any) -> list[Any]:
        every: list[Any] = self.addresses
        return [one for one in every if one.eni is eni]

    def _part(self, one: Any) -> None:
        eni = one.eni
        if eni is not None and one.private == eni.addresses[0]:
            eni.public_ip = None
            if eni.instance is not None and eni.instance.state == "running":
                eni.check_auto_public_ip()
        one.eni = one.instance = one.association_id = one.private = None

    def _forget(self, eni: Any) -> None:
        """Remove an ENI, and Elastic IPs from it."""
        for one in self._at(eni):
            self._part(one)
        super()._forget(eni)

    def publish(self) -> None:
        """Tell the listener which public addresses are in use."""
        attached = [eni for eni in self.enis.values() if eni.instance is not None]
        enis = [eni.facts() for eni in attached]
        public = {e.primary: e.public for e in enis if e.public}
        for eni in attached:
            public |= {e.private: IPv4Address(e.public_ip) for e in self._at(eni)}
        self.listener.public_ip(public)
