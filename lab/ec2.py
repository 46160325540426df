"""EC2's model: moto's VPCs, subnets, groups and instances, with ENIs of our own."""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network, ip_address
from typing import Any, Final

from moto.ec2.models.amis import Ami

from eniplug.lab.elastic import ElasticIps
from eniplug.lab.facts import NodeFacts
from eniplug.lab.rules import check_range

AMI: Final = "ami-0e1ab0e1ab0e1ab00"
"""The one image that there is, the nodes'."""

RANGE6: Final = IPv6Network("2001:db8:1234::/48")
"""Where VPCs' IPv6 ranges come from (RFC 3849)."""


class Ec2(ElasticIps):
    """All of EC2 in one account and one region."""

    def _load_amis(self) -> None:
        """Have one image where moto makes 1300, in a tenth of a second."""
        make: Any = Ami
        self.amis[AMI] = make(self, AMI, name="eniplug-lab", architecture="x86_64")

    def create_default_vpc(self) -> Any:
        """Leave out moto's default VPC with its six subnets."""

    def create_vpc(self, *args: Any, **kwargs: Any) -> Any:
        """Make a VPC; the first is where moto looks for groups by default."""
        vpc = super().create_vpc(*args, **kwargs)
        self.default_vpc = self.default_vpc or vpc
        self._choose_ranges6(vpc)
        return vpc

    def associate_vpc_cidr_block(
        self, vpc_id: str, cidr_block: str, amazon_provided_ipv6_cidr_block: bool
    ) -> Any:
        """Give a VPC another range: of /16 to /28, and one that it has nothing of."""
        if cidr_block:
            had = cidrs_of(self.get_vpc(vpc_id), six=False)
            check_range(IPv4Network(cidr_block), map(IPv4Network, had))
        association = super().associate_vpc_cidr_block(
            vpc_id, cidr_block, amazon_provided_ipv6_cidr_block
        )
        self._choose_ranges6(self.get_vpc(vpc_id))
        self._tell_ranges(vpc_id)
        return association

    def disassociate_vpc_cidr_block(self, association_id: str) -> Any:
        """Take a range from a VPC."""
        gone = super().disassociate_vpc_cidr_block(association_id)
        self._tell_ranges(gone["vpc_id"])
        return gone

    def _tell_ranges(self, vpc_id: str) -> None:
        vpc = self.get_vpc(vpc_id)
        four, six = (cidrs_of(vpc, six=six) for six in (False, True))
        self.listener.vpc((*map(IPv4Network, four), *map(IPv6Network, six)))

    def _choose_ranges6(self, vpc: Any) -> None:
        """Put documentation ranges where moto draws from the internet's."""
        every: list[Any] = list(self.vpcs.values())
        taken = {cidr for each in every for cidr in cidrs_of(each, six=True)}
        free = (str(net) for net in RANGE6.subnets(new_prefix=56))
        for each in vpc.get_cidr_block_association_set(ipv6=True):
            if not IPv6Network(each["cidr_block"]).subnet_of(RANGE6):
                each["cidr_block"] = next(net for net in free if net not in taken)

    # What there is

    def node(self, instance: Any) -> NodeFacts:
        """Return an instance as a value."""
        vpc = self.get_vpc(instance.vpc_id)
        options = instance.metadata_options
        return NodeFacts(
            instance_id=instance.id,
            instance_type=instance.instance_type,
            image=instance.image_id,
            account=self.account_id,
            region=self.region_name,
            zone=instance.enis[0].subnet.availability_zone,
            zone_id=instance.enis[0].subnet.availability_zone_id,
            vpc=vpc.id,
            vpc_cidrs=tuple(map(IPv4Network, cidrs_of(vpc, six=False))),
            vpc_cidrs6=tuple(map(IPv6Network, cidrs_of(vpc, six=True))),
            enis=tuple(eni.facts() for eni in instance.enis),
            imds=options.http_endpoint == "enabled",
            token_required=options.http_tokens == "required",
            hop_limit=options.http_put_response_hop_limit,
        )

    def find(self, address: str) -> NodeFacts | None:
        """Return the instance that may send from an address (the source check)."""
        source = ip_address(address)
        for eni in self.enis.values():
            if eni.instance is not None and eni.holds(source):
                return self.node(eni.instance)
        return None

    # Instances

    def run_instances(self, *args: Any, **kwargs: Any) -> Any:
        """Launch instances, all or none."""
        self.limits(kwargs["instance_type"])
        before = dict(self.enis), self.reservations.copy()
        launched: list[Any] = []
        try:
            reservation = super().run_instances(*args, **kwargs)
            for instance in reservation.instances:
                launched.append(instance)
                self.listener.instance(self.node(instance))
        except Exception:
            for instance in launched:
                self.listener.instance_gone(self.node(instance))
            self.enis, self.reservations = before
            raise
        self.publish()
        return reservation

    def terminate_instances(self, instance_ids: list[str]) -> Any:
        """End instances; their ENIs become free, or go where so marked."""
        found: list[Any] = self.get_multi_instances_by_id(instance_ids)
        for instance in found:
            if instance.disable_api_termination is True or not instance.nics:
                continue
            self.listener.instance_gone(self.node(instance))
            for eni in list(instance.nics.values()):
                self._leave(eni)
                if eni.delete_on_termination:
                    self._forget(eni)
                elif eni.public_ip_auto_assign:
                    eni.public_ip = None
        ended = super().terminate_instances(instance_ids)
        self.publish()
        return ended

    def start_instances(self, instance_ids: list[str]) -> Any:
        """Start instances, which get a public address again."""
        started = super().start_instances(instance_ids)
        self.publish()
        return started

    def stop_instances(self, instance_ids: list[str]) -> Any:
        """Stop instances, which lose their public address."""
        stopped = super().stop_instances(instance_ids)
        self.publish()
        return stopped

    def modify_instance_metadata_options(  # noqa: PLR0917
        self,
        instance_id: str,
        http_tokens: str | None = None,
        hop_limit: int | None = None,
        http_endpoint: str | None = None,
        dry_run: bool | None = False,
        http_protocol: str | None = None,
        metadata_tags: str | None = None,
    ) -> Any:
        """Change how IMDS answers; what is not given stays (moto would clear it)."""
        was = self.get_instance(instance_id).metadata_options
        return super().modify_instance_metadata_options(
            instance_id,
            http_tokens or was.http_tokens,
            hop_limit or was.http_put_response_hop_limit,
            http_endpoint or was.http_endpoint,
            dry_run,
            http_protocol or was.http_protocol_ipv6,
            metadata_tags or was.instance_metadata_tags,
        )


def cidrs_of(vpc: Any, *, six: bool) -> list[str]:
    """Return a VPC's ranges of one family, the first one first."""
    return [
        each["cidr_block"]
        for each in vpc.get_cidr_block_association_set(ipv6=six)
        if each["cidr_block_state"]["state"] == "associated"
    ]
