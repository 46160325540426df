"""What a plugin may declare: for a pod what is the pod's, for the node what pods share.

A plugin runs as root, and could do anything; this holds what it declares by mistake.  A
part lives and dies with its pod, so an object of it that touched another pod's link, an
ENI or the node's settings would break somebody else when it comes and when it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Final, TypeAlias

from attrs import frozen

from eniplug.hooks import (
    HOST,
    POD,
    Address,
    Allocation,
    Claim,
    ElasticIp,
    Ifb,
    Interface,
    Network,
    NftTable,
    Node,
    Object,
    Route,
    Rule,
    StaleFlows,
    Sysctl,
    Veth,
)

Fence: TypeAlias = Callable[[Object], str]
"""Says why an object is not its declarer's to make; nothing when it is."""

_LINKS: Final = (Veth, Ifb)

LINK_IN_PATH: Final = 3
"""Where a sysctl's path has the link's name, as in net/ipv4/conf/<link>/rp_filter."""


@frozen
class PodFence:
    """What is one pod's: its links, its addresses, and what is about them alone.

    ``given`` are the addresses of its allocation, ``further`` others that it declares.
    """

    links: frozenset[str]
    given: tuple[Interface, ...]
    further: tuple[Interface, ...]
    allocation: Allocation
    node: Node

    @classmethod
    def of(
        cls, objects: Iterable[Object], allocation: Allocation, node: Node
    ) -> PodFence:
        """Draw it around a pod's declaration: the links that it makes are its own."""
        links: set[str] = set()
        given: list[Interface] = []
        further: list[Interface] = []
        for nic in allocation.nics:
            links.add(nic.host_ifname)
            given += nic.addresses
        for one in objects:
            if isinstance(one, _LINKS):
                links.add(one.name)
            elif isinstance(one, Address) and one.side is POD:
                further.append(one.address)
        return cls(frozenset(links), tuple(given), tuple(further), allocation, node)

    def __call__(self, one: Object) -> str:
        """Say why an object is not the pod's, or nothing."""
        if isinstance(one, ElasticIp):
            return self._home(one)
        if isinstance(one, Address) and (wrong := self._address(one)):
            return wrong
        if one.side is not HOST:
            return ""
        if isinstance(one, NftTable):
            return "a table is for node_objects"
        if isinstance(one, Rule):
            narrow = self._mine(one.src) or self._mine(one.dst) or one.iif in self.links
            return "" if narrow else "a pod's rule names its address or its link"
        if isinstance(one, Sysctl):
            parts = one.path.split("/")
            mine = len(parts) > LINK_IN_PATH and parts[LINK_IN_PATH] in self.links
            return "" if mine else "a sysctl of the whole node is for node_objects"
        if isinstance(one, Route) and not self._mine(one.destination):
            return "a pod's route on the node leads to an address of its own"
        link = getattr(one, "link", None)
        if link is not None and link not in self.links:
            return f"link {link} is not the pod's"
        return ""

    def _mine(self, net: Network | None) -> bool:
        if net is None or net.prefixlen != net.max_prefixlen:
            return False
        # As a rule it is the very object that the allocation has.
        if net in [one.network for one in self.given]:
            return True
        return net.network_address in [one.ip for one in (*self.given, *self.further)]

    def _home(self, one: ElasticIp) -> str:
        """Hold that a public address is for the pod's own, on the ENI that it is of."""
        mine = any(
            nic.eni is not None and (nic.eni.id, address.ip) == (one.eni, one.private)
            for nic in self.allocation.nics
            for address in nic.addresses
        )
        return "" if mine else f"{one.private} of {one.eni} was not given to this pod"

    def _address(self, one: Address) -> str:
        """Hold that an address of the VPC is the pod's, or lent to it by the node."""
        if one.address in self.given:
            return ""
        ip = one.address.ip
        if ip in [given.ip for given in self.given]:
            return ""
        if one.side is HOST and any(
            ip == a.ip for eni in self.node.enis for a in eni.addresses
        ):
            return ""
        near = any(ip in cidr for cidr in self.node.vpc_cidrs)
        return f"{ip} is the VPC's, and was not given to this pod" if near else ""


def node_fence(one: Object) -> str:
    """Say why an object is not the node's, or nothing."""
    if isinstance(one, Claim | ElasticIp | StaleFlows | Veth):
        return f"a {type(one).__name__} is a pod's"
    return "" if one.side is HOST else "it is in a pod, and there is none"
