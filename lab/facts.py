"""What the lab's EC2 tells of its nodes and ENIs: frozen values, and who is told.

No moto here: the fabric and the command line read these without paying for it.
"""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
)
from typing import Any, Literal, Protocol, TypeAlias

from attrs import asdict, frozen

Network: TypeAlias = IPv4Network | IPv6Network
Attachment: TypeAlias = Literal["", "attaching", "attached", "detaching"]


@frozen(kw_only=True)
class EniFacts:
    """An elastic network interface at one moment.

    ``addresses`` begin with the primary one.  ``instance`` is empty, and ``device`` is
    -1, while it is attached to none.  ``groups`` are pairs of id and name.
    ``public`` belongs to the primary address.
    """

    id: str
    mac: str
    subnet: str
    cidr: IPv4Network
    cidr6: IPv6Network | None
    addresses: tuple[IPv4Address, ...]
    prefixes: tuple[IPv4Network, ...] = ()
    addresses6: tuple[IPv6Address, ...] = ()
    prefixes6: tuple[IPv6Network, ...] = ()
    public: IPv4Address | None = None
    groups: tuple[tuple[str, str], ...] = ()
    description: str = ""
    source_check: bool = True
    delete_on_termination: bool = False
    instance: str = ""
    device: int = -1
    card: int = 0
    attachment: Attachment = ""

    @property
    def primary(self) -> IPv4Address:
        """Its own address, which it keeps for life."""
        return self.addresses[0]

    @property
    def networks(self) -> frozenset[Network]:
        """All that it holds, single addresses in full length."""
        single = map(IPv4Network, self.addresses)
        single6 = map(IPv6Network, self.addresses6)
        return frozenset((*single, *self.prefixes, *single6, *self.prefixes6))


@frozen(kw_only=True)
class NodeFacts:
    """An instance at one moment, its ENIs by network card and device index."""

    instance_id: str
    instance_type: str
    image: str
    account: str
    region: str
    zone: str
    zone_id: str
    vpc: str
    vpc_cidrs: tuple[IPv4Network, ...]
    vpc_cidrs6: tuple[IPv6Network, ...]
    enis: tuple[EniFacts, ...]
    imds: bool = True
    token_required: bool = True
    hop_limit: int = 1

    @property
    def eni(self) -> EniFacts:
        """The primary ENI, which it was launched with."""
        return self.enis[0]

    @property
    def subnet(self) -> str:
        """The primary ENI's subnet."""
        return self.eni.subnet

    @property
    def address(self) -> IPv4Address:
        """The primary ENI's primary address."""
        return self.eni.primary

    @property
    def public_ip(self) -> IPv4Address | None:
        """The address that the internet knows it by."""
        return self.eni.public

    @property
    def mac(self) -> str:
        """The primary ENI's MAC address."""
        return self.eni.mac


class Listener(Protocol):
    """Who makes EC2's word come true: the fabric.

    Called in the thread of the API call, one call at a time, before the call is
    answered.  What a method raises fails the API call (InternalError).
    """

    def vpc(self, cidrs: tuple[Network, ...]) -> None:
        """Follow the VPC's ranges, all that it has now."""
        ...

    def instance(self, node: NodeFacts) -> None:
        """Take a new instance; its primary ENI is attached."""
        ...

    def instance_gone(self, node: NodeFacts) -> None:
        """Give up an instance with the ENIs that it had last, quietly if it is gone.

        It was terminated, or `instance` failed for it.
        """
        ...

    def attached(self, eni: EniFacts) -> None:
        """Let the device appear; the attachment's status follows."""
        ...

    def detached(self, eni: EniFacts) -> None:
        """Take the device away; one that never appeared is told of, too."""
        ...

    def addresses(self, eni: EniFacts) -> None:
        """Follow its addresses and prefixes; it may be attached to no instance."""
        ...

    def attribute(self, eni: EniFacts) -> None:
        """Follow its source check, groups or description."""
        ...

    def public_ip(self, public: Mapping[IPv4Address, IPv4Address]) -> None:
        """Take all public addresses that are in use, by private address."""
        ...


class Nobody:
    """A listener that does nothing: EC2 and IMDS alone."""

    def vpc(self, cidrs: tuple[Network, ...]) -> None:
        """Do nothing."""

    def instance(self, node: NodeFacts) -> None:
        """Do nothing."""

    def instance_gone(self, node: NodeFacts) -> None:
        """Do nothing."""

    def attached(self, eni: EniFacts) -> None:
        """Do nothing."""

    def detached(self, eni: EniFacts) -> None:
        """Do nothing."""

    def addresses(self, eni: EniFacts) -> None:
        """Do nothing."""

    def attribute(self, eni: EniFacts) -> None:
        """Do nothing."""

    def public_ip(self, public: Mapping[IPv4Address, IPv4Address]) -> None:
        """Do nothing."""


def as_json(facts: EniFacts | NodeFacts) -> dict[str, Any]:
    """Return facts as JSON takes them, addresses and networks as text."""

    def plain(_: object, __: object, value: Any) -> Any:
        ip = (IPv4Address, IPv6Address, IPv4Network, IPv6Network)
        if isinstance(value, tuple):
            return [str(item) if isinstance(item, ip) else item for item in value]
        return str(value) if isinstance(value, ip) else value

    return asdict(facts, value_serializer=plain)
