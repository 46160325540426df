"""The lab's AWS in one piece: EC2, IMDS, and one VPC to begin with."""

from __future__ import annotations

import difflib
import socket
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Network
from typing import Any, Final, Self

from attrs import frozen
from moto.ec2.exceptions import EC2ClientError
from moto.ec2.models.instance_types import INSTANCE_TYPES

from eniplug.lab.ec2 import AMI, Ec2, cidrs_of
from eniplug.lab.errors import LabError
from eniplug.lab.facts import (
    EniFacts,
    Listener,
    Network,
    Nobody,
    NodeFacts,
    as_json,
)
from eniplug.lab.faults import Faults
from eniplug.lab.front import Front, FrontServer
from eniplug.lab.imds import ImdsServer, Who
from eniplug.lab.interfaces import REGION
from eniplug.lab.metadata import Memory
from eniplug.lab.models import install
from eniplug.lab.rules import Ec2Error
from eniplug.lab.serving import Server

SUBNETS: Final = ((f"{REGION}a", "10.0.0.0/18"),)
POD_SUBNETS: Final = ("10.0.64.0/18", "10.0.128.0/18", "10.0.192.0/18")
"""Further subnets for ENIs: as large as the nodes' own, so that they are preferred."""

POD_TAGS: Final = {"kubernetes.io/role/cni": "1"}
"""What tells a CNI that it may make ENIs in a subnet."""


@frozen(kw_only=True)
class VpcFacts:
    """The lab's VPC; subnets by id, in the order in which they were made."""

    id: str
    cidrs: tuple[IPv4Network, ...]
    cidr6: IPv6Network | None
    subnets: Mapping[str, IPv4Network]
    group: str


