"""A node whose ENIs and addresses somebody else sees to: EC2 is never asked.

[ENABLE_IMDS_ONLY_MODE] IMDS tells which ENIs there are and what they have.  It tells no
tags, no limits and no types of interfaces, and nothing can be changed through it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address
from typing import Final, NoReturn

from eniplug.core.ec2 import (
    ElasticIpFacts,
    EniFacts,
    InstanceFacts,
    Limits,
    SubnetFacts,
)
from eniplug.core.imds import Metadata
from eniplug.hooks.capacity import Block, CreateEni
from eniplug.hooks.errors import DeniedError
from eniplug.hooks.objects import Family, Network

REMEDY: Final = (
    "add addresses to the node's ENIs from outside, or unset ENABLE_IMDS_ONLY_MODE"
)


class ImdsOnly:
    """`eniplug.core.ec2.Cloud` as far as IMDS knows it; all else is denied."""

    def __init__(self, metadata: Metadata) -> None:
        self._metadata = metadata

    def enis(self, instance_id: str) -> tuple[EniFacts, ...]:
        """Return the ENIs that IMDS shows of this node, by card and device."""
        del instance_id  # IMDS knows one
        shown = map(self._metadata.eni, self._metadata.macs())
        found = [eni for eni in shown if eni is not None]
        return tuple(sorted(found, key=lambda eni: (eni.card, eni.device or 0)))

    def limits(self, instance_type: str) -> Limits:
        """Return what there is: nothing is added by this node."""
        enis = self.enis(instance_type)
        most = max((len(eni.blocks) for eni in enis), default=0)
        return Limits(max_enis=len(enis), ipv4_per_eni=1 + most, ipv6_per_eni=1 + most)

    # -- what IMDS cannot do -----------------------------------------------------------

    def describe_instance(self, instance_id: str) -> InstanceFacts:
        """Raise DeniedError."""
        _deny("DescribeInstances", instance_id)

    def describe_subnets(self, vpc: str, zone: str) -> tuple[SubnetFacts, ...]:
        """Raise DeniedError."""
        _deny("DescribeSubnets", vpc, zone)

    def leaked(self, vpc: str, cluster: str = "") -> tuple[EniFacts, ...]:
        """Raise DeniedError."""
        _deny("DescribeNetworkInterfaces", vpc, cluster)

    def assign(self, eni_id: str, count: int) -> tuple[IPv4Address, ...]:
        """Raise DeniedError."""
        _deny("AssignPrivateIpAddresses", eni_id, count)

    def assign_prefixes(
        self, eni_id: str, count: int, family: Family
    ) -> tuple[Network, ...]:
        """Raise DeniedError."""
        _deny("AssignPrivateIpAddresses", eni_id, count, family)

    def unassign(self, eni_id: str, blocks: Sequence[Block]) -> None:
        """Raise DeniedError."""
        _deny("UnassignPrivateIpAddresses", eni_id, *blocks)

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
        """Raise DeniedError."""
        _deny("CreateNetworkInterface", subnet, groups, want, token, description, tags)

    def attach(self, eni_id: str, instance_id: str, device: int, card: int) -> str:
        """Raise DeniedError."""
        _deny("AttachNetworkInterface", eni_id, instance_id, device, card)

    def delete_on_termination(self, eni_id: str, attachment_id: str) -> None:
        """Raise DeniedError."""
        _deny("ModifyNetworkInterfaceAttribute", eni_id, attachment_id)

    def set_groups(self, eni_id: str, groups: Sequence[str]) -> None:
        """Raise DeniedError."""
        _deny("ModifyNetworkInterfaceAttribute", eni_id, groups)

    def detach(self, attachment_id: str) -> None:
        """Raise DeniedError."""
        _deny("DetachNetworkInterface", attachment_id)

    def delete_eni(self, eni_id: str) -> None:
        """Raise DeniedError."""
        _deny("DeleteNetworkInterface", eni_id)

    def tag(self, eni_ids: Sequence[str], tags: Mapping[str, str]) -> None:
        """Raise DeniedError."""
        _deny("CreateTags", *eni_ids, tags)

    def elastic_ips(self, tags: Mapping[str, str]) -> tuple[ElasticIpFacts, ...]:
        """Raise DeniedError."""
        _deny("DescribeAddresses", tags)

    def allocate_elastic_ip(self, tags: Mapping[str, str]) -> ElasticIpFacts:
        """Raise DeniedError."""
        _deny("AllocateAddress", tags)

    def associate(self, allocation_id: str, eni_id: str, private: IPv4Address) -> str:
        """Raise DeniedError."""
        _deny("AssociateAddress", allocation_id, eni_id, private)

    def disassociate(self, association_id: str) -> None:
        """Raise DeniedError."""
        _deny("DisassociateAddress", association_id)

    def release(self, allocation_id: str) -> None:
        """Raise DeniedError."""
        _deny("ReleaseAddress", allocation_id)


def _deny(call: str, *subject: object) -> NoReturn:
    what = ", ".join(map(str, subject))
    msg = f"ENABLE_IMDS_ONLY_MODE: EC2 is not asked for {call} ({what})"
    raise DeniedError(msg, REMEDY)
