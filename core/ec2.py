"""EC2 as this program needs it: the port `Cloud` and its values.

Each method is one API call (or the pages of one), tried once: repeating is the caller's
business, who knows who waits.  What EC2 refuses is an error of ours.  The adapter is
`eniplug.core.ec2_boto`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Protocol

from attrs import field, frozen

from eniplug.hooks.capacity import Block, CreateEni
from eniplug.hooks.objects import Family, Ip, Network

CLUSTER_TAG: Final = "cluster.k8s.amazonaws.com/name"
"""The tag by which an ENI tells the cluster that its node belongs to."""

INSTANCE_TAG: Final = "node.k8s.amazonaws.com/instance_id"
"""The tag by which an ENI tells the instance that it was made for."""


@frozen(kw_only=True, hash=False)
class Limits:
    """What an instance type allows; EC2 says it, we know no table of types."""

    max_enis: int
    """ENIs on the default network card."""

    ipv4_per_eni: int
    """IPv4 addresses of one ENI, its own among them; a prefix counts as one."""

    ipv6_per_eni: int = 0
    """IPv6 addresses of one ENI; a prefix counts as one."""

    prefixes: bool = True
    """Whether ENIs of the type take prefixes: it is of the Nitro system."""

    cards: Mapping[int, int] = field(factory=dict)
    """ENIs on each network card, by its index; empty: there is only the default one."""

    def max_enis_of(self, card: int) -> int:
        """ENIs on one network card."""
        return self.cards.get(card, 0 if card else self.max_enis)

    @property
    def eni_slots(self) -> int:
        """Secondary addresses or prefixes that one ENI can have."""
        return self.ipv4_per_eni - 1

    @property
    def max_pods(self) -> int:
        """AWS's figure: every secondary address, and two pods on the host network."""
        return self.max_enis * self.eni_slots + 2

    @property
    def max_prefix_pods(self) -> int:
        """The same for prefixes; EKS advises no more than 110 on an ordinary node."""
        return min(self.max_enis * self.eni_slots * 16 + 2, 110)


@frozen(kw_only=True)
class InstanceFacts:
    """One instance; ``devices`` are the (card, device) pairs that are taken."""

    id: str
    type: str
    devices: frozenset[tuple[int, int]]


@frozen(kw_only=True, hash=False)
class SubnetFacts:
    """One subnet; ``free`` is how many IPv4 addresses it has left, in all."""

    id: str
    cidr: IPv4Network
    free: int
    cidr6: IPv6Network | None = None
    tags: Mapping[str, str] = field(factory=dict)


@frozen(kw_only=True, hash=False)
class EniFacts:
    """One ENI as EC2 describes it.

    ``address`` is its own; ``secondary``, ``prefixes`` and ``prefixes6`` are what pods
    may have; ``addresses6`` are its own of IPv6.  ``device`` and ``attachment_id`` are
    None while it is attached to nothing; ``on_termination`` tells whether it goes when
    its instance goes.  ``kind`` is EC2's interface type: interface, efa, efa-only,
    trunk …
    """

    id: str
    mac: str
    subnet: str
    subnet_cidr: IPv4Network
    address: IPv4Address
    vpc: str = ""
    secondary: tuple[IPv4Address, ...] = ()
    prefixes: tuple[IPv4Network, ...] = ()
    subnet_cidr6: IPv6Network | None = None
    addresses6: tuple[IPv6Address, ...] = ()
    prefixes6: tuple[IPv6Network, ...] = ()
    device: int | None = None
    card: int = 0
    attachment_id: str | None = None
    on_termination: bool = False
    status: str = "available"
    kind: str = "interface"
    tags: Mapping[str, str] = field(factory=dict)
    groups: tuple[str, ...] = ()
    description: str = ""

    @property
    def primary(self) -> bool:
        """Whether this is the interface the instance was born with."""
        return self.device == 0 and self.card == 0

    @property
    def blocks(self) -> tuple[Block, ...]:
        """All that it has for pods."""
        return (*self.secondary, *self.prefixes, *self.prefixes6)

    def holds(self, address: Ip) -> bool:
        """Whether an address is one that it has for pods."""
        prefixes: tuple[Network, ...] = (*self.prefixes, *self.prefixes6)
        return address in self.secondary or any(address in one for one in prefixes)