class Cloud:
    """EC2 and IMDS of one account.

    ``listener`` makes come true what EC2 says (`eniplug.lab.facts.Listener`); without
    one, this is EC2 and IMDS alone.  ``seed`` decides ids, addresses and MACs.
    """

    def __init__(
        self,
        listener: Listener | None = None,
        faults: Faults | None = None,
        *,
        seed: int = 1,
    ) -> None:
        install()
        faults = faults or Faults()
        self._memory = Memory(faults)
        both = _Both(listener or Nobody(), self._memory)
        # moto says that what it makes is a BaseModel.
        self._ec2: Ec2 = Ec2(both, faults, seed)  # pyright: ignore[reportAttributeAccessIssue]
        self._front = Front(self._ec2, faults)
        self._servers: list[Server] = []
        self._vpc: VpcFacts | None = None

    def create_vpc(
        self,
        cidrs: Sequence[str] = ("10.0.0.0/16",),
        subnets: Sequence[tuple[str, str]] = SUBNETS,
        *,
        pod_subnets: Sequence[str] = (),
        ipv6: bool = False,
    ) -> VpcFacts:
        """Make the VPC, with subnets as pairs of zone and CIDR, and one security group.

        ``pod_subnets`` are further CIDRs, in the first one's zone and tagged for CNIs.
        Instances get a public address in every subnet, and with ``ipv6`` an IPv6 one.
        Raises LabError for what EC2 would not take.
        """
        with self._ec2.lock:
            try:
                vpc = self._create_vpc(cidrs, subnets, pod_subnets, ipv6=ipv6)
            except (Ec2Error, EC2ClientError, ValueError) as error:
                msg = f"EC2 refuses the VPC: {error}"
                raise LabError(msg) from None
            self._vpc = vpc
        return vpc

    def _create_vpc(
        self,
        cidrs: Sequence[str],
        subnets: Sequence[tuple[str, str]],
        pod_subnets: Sequence[str],
        *,
        ipv6: bool,
    ) -> VpcFacts:
        ec2 = self._ec2
        vpc = ec2.create_vpc(cidrs[0], amazon_provided_ipv6_cidr_block=ipv6)
        for cidr in cidrs[1:]:
            ec2.associate_vpc_cidr_block(vpc.id, cidr, False)
        whole6 = [IPv6Network(each) for each in cidrs_of(vpc, six=True)]
        ranges6 = iter(whole6[0].subnets(new_prefix=64)) if whole6 else None
        made: dict[str, IPv4Network] = {}
        for zone, cidr in (*subnets, *((subnets[0][0], each) for each in pod_subnets)):
            range6 = str(next(ranges6)) if ranges6 else None
            subnet = ec2.create_subnet(vpc.id, cidr, range6, zone)
            subnet.default_for_az = False
            subnet.map_public_ip_on_launch = True
            subnet.assign_ipv6_address_on_creation = ipv6
            if cidr in pod_subnets:
                ec2.create_tags([subnet.id], POD_TAGS)
            made[subnet.id] = IPv4Network(cidr)
        group = ec2.create_security_group("nodes", "The lab's nodes", vpc_id=vpc.id)
        return VpcFacts(
            id=vpc.id,
            cidrs=tuple(map(IPv4Network, cidrs)),
            cidr6=whole6[0] if whole6 else None,
            subnets=made,
            group=group.id,
        )

    def create_group(self, name: str) -> str:
        """Make one more security group in the VPC; returns its id."""
        if self._vpc is None:
            msg = "there is no VPC"
            raise LabError(msg)
        with self._ec2.lock:
            made = self._ec2.create_security_group(name, name, vpc_id=self._vpc.id)
        return str(made.id)

    def associate_cidr(self, cidr: str) -> tuple[str, ...]:
        """Give the VPC another range; returns all that it has."""
        return self._change_cidrs(
            lambda id_: self._ec2.associate_vpc_cidr_block(id_, cidr, False)
        )

    def disassociate_cidr(self, cidr: str) -> tuple[str, ...]:
        """Take a range from the VPC; returns all that it still has."""

        def change(vpc: str) -> None:
            found = self._ec2.get_vpc(vpc).get_cidr_block_association_set(ipv6=False)
            ids = [e["association_id"] for e in found if e["cidr_block"] == cidr]
            if not ids:
                msg = f"the VPC has no range {cidr}"
                raise LabError(msg)
            self._ec2.disassociate_vpc_cidr_block(ids[0])

        return self._change_cidrs(change)

    def _change_cidrs(self, change: Callable[[str], object]) -> tuple[str, ...]:
        if self._vpc is None:
            msg = "there is no VPC"
            raise LabError(msg)
        with self._ec2.lock:
            try:
                change(self._vpc.id)
            except (Ec2Error, EC2ClientError, ValueError) as error:
                msg = f"EC2 refuses it: {error}"
                raise LabError(msg) from None
            return tuple(cidrs_of(self._ec2.get_vpc(self._vpc.id), six=False))

    def launch(
        self,
        instance_type: str = "m5.large",
        *,
        subnet: str | None = None,
        hop_limit: int = 1,
        token_required: bool = True,
    ) -> NodeFacts:
        """Launch an instance, in the first subnet unless said.

        Raises LabError for an unknown type or subnet, or when EC2 refuses.
        """
        if self._vpc is None:
            msg = "there is no VPC to launch an instance in"
            raise LabError(msg)
        if instance_type not in INSTANCE_TYPES:
            near = difflib.get_close_matches(instance_type, INSTANCE_TYPES, 3)
            msg = f"there is no instance type {instance_type!r}"
            raise LabError(msg, f"did you mean {', '.join(near)}?" if near else "")
        options = {
            "HttpTokens": "required" if token_required else "optional",
            "HttpPutResponseHopLimit": hop_limit,
        }
        with self._ec2.lock:
            try:
                reservation = self._ec2.run_instances(
                    AMI,
                    1,
                    None,
                    [],
                    instance_type=instance_type,
                    is_instance_type_default=False,
                    region_name=REGION,
                    subnet_id=subnet or next(iter(self._vpc.subnets)),
                    security_group_ids=[self._vpc.group],
                    associate_public_ip=None,
                    metadata_options=options,
                )
            except (Ec2Error, EC2ClientError) as error:
                msg = f"EC2 does not launch a {instance_type}: {error}"
                raise LabError(msg) from None
            return self._ec2.node(reservation.instances[0])

    def terminate(self, instance_id: str) -> None:
        """End an instance; raises LabError for an unknown one."""
        with self._ec2.lock:
            try:
                self._ec2.terminate_instances([instance_id])
            except EC2ClientError as error:
                msg = f"EC2 does not terminate {instance_id}: {error}"
                raise LabError(msg) from None

    def serve_ec2(self, sock: socket.socket) -> None:
        """Answer EC2 calls on a listening socket, which is closed with the cloud."""
        self._servers.append(FrontServer(sock, self._front))

    def serve_imds(self, sock: socket.socket, who: Who | None = None) -> None:
        """Answer IMDS requests on a listening socket, which is closed with the cloud.

        ``who`` tells which node an address is; by default, the one that has it.
        """
        self._servers.append(ImdsServer(sock, who or self.node_at, self._memory))

    def node_at(self, address: str) -> NodeFacts | None:
        """Return the node that has an address now, as one of its own or in a prefix."""
        with self._ec2.lock:
            return self._ec2.find(address)

    def nodes(self) -> tuple[NodeFacts, ...]:
        """Return the instances that are not terminated, oldest first."""
        with self._ec2.lock:
            every = self._ec2.all_instances()
            return tuple(self._ec2.node(each) for each in every if each.nics)

    def enis(self) -> tuple[EniFacts, ...]:
        """Return all ENIs, attached or not."""
        with self._ec2.lock:
            return tuple(eni.facts() for eni in self._ec2.enis.values())

    def describe(self) -> dict[str, Any]:
        """Return what there is, as JSON takes it.

        ``subnets`` (id, zone, cidr, free), ``instances`` (`NodeFacts`), ``enis``
        (`EniFacts`) and the ``faults`` that are set.
        """
        with self._ec2.lock:
            subnets = [
                {
                    "id": subnet.id,
                    "zone": subnet.availability_zone,
                    "cidr": subnet.cidr_block,
                    "free": subnet.available_ip_address_count,
                }
                for subnet in self._ec2.describe_subnets()
            ]
            return {
                "subnets": subnets,
                "instances": [as_json(node) for node in self.nodes()],
                "enis": [as_json(eni) for eni in self.enis()],
                "faults": self._ec2.faults.to_json(),
            }

    def set_faults(self, faults: Faults) -> None:
        """Misbehave otherwise from now on; `Faults()` ends all of it."""
        with self._ec2.lock:
            self._ec2.faults = faults
            self._front.set_faults(faults)
            self._memory.set_faults(faults)

    def calls(self) -> Counter[str]:
        """Return how often each EC2 action was called, refused calls included."""
        return self._front.calls

    def close(self) -> None:
        """Serve nobody and do nothing more; sockets and threads are gone after."""
        for server in self._servers:
            server.close()
        self._servers.clear()
        self._ec2.timers.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


class _Both:
    """Tells the listener, and then IMDS: what the listener refuses is nowhere."""

    def __init__(self, first: Listener, then: Memory) -> None:
        self._all: tuple[Listener, Listener] = (first, then)

    def vpc(self, cidrs: tuple[Network, ...]) -> None:
        for each in self._all:
            each.vpc(cidrs)

    def instance(self, node: NodeFacts) -> None:
        for each in self._all:
            each.instance(node)

    def instance_gone(self, node: NodeFacts) -> None:
        for each in self._all:
            each.instance_gone(node)

    def attached(self, eni: EniFacts) -> None:
        for each in self._all:
            each.attached(eni)

    def detached(self, eni: EniFacts) -> None:
        for each in self._all:
            each.detached(eni)

    def addresses(self, eni: EniFacts) -> None:
        for each in self._all:
            each.addresses(eni)

    def attribute(self, eni: EniFacts) -> None:
        for each in self._all:
            each.attribute(eni)

    def public_ip(self, public: Mapping[IPv4Address, IPv4Address]) -> None:
        for each in self._all:
            each.public_ip(public)
