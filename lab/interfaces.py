"""EC2's calls about ENIs, with the rules that moto does not keep.

moto hands out addresses that are taken, knows no prefixes and no limits, and deletes
what is attached.  So the ENI is not moto's at all; what calls it is replaced here.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from ipaddress import IPv4Network
from random import Random
from typing import Any, Final

from attrs import evolve
from moto.ec2.models import EC2Backend
from moto.ec2.models.instance_types import INSTANCE_TYPES
from moto.ec2.utils import random_eni_id
from moto.moto_api._internal import mock_random

from eniplug.lab.eni import Eni
from eniplug.lab.facts import EniFacts, Listener
from eniplug.lab.faults import Faults
from eniplug.lab.models import Subnet
from eniplug.lab.rules import Ec2Error, Limits, Tokens, full, invalid
from eniplug.lab.space import NOTHING, Order, Space, parse, space4, space6
from eniplug.lab.timers import Timers

ACCOUNT: Final = "123456789012"
REGION: Final = "us-east-1"
PUBLIC: Final = IPv4Network("198.51.100.0/24")
"""Public addresses are of TEST-NET-2 (RFC 5737): instances' from .11 up."""


class Interfaces(EC2Backend):
    """moto's EC2 with ENIs as EC2's; not safe by itself: a caller holds `lock`."""

    enis: dict[str, Any]

    def __init__(self, listener: Listener, faults: Faults, seed: int) -> None:
        self.lock = threading.RLock()
        self.listener = listener
        self.faults = faults
        self.random = Random(seed)
        self.timers = Timers(self.lock)
        self.tokens = Tokens()
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
        listed = private_ip_addresses or []
        own = [x["PrivateIpAddress"] for x in listed if x.get("Primary")][:1]
        primary = private_ip_address or next(iter(own), None)
        every = (each["PrivateIpAddress"] for each in listed)
        others = tuple(each for each in every if each != primary)
        order = evolve(order, addresses=others)
        order6 = evolve(order6, count=order6.count or ipv6_address_count or 0)
        if not order6.size and _is_true(subnet.assign_ipv6_address_on_creation):
            order6 = evolve(order6, count=1)
        eni = Eni(self, random_eni_id(), subnet, self._choose_mac())
        eni.groups = self._groups(group_ids, subnet.vpc_id)
        eni.description = description or ""
        space = self.space(subnet)
        first = Order(addresses=(primary,)) if primary else Order(count=1)
        eni.addresses, _ = self._take(first, space)
        more, eni.prefixes = self._take(order, space)
        eni.addresses += more
        if order6.size:
            eni.addresses6, eni.prefixes6 = self._take(order6, self.space6(subnet))
        # An instance's own ENI goes with it (EC2 User Guide, "Preserve data").
        eni.delete_on_termination = bool(delete_on_termination) or device_index == 0
        self.enis[eni.id] = eni
        self.create_tags([eni.id], tags or {})
        eni.public_ip_auto_assign = _is_true(public_ip_auto_assign)
        eni.check_auto_public_ip()
        return eni

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

    def assign(self, eni_id: str, order: Order, order6: Order) -> tuple[Any, Any]:
        """Give an ENI more addresses; return the new ones and the new prefixes."""
        eni = self.get_network_interface(eni_id)
        if not order.size + order6.size:
            message = "Either addresses, prefixes or the count of one must be given"
            raise Ec2Error("MissingParameter", message)
        if eni.instance is not None:
            limits = eni.instance.limits
            limits.check_more(eni.count + order.size, eni.count6 + order6.size)
        if order6.size:
            new, prefixes = self._take(order6, self.space6(eni.subnet))
            more = {"addresses6": eni.addresses6 + new}
            more |= {"prefixes6": eni.prefixes6 + prefixes}
        else:
            new, prefixes = self._take(order, self.space(eni.subnet))
            more = {"addresses": eni.addresses + new}
            more |= {"prefixes": eni.prefixes + prefixes}
        self._change(eni, self.listener.addresses, more)
        return new, prefixes

    def unassign(self, eni_id: str, addresses: list[str], prefixes: list[str]) -> None:
        """Take addresses and prefixes of either family from an ENI, all or none."""
        eni = self.get_network_interface(eni_id)
        gone = {*map(parse, addresses), *map(parse, prefixes)}
        have = {*eni.addresses[1:], *eni.prefixes, *eni.addresses6, *eni.prefixes6}
        if not gone <= have:
            message = "Some of the specified addresses are not assigned to interface"
            raise invalid(f"{message} {eni_id}")
        kinds = ("addresses", "prefixes", "addresses6", "prefixes6")
        rest = {
            kind: tuple(each for each in getattr(eni, kind) if each not in gone)
            for kind in kinds
        }
        self._change(eni, self.listener.addresses, rest)

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
        change: dict[str, Any] = {}
        if group_ids:
            change["groups"] = self._groups(group_ids, eni.vpc_id)
        if source_check is not None:
            change["source_dest_check"] = source_check
        if description is not None:
            change["description"] = description
        if attachment is not None:
            id_ = attachment.get("AttachmentId")
            if id_ != eni.attachment_id:
                raise no_attachment(id_)
            change["delete_on_termination"] = attachment["DeleteOnTermination"]
        self._change(eni, self.listener.attribute, change)

    def _change(
        self, eni: Eni, tell: Callable[[EniFacts], None], values: dict[str, Any]
    ) -> None:
        """Set attributes of an ENI and tell it, or leave all as it was."""
        before = {name: getattr(eni, name) for name in values}
        eni.set(values)
        try:
            tell(eni.facts())
        except Exception:
            eni.set(before)
            raise

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

    def _forget(self, eni: Eni) -> None:
        """Remove an ENI."""
        del self.enis[eni.id]
        self.tags.pop(eni.id, None)


def _is_true(value: object) -> bool:
    """Tell what moto keeps as a truth value, or as its text."""
    return str(value).lower() == "true"


def no_attachment(id_: str | None) -> Ec2Error:
    """Return the error for an attachment that there is not."""
    message = f"The attachment '{id_}' does not exist."
    return Ec2Error("InvalidAttachmentID.NotFound", message)
