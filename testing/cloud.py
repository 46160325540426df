"""EC2 and its metadata service in memory, with EC2's limits and errors.

`MemoryCloud` is a twin of `eniplug.core.ec2.Cloud` and not a mock: ENIs, addresses,
limits and refusals hang together as they do on EC2, and tests/contract/test_cloud.py
holds it and the adapter to one suite.  `MemoryMetadata` is its
`eniplug.core.imds.Metadata`.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from itertools import count as counting
from typing import Any

from attrs import define, evolve, field

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
    CloudError,
    ElasticIpLimitError,
    EniLimitError,
    EniplugError,
    NoFreePrefixError,
    RetryError,
    SubnetFullError,
)
from eniplug.hooks.objects import Family, Network
from eniplug.testing.subnet import MemorySubnet

VPC = "vpc-1"
ZONE = "us-east-1a"
PUBLIC = IPv4Network("198.51.100.0/24")
"""Where Elastic IPs come from (RFC 5737)."""


@define(eq=False, kw_only=True)
class MemoryCloud:
    """One instance in a VPC of subnets, all in its zone.

    ``subnets`` are given by CIDR, or as they are (`MemorySubnet`).  ``calls`` lists
    what was asked, in order.  An error that `fail` sets is raised by the next call of
    that name, which then changes nothing; `lose` lets the call take effect first, as
    when only the answer is lost.
    """

    instance_id: str = "i-0123456789abcdef0"
    instance_type: str = "t3.small"
    instance_limits: Limits = field(
        factory=lambda: Limits(
            max_enis=3, ipv4_per_eni=4, ipv6_per_eni=4, cards={0: 3}
        ),
    )
    groups: tuple[str, ...] = ("sg-1",)
    subnets: Mapping[str, IPv4Network | MemorySubnet] = field(
        factory=lambda: {"subnet-1": IPv4Network("10.0.0.0/24")}
    )
    elastic_ip_limit: int = 5
    """Elastic IPs that the account may have; EC2's quota before it is raised."""

    all_elastic_ips: dict[str, ElasticIpFacts] = field(factory=dict)
    calls: list[tuple[object, ...]] = field(factory=list)
    all_enis: dict[str, EniFacts] = field(factory=dict)
    on_termination: set[str] = field(factory=set)
    detaching: bool = False
    """Whether what is being detached stays so, until `settle`."""

    spaces: dict[str, MemorySubnet] = field(init=False)

    _failures: dict[str, list[tuple[EniplugError, bool]]] = field(factory=dict)
    _tokens: dict[str, str] = field(factory=dict)
    _numbers: Iterator[int] = field(factory=lambda: counting(1))

    def __attrs_post_init__(self) -> None:
        """Begin with the primary ENI, as every instance does."""
        self.spaces = {
            name: one if isinstance(one, MemorySubnet) else MemorySubnet(cidr=one)
            for name, one in self.subnets.items()
        }
        first = next(iter(self.subnets))
        self._put(self._make(first, self.groups, CreateEni(), "", {}), 0, 0)

    # -- a test's own ------------------------------------------------------------------

    def fail(self, call: str, *errors: EniplugError) -> None:
        """Let the next calls of that name fail, one for each error."""
        queue = self._failures.setdefault(call, [])
        queue.extend((error, False) for error in errors)

    def lose(self, call: str, error: EniplugError) -> None:
        """Let the next call of that name succeed, and its answer be lost."""
        self._failures.setdefault(call, []).append((error, True))

    def named(self, call: str) -> list[tuple[object, ...]]:
        """Return the arguments of all calls of that name."""
        return [one[1:] for one in self.calls if one[0] == call]

    def skip_numbers(self, first: int) -> None:
        """Number what is made from now on from ``first`` on."""
        self._numbers = counting(first)

    def settle(self) -> None:
        """Finish what is being detached."""
        for eni in [e for e in self.all_enis.values() if e.status == "detaching"]:
            self._free(eni)

    # -- the port ----------------------------------------------------------------------

    def describe_instance(self, instance_id: str) -> InstanceFacts:
        """Describe the instance."""
        self._begin("describe_instance", instance_id)
        self._check_instance(instance_id)
        return InstanceFacts(
            id=instance_id,
            type=self.instance_type,
            devices=frozenset(
                (eni.card, eni.device)
                for eni in self.all_enis.values()
                if eni.device is not None
            ),
        )

    def limits(self, instance_type: str) -> Limits:
        """Return the limits of the instance's type."""
        self._begin("limits", instance_type)
        if instance_type != self.instance_type:
            msg = f"EC2 refuses DescribeInstanceTypes: no type {instance_type}"
            raise CloudError(msg)
        return self.instance_limits

    def enis(self, instance_id: str) -> tuple[EniFacts, ...]:
        """Describe the attached ENIs."""
        self._begin("enis", instance_id)
        found = [e for e in self.all_enis.values() if e.attachment_id is not None]
        if instance_id != self.instance_id:
            return ()
        return tuple(sorted(found, key=lambda eni: (eni.card, eni.device or 0)))

    def describe_subnets(self, vpc: str, zone: str) -> tuple[SubnetFacts, ...]:
        """Describe the subnets."""
        self._begin("subnets", vpc, zone)
        found = [
            SubnetFacts(
                id=name, cidr=one.cidr, free=one.free, cidr6=one.cidr6, tags=one.tags
            )
            for name, one in self.spaces.items()
            if (vpc, zone) == (VPC, ZONE)
        ]
        return tuple(sorted(found, key=lambda one: (-one.free, one.id)))

    def leaked(self, vpc: str, cluster: str = "") -> tuple[EniFacts, ...]:
        """Describe the ENIs that CNIs made and that hang on nothing."""
        self._begin("leaked", vpc, cluster)
        return tuple(
            eni
            for eni in self.all_enis.values()
            if eni.status == "available"
            and eni.vpc == vpc
            and INSTANCE_TAG in eni.tags
            and cluster in {"", eni.tags.get(CLUSTER_TAG)}
        )

    def assign(self, eni_id: str, count: int) -> tuple[IPv4Address, ...]:
        """Give an ENI more addresses."""
        lost = self._begin("assign", eni_id, count)
        eni = self._eni(eni_id)
        self._check_places(eni, count)
        new = self._draw(eni.subnet, count)
        self.all_enis[eni_id] = evolve(eni, secondary=eni.secondary + new)
        self._end(lost)
        return new

    def assign_prefixes(
        self, eni_id: str, count: int, family: Family
    ) -> tuple[Network, ...]:
        """Give an ENI more prefixes."""
        lost = self._begin("assign_prefixes", eni_id, count, family)
        eni = self._eni(eni_id)
        new: tuple[Any, ...]
        if family == 4:  # noqa: PLR2004
            self._check_places(eni, count)
            new = self._draw_prefixes(eni.subnet, count)
            self.all_enis[eni_id] = evolve(eni, prefixes=eni.prefixes + new)
        else:
            self._check_places6(eni, count)
            new = self._draw_prefixes6(eni.subnet, count)
            self.all_enis[eni_id] = evolve(eni, prefixes6=eni.prefixes6 + new)
        self._end(lost)
        return new

    def unassign(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Take blocks of one family and kind from an ENI."""
        lost = self._begin("unassign", eni_id, tuple(blocks))
        eni = self._eni(eni_id)
        if not set(blocks) <= set(eni.blocks) or len({type(b) for b in blocks}) != 1:
            msg = f"EC2 refuses UnassignPrivateIpAddresses: not all of {eni_id}"
            raise CloudError(msg)
        self.all_enis[eni_id] = evolve(
            eni,
            secondary=tuple(a for a in eni.secondary if a not in blocks),
            prefixes=tuple(p for p in eni.prefixes if p not in blocks),
            prefixes6=tuple(p for p in eni.prefixes6 if p not in blocks),
        )
        self.spaces[eni.subnet].put_back(blocks)
        self._end(lost)

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
        """Make an ENI, one for each token."""
        lost = self._begin("create_eni", subnet, want)
        if token in self._tokens:
            return self._eni(self._tokens[token])
        if subnet not in self.spaces:
            msg = f"EC2 refuses CreateNetworkInterface: no subnet {subnet}"
            raise CloudError(msg)
        eni = self._make(subnet, groups, want, description, tags)
        self._tokens[token] = eni.id
        self._end(lost)
        return eni

    def attach(self, eni_id: str, instance_id: str, device: int, card: int) -> str:
        """Attach an ENI."""
        lost = self._begin("attach", eni_id, instance_id, device, card)
        eni = self._eni(eni_id)
        self._check_instance(instance_id)
        attached = [e for e in self.all_enis.values() if e.attachment_id is not None]
        if eni in attached:
            msg = f"EC2 refuses AttachNetworkInterface: {eni_id} is in use"
            raise RetryError(msg)
        if card not in (self.instance_limits.cards or (0,)):
            msg = f"EC2 refuses AttachNetworkInterface: there is no card {card}"
            raise CloudError(msg)
        on_card = [e for e in attached if e.card == card]
        if len(on_card) >= self.instance_limits.max_enis_of(card):
            msg = f"EC2 refuses AttachNetworkInterface: limit of {self.instance_type}"
            raise EniLimitError(msg)
        self._check_places(eni, 0)
        self._check_places6(eni, 0)
        if (device, card) in {(e.device, e.card) for e in attached}:
            msg = f"EC2 refuses AttachNetworkInterface: device {device} is taken"
            raise CloudError(msg)
        attachment = self._put(eni, device, card)
        self._end(lost)
        return attachment

    def delete_on_termination(self, eni_id: str, attachment_id: str) -> None:
        """Tie an ENI to its instance's life."""
        lost = self._begin("delete_on_termination", eni_id, attachment_id)
        if self._eni(eni_id).attachment_id != attachment_id:
            msg = f"EC2 refuses ModifyNetworkInterfaceAttribute: {attachment_id}"
            raise CloudError(msg)
        self.on_termination.add(eni_id)
        self.all_enis[eni_id] = evolve(self.all_enis[eni_id], on_termination=True)
        self._end(lost)

    def set_groups(self, eni_id: str, groups: Sequence[str]) -> None:
        """Give an ENI other security groups."""
        lost = self._begin("set_groups", eni_id, tuple(groups))
        self.all_enis[eni_id] = evolve(self._eni(eni_id), groups=tuple(groups))
        self._end(lost)

    def detach(self, attachment_id: str) -> None:
        """Begin to detach an ENI."""
        lost = self._begin("detach", attachment_id)
        for eni in self.all_enis.values():
            if eni.attachment_id == attachment_id:
                if eni.primary:
                    msg = "EC2 refuses DetachNetworkInterface: it is the primary ENI"
                    raise CloudError(msg)
                self.all_enis[eni.id] = evolve(eni, status="detaching")
        if not self.detaching:
            self.settle()
        self._end(lost)

    def delete_eni(self, eni_id: str) -> None:
        """Delete an ENI."""
        lost = self._begin("delete_eni", eni_id)
        eni = self.all_enis.get(eni_id)
        if eni is not None and eni.attachment_id is not None:
            msg = f"EC2 refuses DeleteNetworkInterface: {eni_id} is currently in use"
            raise RetryError(msg)
        for one in [e for e in self.all_elastic_ips.values() if e.eni == eni_id]:
            self._part(one)
        if self.all_enis.pop(eni_id, None) is not None and eni is not None:
            own = (eni.address, *eni.blocks)
            self.spaces[eni.subnet].put_back(own)
        self._end(lost)

    def tag(self, eni_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """Put tags on ENIs."""
        lost = self._begin("tag", tuple(eni_ids), dict(tags))
        for eni_id in eni_ids:
            eni = self._eni(eni_id)
            self.all_enis[eni_id] = evolve(eni, tags={**eni.tags, **tags})
        self._end(lost)

    def elastic_ips(self, tags: Mapping[str, str]) -> tuple[ElasticIpFacts, ...]:
        """Describe the Elastic IPs that bear all these tags."""
        self._begin("elastic_ips", dict(tags))
        return tuple(
            one
            for one in self.all_elastic_ips.values()
            if tags.items() <= one.tags.items()
        )

    def allocate_elastic_ip(self, tags: Mapping[str, str]) -> ElasticIpFacts:
        """Get an Elastic IP."""
        lost = self._begin("allocate_elastic_ip", dict(tags))
        if len(self.all_elastic_ips) >= self.elastic_ip_limit:
            msg = f"EC2 refuses AllocateAddress: {self.elastic_ip_limit} are the limit"
            raise ElasticIpLimitError(msg)
        taken = {one.public for one in self.all_elastic_ips.values()}
        one = ElasticIpFacts(
            id=f"eipalloc-{next(self._numbers):017x}",
            public=next(each for each in PUBLIC.hosts() if each not in taken),
            tags=dict(tags),
        )
        self.all_elastic_ips[one.id] = one
        self._end(lost)
        return one

    def associate(self, allocation_id: str, eni_id: str, private: IPv4Address) -> str:
        """Give an ENI's address an Elastic IP."""
        lost = self._begin("associate", allocation_id, eni_id, private)
        one, eni = self._elastic_ip(allocation_id), self._eni(eni_id)
        if private not in (eni.address, *eni.secondary):
            msg = f"EC2 refuses AssociateAddress: {eni_id} has no {private}"
            raise CloudError(msg)
        home = (eni_id, private)
        if one.association is not None and (one.eni, one.private) != home:
            msg = f"EC2 refuses AssociateAddress: {allocation_id} is associated"
            raise CloudError(msg)
        association = one.association or f"eipassoc-{next(self._numbers):017x}"
        for other in [e for e in self.all_elastic_ips.values() if e is not one]:
            if (other.eni, other.private) == home:
                self._part(other)
        self.all_elastic_ips[one.id] = evolve(
            one, association=association, eni=eni_id, private=private
        )
        self._end(lost)
        return association

    def disassociate(self, association_id: str) -> None:
        """Take an Elastic IP from its private address."""
        lost = self._begin("disassociate", association_id)
        for one in [*self.all_elastic_ips.values()]:
            if one.association == association_id:
                self._part(one)
        self._end(lost)

    def release(self, allocation_id: str) -> None:
        """Give an Elastic IP back."""
        lost = self._begin("release", allocation_id)
        one = self.all_elastic_ips.get(allocation_id)
        if one is not None and one.association is not None:
            msg = f"EC2 refuses ReleaseAddress: {allocation_id} is in use"
            raise RetryError(msg)
        self.all_elastic_ips.pop(allocation_id, None)
        self._end(lost)

    # -- inside ------------------------------------------------------------------------

    def _begin(self, call: str, *given: object) -> EniplugError | None:
        self.calls.append((call, *given))
        queue = self._failures.get(call)
        if not queue:
            return None
        error, late = queue.pop(0)
        if not late:
            raise error
        return error

    def _end(self, lost: EniplugError | None) -> None:
        if lost is not None:
            raise lost

    def _eni(self, eni_id: str) -> EniFacts:
        if eni_id not in self.all_enis:
            msg = f"EC2 knows no {eni_id}"
            raise CloudError(msg)
        return self.all_enis[eni_id]

    def _elastic_ip(self, allocation_id: str) -> ElasticIpFacts:
        if allocation_id not in self.all_elastic_ips:
            msg = f"EC2 knows no {allocation_id}"
            raise CloudError(msg)
        return self.all_elastic_ips[allocation_id]

    def _part(self, one: ElasticIpFacts) -> None:
        self.all_elastic_ips[one.id] = evolve(
            one, association=None, eni=None, private=None
        )

    def _check_instance(self, instance_id: str) -> None:
        if instance_id != self.instance_id:
            msg = f"EC2 knows no instance {instance_id}"
            raise CloudError(msg)

    def _check_places(self, eni: EniFacts, more: int) -> None:
        taken = 1 + len(eni.secondary) + len(eni.prefixes) + more
        if taken > self.instance_limits.ipv4_per_eni:
            msg = f"EC2 refuses {taken} addresses on an ENI of this type"
            raise EniLimitError(msg)

    def _check_places6(self, eni: EniFacts, more: int) -> None:
        taken = len(eni.addresses6) + len(eni.prefixes6) + more
        if taken > self.instance_limits.ipv6_per_eni:
            msg = f"EC2 refuses {taken} IPv6 addresses on an ENI of this type"
            raise EniLimitError(msg)

    def _draw(self, subnet: str, count: int) -> tuple[IPv4Address, ...]:
        drawn = self.spaces[subnet].draw(count)
        if drawn is None:
            msg = f"EC2 refuses {count} addresses: {subnet} has not as many left"
            raise SubnetFullError(msg)
        return drawn

    def _draw_prefixes(self, subnet: str, count: int) -> tuple[IPv4Network, ...]:
        drawn = self.spaces[subnet].draw_prefixes(count)
        if drawn is None:
            msg = f"EC2 refuses {count} prefixes: {subnet} has not as many left"
            raise NoFreePrefixError(msg)
        return drawn

    def _draw_prefixes6(self, subnet: str, count: int) -> tuple[IPv6Network, ...]:
        drawn = self.spaces[subnet].draw_prefixes6(count)
        if drawn is None:
            msg = f"EC2 refuses {count} IPv6 prefixes: {subnet} has no IPv6 range"
            raise CloudError(msg)
        return drawn

    def _make(
        self,
        subnet: str,
        groups: Sequence[str],
        want: CreateEni,
        description: str,
        tags: Mapping[str, str],
    ) -> EniFacts:
        number, space = next(self._numbers), self.spaces[subnet]
        own, *secondary = self._draw(subnet, 1 + want.addresses)
        try:
            prefixes = self._draw_prefixes(subnet, want.prefixes)
            prefixes6 = self._draw_prefixes6(subnet, want.prefixes6)
        except EniplugError:
            space.put_back((own, *secondary))
            raise
        eni = EniFacts(
            id=f"eni-{number:017x}",
            mac=f"02:00:00:00:{number >> 8:02x}:{number & 0xFF:02x}",
            subnet=subnet,
            subnet_cidr=space.cidr,
            address=own,
            vpc=VPC,
            secondary=tuple(secondary),
            prefixes=prefixes,
            subnet_cidr6=space.cidr6,
            addresses6=() if prefixes6 else space.draw6(),
            prefixes6=prefixes6,
            tags=dict(tags),
            groups=tuple(groups),
            description=description,
        )
        self.all_enis[eni.id] = eni
        return eni

    def _put(self, eni: EniFacts, device: int, card: int) -> str:
        attachment = f"eni-attach-{next(self._numbers):017x}"
        self.all_enis[eni.id] = evolve(
            eni, device=device, card=card, attachment_id=attachment, status="in-use"
        )
        return attachment

    def _free(self, eni: EniFacts) -> None:
        self.all_enis[eni.id] = evolve(
            eni,
            device=None,
            card=0,
            attachment_id=None,
            on_termination=False,
            status="available",
        )


@define(eq=False, kw_only=True)
class MemoryMetadata:
    """The metadata service of a `MemoryCloud`'s instance.

    While ``behind`` it shows what it showed last, as the real one does for a while;
    of the ENIs that are ``late`` (ids) it does so, or shows nothing of them yet.
    ``hidden`` blocks it never shows; ``error`` is raised by every question.
    """

    cloud: MemoryCloud
    vpc: tuple[IPv4Network, ...] = (IPv4Network("10.0.0.0/16"),)
    behind: bool = False
    late: set[str] = field(factory=set)
    hidden: set[Block] = field(factory=set)
    error: EniplugError | None = None

    _shown: dict[str, EniFacts] = field(factory=dict)

    def __attrs_post_init__(self) -> None:
        """Show what is there already."""
        self._catch_up()

    def instance_id(self) -> str:
        """Return the instance's id."""
        self._catch_up()
        return self.cloud.instance_id

    def instance_type(self) -> str:
        """Return the instance's type."""
        self._catch_up()
        return self.cloud.instance_type

    def region(self) -> str:
        """Return a region's name."""
        self._catch_up()
        return "us-east-1"

    def zone(self) -> str:
        """Return a zone's name."""
        self._catch_up()
        return ZONE

    def mac(self) -> str:
        """Return the primary ENI's MAC address."""
        self._catch_up()
        return next(mac for mac, eni in self._shown.items() if eni.primary)

    def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses of the ENIs that are shown."""
        self._catch_up()
        return tuple(self._shown)

    def interface_id(self, mac: str) -> str:
        """Return an ENI's id, or ""."""
        eni = self._eni(mac)
        return eni.id if eni else ""

    def eni(self, mac: str) -> EniFacts | None:
        """Return an ENI without what the service does not tell."""
        eni = self._eni(mac)
        return eni and evolve(
            eni,
            secondary=self.local_ipv4s(mac)[1:],
            attachment_id=None,
            on_termination=False,
            status="in-use",
            kind="interface",
            tags={},
            description="",
        )

    def local_ipv4s(self, mac: str) -> tuple[IPv4Address, ...]:
        """Return an ENI's addresses, its own first."""
        eni = self._eni(mac)
        shown = (a for a in eni.secondary if a not in self.hidden) if eni else ()
        return (eni.address, *shown) if eni else ()

    def blocks(self, mac: str) -> frozenset[Block]:
        """Return all that an ENI has for pods."""
        eni = self._eni(mac)
        return frozenset(eni.blocks) - self.hidden if eni else frozenset()

    def vpc_cidrs(self, mac: str) -> tuple[IPv4Network, ...]:
        """Return the VPC's CIDRs."""
        return self.vpc if self._eni(mac) else ()

    def security_groups(self, mac: str) -> tuple[str, ...]:
        """Return the ids of an ENI's security groups."""
        eni = self._eni(mac)
        return eni.groups if eni else ()

    def _eni(self, mac: str) -> EniFacts | None:
        self._catch_up()
        return self._shown.get(mac)

    def _catch_up(self) -> None:
        if self.error is not None:
            raise self.error
        if self.behind:
            return
        kept = [e for e in self._shown.values() if e.id in self.late]
        known = [e for e in self.cloud.all_enis.values() if e.id not in self.late]
        attached = [e for e in known if e.attachment_id is not None]
        self._shown = {eni.mac: eni for eni in (*attached, *kept)}
