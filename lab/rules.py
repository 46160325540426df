"""EC2's rules as plain values: what is refused, and in which words.

Sources: EC2 API reference ("Error codes"), EC2 User Guide ("IP addresses per network
interface"), and the words that CNIs were answered with (cilium #8830, #9730, #31016;
vpc-cni #1585, #1739).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from ipaddress import IPv4Network
from typing import Any, Final

from attrs import frozen

FULL: Final[Mapping[str, str]] = {
    "InsufficientFreeAddressesInSubnet": "The specified subnet does not have enough "
    "free addresses to satisfy the request.",
    "InsufficientCidrBlocks": "The specified subnet does not have enough free cidr "
    "blocks to satisfy the request.",
    "InvalidParameterValue": "There aren't sufficient free Ipv4 addresses or prefixes",
}
"""The ways in which EC2 says that a subnet is full: code and words."""


LARGEST, SMALLEST = 16, 28
"""Lengths of a VPC's IPv4 ranges."""


class Ec2Error(Exception):
    """What EC2 refuses, as it says it: code, message and HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(f"{code}: {message}")
        self.code = code
        self.message = message
        self.status = status


def full(code: str) -> Ec2Error:
    """Return one of the three errors of a subnet with nothing left."""
    return Ec2Error(code, FULL[code])


def invalid(message: str) -> Ec2Error:
    """Return EC2's error for a value that cannot be (InvalidParameterValue)."""
    return Ec2Error("InvalidParameterValue", message)


def check_range(new: IPv4Network, had: Iterable[IPv4Network]) -> None:
    """Refuse a VPC's further range (VPC User Guide, "VPC CIDR blocks")."""
    if not LARGEST <= new.prefixlen <= SMALLEST:
        message = f"The CIDR '{new}' is invalid."
        raise Ec2Error("InvalidVpc.Range", message)
    for one in had:
        if new.overlaps(one):
            message = f"The CIDR '{new}' conflicts with {one}"
            raise Ec2Error("CidrConflict", message)


@frozen(kw_only=True)
class Limits:
    """What an instance type allows: ENIs by card, and addresses on each of them."""

    instance_type: str
    enis: int
    cards: tuple[int, ...]
    addresses: int
    addresses6: int

    @classmethod
    def of(cls, instance_type: str, info: Mapping[str, Any]) -> Limits:
        """Read ``NetworkInfo`` of DescribeInstanceTypes."""
        cards = {
            card["NetworkCardIndex"]: card["MaximumNetworkInterfaces"]
            for card in info["NetworkCards"]
        }
        return cls(
            instance_type=instance_type,
            enis=info["MaximumNetworkInterfaces"],
            cards=tuple(cards[index] for index in sorted(cards)),
            addresses=info["Ipv4AddressesPerInterface"],
            addresses6=info["Ipv6AddressesPerInterface"],
        )

    def check_place(
        self, instance: str, taken: Iterable[tuple[int, int]], card: int, device: int
    ) -> None:
        """Refuse an attachment at a (card, device) that is taken or one too many."""
        places = set(taken)
        if not 0 <= card < len(self.cards):
            message = f"Network card index {card} is not valid for"
            raise invalid(f"{message} {self.instance_type}")
        if (card, device) in places:
            message = "already has an interface attached at device index"
            raise invalid(f"Instance '{instance}' {message} '{device}'.")
        on_card = sum(1 for place in places if place[0] == card)
        if len(places) >= self.enis or on_card >= self.cards[card]:
            message = f"Interface count {len(places) + 1} exceeds the limit for"
            raise Ec2Error("AttachmentLimitExceeded", f"{message} {self.instance_type}")

    def check_born(self, eni: str, count: int, count6: int) -> None:
        """Refuse to attach an ENI that has more than the type allows."""
        if count > self.addresses or count6 > self.addresses6:
            message = f"on interface-{eni.removeprefix('eni-')} exceeds the limit for"
            most = count if count > self.addresses else count6
            raise Ec2Error(
                "InvalidInterface.IpAddressLimitExceeded",
                f"Address count {most} {message} {self.instance_type}",
            )

    def check_more(self, count: int, count6: int) -> None:
        """Refuse to assign beyond the limit; a prefix counts as one address."""
        if count > self.addresses:
            message = "Number of private addresses will exceed limit."
            raise Ec2Error("PrivateIpAddressLimitExceeded", message)
        if count6 > self.addresses6:
            message = "Number of IPv6 addresses will exceed limit."
            raise Ec2Error("Ipv6AddressLimitExceeded", message)


class Tokens:
    """ClientTokens: the same call again makes nothing new (EC2 API, "Idempotency")."""

    def __init__(self) -> None:
        self._made: dict[str, tuple[str, str]] = {}

    def find(self, token: str | None, parameters: str) -> str | None:
        """Return what this call made before; refuses other parameters."""
        if not token or token not in self._made:
            return None
        made, before = self._made[token]
        if before != parameters:
            message = "Arguments on this idempotent request are inconsistent with "
            message += "arguments used in previous request(s)."
            raise Ec2Error("IdempotentParameterMismatch", message)
        return made

    def keep(self, token: str | None, parameters: str, made: str) -> None:
        """Note what a call made."""
        if token:
            self._made[token] = made, parameters