@frozen(kw_only=True, hash=False)
class ElasticIpFacts:
    """One Elastic IP as EC2 describes it.

    ``id`` is that of its allocation.  ``association``, ``eni`` and ``private`` are None
    while it belongs to no private address.
    """

    id: str
    public: IPv4Address
    association: str | None = None
    eni: str | None = None
    private: IPv4Address | None = None
    tags: Mapping[str, str] = field(factory=dict)


class Cloud(Protocol):
    """What this node asks of EC2.

    Each method raises ThrottledError, DeniedError, SubnetFullError (no address left),
    NoFreePrefixError (no prefix left), EniLimitError (no ENI, address or prefix more
    allowed), ElasticIpLimitError, RetryError (in use just now), CloudAwayError,
    CloudSlowError or CloudError (anything else).
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

    def describe_subnets(self, vpc: str, zone: str) -> tuple[SubnetFacts, ...]:
        """Describe a VPC's subnets in one zone, those with most free addresses first.

        ``zone`` is a name, such as us-east-1a.
        """
        ...

    def leaked(self, vpc: str, cluster: str = "") -> tuple[EniFacts, ...]:
        """Describe the ENIs of a VPC that CNIs made and that hang on nothing.

        They have the tag `INSTANCE_TAG`, of any value; with ``cluster`` also
        `CLUSTER_TAG` of that value.
        """
        ...

    def assign(self, eni_id: str, count: int) -> tuple[IPv4Address, ...]:
        """Give an ENI ``count`` more addresses, and return just these."""
        ...

    def assign_prefixes(
        self, eni_id: str, count: int, family: Family
    ) -> tuple[Network, ...]:
        """Give an ENI ``count`` more prefixes, and return just these."""
        ...

    def unassign(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Take blocks from an ENI: addresses or prefixes, all of one family."""
        ...

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
        """Make an ENI with what is wanted; one per ``token``."""
        ...

    def attach(self, eni_id: str, instance_id: str, device: int, card: int) -> str:
        """Attach an ENI; returns the attachment's id before the link is there."""
        ...

    def delete_on_termination(self, eni_id: str, attachment_id: str) -> None:
        """Let an attached ENI go when its instance goes."""
        ...

    def set_groups(self, eni_id: str, groups: Sequence[str]) -> None:
        """Give an ENI just these security groups."""
        ...

    def detach(self, attachment_id: str) -> None:
        """Begin to detach an ENI; quiet if it is not attached."""
        ...

    def delete_eni(self, eni_id: str) -> None:
        """Delete an ENI; quiet if it is gone, RetryError while it is attached."""
        ...

    def tag(self, eni_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """Put tags on ENIs."""
        ...

    def elastic_ips(self, tags: Mapping[str, str]) -> tuple[ElasticIpFacts, ...]:
        """Describe the Elastic IPs that bear all these tags."""
        ...

    def allocate_elastic_ip(self, tags: Mapping[str, str]) -> ElasticIpFacts:
        """Get an Elastic IP, which bears these tags from its birth."""
        ...

    def associate(self, allocation_id: str, eni_id: str, private: IPv4Address) -> str:
        """Give an ENI's address an Elastic IP that is free; returns the association.

        A second time for the same address changes nothing.
        """
        ...

    def disassociate(self, association_id: str) -> None:
        """Take an Elastic IP from its private address; quiet if it has none."""
        ...

    def release(self, allocation_id: str) -> None:
        """Give an Elastic IP back; quiet if it is gone, RetryError while it is used."""
        ...
