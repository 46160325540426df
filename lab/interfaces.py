"""EC2's calls about ENIs, with the rules that moto does not keep.

moto hands out addresses that are taken, knows no prefixes and no limits, and deletes
what is attached.  So the ENI is not moto's at all; what calls it is replaced here.
"""

from __future__ import annotations

import threading
from functools import partial
from ipaddress import IPv4Network
from random import Random
from typing import Any, Final, cast

from attrs import evolve
from moto.core.utils import utcnow
from moto.ec2.models import EC2Backend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.utils import random_eni_attach_id, random_eni_id
from moto.moto_api._internal import mock_random

from eniplug.lab.eni import Eni
from eniplug.lab.facts import Listener
from eniplug.lab.faults import Faults
from eniplug.lab.models import Instance, Subnet
from eniplug.lab.rules import (
    Ec2Error,
    Limits,
    Order,
    Space,
    full,
    invalid,
    parse,
    space4,
    space6,
)
from eniplug.lab.timers import Timers

ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"
PUBLIC: Final = IPv4Network("198.51.100.0/24")
"""Public addresses are of TEST-NET-2 (RFC 5737): instances' from .11 up."""

NOTHING: Final = Order()


class Interfaces(EC2Backend):
    """moto's EC2 with ENIs as EC2's; not safe by itself: a caller holds `lock`."""

    enis: dict[str, Any]

    def __init__(self, listener: Listener, faults: Faults, seed: int) -> None:
        self.lock = threading.RLock()
        self.listener = listener
        self.faults = faults
        self.random = Random(seed)
        self.timers = Timers(self.lock)
        self._tokens: dict[str, tuple[str, str]] = {}
        mock_random.seed(seed)
        super().__init__(REGION, ACCOUNT)

    def limits(self, instance_type: str) -> Limits:
        """Return what a type allows; refuses one that there is not."""
        if instance_type not in INSTANCE_TYPES:
            raise invalid(f"Invalid value '{instance_type}' for InstanceType.")
        info = INSTANCE_TYPES[instance_type]["NetworkInfo"]
        return Limits.of(instance_type, info)

    def space(self, subnet: Subnet) -> Space[Any, Any]:
        """Return a subnet's IPv4 addresses as they are taken now."""
        space = space4(IPv4Network(subnet.cidr_block), self.random)
        for eni in self.enis.values():
            if eni.subnet is subnet:
                space.hold(eni.addresses, eni.prefixes)
        return space

    def space6(self, subnet: Subnet) -> Space[Any, Any]:
        """Return a subnet's IPv6 addresses; raises if it has none."""
        if subnet.cidr6 is None:
            raise invalid(f"The subnet '{subnet.id}' has no IPv6 CIDR block.")
        space = space6(subnet.cidr6, self.random)
        for eni in self.enis.values():
            if eni.subnet is subnet:
                space.hold(eni.addresses6, eni.prefixes6)
        return space

    def check_full(self, order: Order) -> None:
        """Refuse what the faults say that no subnet has."""
        form = self.faults.full_subnet
        if form and (order.count or order.prefix_count):
            usual = "InsufficientCidrBlocks"
            usual = usual if order.prefix_count else "InsufficientFreeAddressesInSubnet"
            raise full(form if isinstance(form, str) else usual)
        if self.faults.fragmented and order.prefix_count:
            raise full("InsufficientCidrBlocks")

    def choose_public(self, *, elastic: bool = False) -> str:
        """Return a public address that nobody has."""
        taken = {eni.public_ip for eni in self.enis.values()}
        taken |= {each.public_ip for each in self.addresses}
        hosts = [str(PUBLIC[n]) for n in range(11, PUBLIC.num_addresses - 1)]
        for host in reversed(hosts) if elastic else hosts:
            if host not in taken:
                return host
        message = "The maximum number of addresses has been reached."
        raise Ec2Error("AddressLimitExceeded", message)

    def create_network_interface(  # noqa: PLR0917
        self,
        subnet: Any,
        private_ip_address: Any = None,
        private_ip_addresses: list[dict[str, Any]] | None = None,
        group_ids: list[str] | None = None,
        description: str | None = None,
        tags: dict[str, str] | None = None,
        delete_on_termination: bool | None = False,
        *,
        order: Order = NOTHING,
        order6: Order = NOTHING,
        device_index: int | None = None,
        public_ip_auto_assign: bool = False,
        ipv6_address_count: int | None = None,
        **_: Any,
    ) -> Any:
        """Make an ENI, whole or not at all; ``order`` is what it has beside its own."""
        if isinstance(subnet, str):
            subnet = self.get_subnet(subnet)
        listed = [each["PrivateIpAddress"] for each in private_ip_addresses or ()]
        primary = private_ip_address or next(
            (
                x["PrivateIpAddress"]
                for x in private_ip_addresses or ()
                if x.get("Primary")
            ),
            None,
        )
        others = tuple(each for each in listed if each != primary)
        order = evolve(order, addresses=others)
        order6 = evolve(order6, count=order6.count or ipv6_address_count or 0)
        if not order6.size and _is_true(subnet.assign_ipv6_address_on_creation):
            order6 = evolve(order6, count=1)
        eni = Eni(self, random_eni_id(), subnet, self._choose_mac())
        eni.groups = self._groups(group_ids, subnet.vpc_id)
        eni.description = description or ""
        own = Order(addresses=(primary,)) if primary else Order(count=1)
        space = self.space(subnet)
        (eni.addresses, _) = self._take(own, space)
        addresses, eni.prefixes = self._take(order, space)
        eni.addresses += addresses
        if order6.size:
            eni.addresses6, eni.prefixes6 = self._take(order6, self.space6(subnet))
        # An instance's own ENI goes with it (EC2 User Guide, "Preserve data").
        eni.delete_on_termination = bool(delete_on_termination) or device_index == 0
        self.enis[eni.id] = eni
        self.create_tags([eni.id], tags or {})
        eni.public_ip_auto_assign = _is_true(public_ip_auto_assign)
        eni.check_auto_public_ip()
        return eni

    def made_by(self, token: str | None, parameters: str) -> Any:
        """Return the ENI that an earlier call with this ClientToken made, or None."""
        eni_id, before = self._tokens.get(token or "", ("", parameters))
        if before != parameters:
            message = "Arguments on this idempotent request are inconsistent with "
            message += "arguments used in previous request(s)."
            raise Ec2Error("IdempotentParameterMismatch", message)
        return self.enis.get(eni_id)

    def remember(self, token: str | None, parameters: str, eni_id: str) -> None:
        """Note which ENI a ClientToken made."""
        if token:
            self._tokens[token] = (eni_id, parameters)

    def get_network_interface(self, eni_id: str) -> Any:
        """Return an ENI; raises InvalidNetworkInterfaceID.NotFound."""
        if eni_id not in self.enis:
            message = f"The networkInterface ID '{eni_id}' does not exist"
            raise Ec2Error("InvalidNetworkInterfaceID.NotFound", message)
        return self.enis[eni_id]

    def describe_network_interfaces(self, filters: Any = None) -> list[Any]:
        """Return the one ENI that moto asks for, before it tags it."""
        return [self.get_network_interface(filters["network-interface-id"])]

    def get_all_network_interfaces(
        self, eni_ids: list[str] | None = None, filters: Any = None
    ) -> list[Any]:
        """Return the ENIs of these ids, or all, that every filter lets through."""
        wanted = [self.get_network_interface(each) for each in eni_ids or self.enis]
        for name, patterns in (filters or {}).items():
            wanted = [eni for eni in wanted if eni.matches(name, patterns)]
        return wanted

    def delete_network_interface(self, eni_id: str) -> None:
        """Delete an ENI that is attached to nothing."""
        eni = self.get_network_interface(eni_id)
        if eni.instance is not None:
            raise invalid(f"Network interface '{eni_id}' is currently in use.")
        self._forget(eni)

    def attach_network_interface(
        self, eni_id: str, instance_id: str, device_index: int, card: int = 0
    ) -> Any:
        """Attach an ENI; the device comes after ``attach_s``, and then the status."""
        eni, instance = (
            self.get_network_interface(eni_id),
            self.get_instance(instance_id),
        )
        if instance.state not in {"running", "stopped"}:
            message = f"Instance '{instance_id}' is not 'running' or 'stopped'."
            raise Ec2Error("IncorrectInstanceState", message)
        if eni.instance is not None:
            message = f"Interface: [{eni_id}] in use."
            raise Ec2Error("InvalidNetworkInterface.InUse", message)
        places = [each.place for each in instance.enis]
        instance.limits.check_place(instance_id, places, card, device_index)
        instance.limits.check_born(eni_id, eni.count, eni.count6)
        if eni.availability_zone != instance.enis[0].availability_zone:
            message = "You may not attach a network interface to an instance if they "
            message += "are not in the same availability zone"
            raise Ec2Error("InvalidParameterCombination", message)
        attachment = random_eni_attach_id()
        eni.join(instance, attachment, utcnow(), device_index, card)
        instance.nics[device_index if card == 0 else (card, device_index)] = eni
        self.timers.later(
            self.faults.attach_s, partial(self._attached, eni, attachment)
        )
        return eni

    def _attached(self, eni: Eni, attachment: str) -> None:
        if eni.attachment_id != attachment or eni.attachment_status != "attaching":
            return
        eni.attachment_status = "attached"
        try:
            self.listener.attached(eni.facts())
        except Exception:
            self._leave(eni)
            raise

    def detach_network_interface(self, attachment_id: str) -> None:
        """Take the device away at once; the ENI is free after ``detach_s``."""
        for eni in self.enis.values():
            if eni.attachment_id == attachment_id:
                break
        else:
            message = f"The attachment '{attachment_id}' does not exist."
            raise Ec2Error("InvalidAttachmentID.NotFound", message)
        if eni.place == (0, 0):
            message = "The network interface at device index 0 and networkCard index 0"
            raise Ec2Error("OperationNotPermitted", f"{message} cannot be detached.")
        if eni.attachment_status == "detaching":
            message = f"Interface {eni.id} is currently detaching"
            raise Ec2Error("IncorrectState", message)
        self.listener.detached(evolve(eni.facts(), attachment="detaching"))
        eni.attachment_status = "detaching"
        self.timers.later(
            self.faults.detach_s, partial(self._detached, eni, attachment_id)
        )

    def _detached(self, eni: Eni, attachment: str) -> None:
        if eni.attachment_id == attachment:
            self._leave(eni)

    def _leave(self, eni: Eni) -> None:
        nics = eni.instance.nics if eni.instance is not None else {}
        for place in [place for place, nic in nics.items() if nic is eni]:
            del nics[place]
        eni.leave()

    def assign(self, eni_id: str, order: Order, order6: Order) -> tuple[Any, ...]:
        """Give an ENI more addresses; return the new ones and the new prefixes."""
        eni = self.get_network_interface(eni_id)
        if not order.size + order6.size:
            message = "Either addresses, prefixes or the count of one must be given"
            raise Ec2Error("MissingParameter", message)
        if eni.instance is not None:
            limits = eni.instance.limits
            limits.check_more(eni.count + order.size, eni.count6 + order6.size)
        if order6.size:
            new = self._take(order6, self.space6(eni.subnet))
            eni.addresses6, eni.prefixes6 = (
                eni.addresses6 + new[0],
                eni.prefixes6 + new[1],
            )
        else:
            new = self._take(order, self.space(eni.subnet))
            eni.addresses, eni.prefixes = eni.addresses + new[0], eni.prefixes + new[1]
        self.listener.addresses(eni.facts())
        return new

    def unassign(self, eni_id: str, addresses: list[str], prefixes: list[str]) -> None:
        """Take addresses and prefixes of either family from an ENI, all or none."""
        eni = self.get_network_interface(eni_id)
        gone = {*map(parse, addresses), *map(parse, prefixes)}
        have = {*eni.addresses[1:], *eni.prefixes, *eni.addresses6, *eni.prefixes6}
        if not gone <= have:
            message = "Some of the specified addresses are not assigned to interface"
            raise invalid(f"{message} {eni_id}")
        eni.addresses = tuple(each for each in eni.addresses if each not in gone)
        eni.prefixes = tuple(each for each in eni.prefixes if each not in gone)
        eni.addresses6 = tuple(each for each in eni.addresses6 if each not in gone)
        eni.prefixes6 = tuple(each for each in eni.prefixes6 if each not in gone)
        self.listener.addresses(eni.facts())

    def modify(
        self,
        eni_id: str,
        *,
        group_ids: list[str],
        source_check: bool | None,
        description: str | None,
        attachment: dict[str, Any] | None,
    ) -> None:
        """Change an attribute of an ENI (ModifyNetworkInterfaceAttribute)."""
        eni = self.get_network_interface(eni_id)
        if (
            attachment is not None
            and attachment.get("AttachmentId") != eni.attachment_id
        ):
            message = (
                f"The attachment '{attachment.get('AttachmentId')}' does not exist."
            )
            raise Ec2Error("InvalidAttachmentID.NotFound", message)
        if group_ids:
            eni.groups = self._groups(group_ids, eni.vpc_id)
        if source_check is not None:
            eni.source_dest_check = source_check
        if description is not None:
            eni.description = description
        if attachment is not None:
            eni.delete_on_termination = bool(attachment["DeleteOnTermination"])
        self.listener.attribute(eni.facts())

    def _take(self, order: Order, space: Space[Any, Any]) -> tuple[Any, Any]:
        order.check()
        if space.version == 4:  # noqa: PLR2004
            self.check_full(order)
        return order.take(space)

    def _choose_mac(self) -> str:
        taken = {eni.mac for eni in self.enis.values()}
        while True:
            mac = bytes((2, *self.random.randbytes(5))).hex(":")
            if mac not in taken:
                return mac

    def _groups(self, ids: list[str] | None, vpc: str) -> list[Any]:
        if not ids:
            return [self.get_default_security_group(vpc)]
        groups: list[Any] = []
        for id_ in dict.fromkeys(ids):
            group: Any = self.get_security_group_from_id(id_)
            if group is None:
                message = f"The security group '{id_}' does not exist"
                raise Ec2Error("InvalidGroup.NotFound", message)
            groups.append(group)
        return groups

    def get_instance(self, instance_id: str) -> Instance:
        """Return an instance; moto makes none but ours."""
        return cast(Instance, super().get_instance(instance_id))

    def _forget(self, eni: Eni) -> None:
        """Remove an ENI, and an elastic address from it."""
        addresses: list[Any] = self.addresses
        for address in addresses:
            if address.eni is eni:
                address.eni = address.instance = address.association_id = None
        del self.enis[eni.id]
        self.tags.pop(eni.id, None)


def _is_true(value: object) -> bool:
    """Tell what moto keeps as a truth value, or as its text."""
    return str(value).lower() == "true"
