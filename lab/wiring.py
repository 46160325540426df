"""What happens on the wire, and in which node, when EC2 says so."""

from __future__ import annotations

from collections.abc import Mapping
from ipaddress import IPv4Address

from eniplug.lab import netns
from eniplug.lab.errors import LabError
from eniplug.lab.fabric import Fabric
from eniplug.lab.facts import EniFacts, Network, NodeFacts
from eniplug.lab.names import Names
from eniplug.lab.node import Node


class Wiring:
    """Makes nodes of instances and links of ENIs (the cloud's listener).

    EC2 calls it one call at a time; the others' look at it is a copy.
    """

    def __init__(self, names: Names, fabric: Fabric) -> None:
        self._names = names
        self._fabric = fabric
        self._born = 0
        self._nodes: dict[str, Node] = {}
        self._enis: dict[str, EniFacts] = {}
        self._public: dict[IPv4Address, IPv4Address] = {}
        self._known: set[Network] = set()

    # -- what the lab asks -------------------------------------------------------------

    def nodes(self) -> list[tuple[str, Node]]:
        """Return the instances' ids and their nodes, in order of number."""
        return sorted(self._nodes.items(), key=lambda item: item[1].number)

    def node(self, number: int) -> Node:
        """Return a node; raises LabError when there is no such node."""
        for _, node in self.nodes():
            if node.number == number:
                return node
        msg = f"there is no node {number}"
        have = ", ".join(str(node.number) for _, node in self.nodes())
        raise LabError(msg, f"this lab has: {have}")

    def enis(self, instance: str) -> list[EniFacts]:
        """Return an instance's ENIs that are plugged in, by device index."""
        mine = [eni for eni in list(self._enis.values()) if eni.instance == instance]
        return sorted(mine, key=lambda eni: (eni.card, eni.device))

    def public(self, private: IPv4Address) -> IPv4Address | None:
        """Return the public address of a private one."""
        return self._public.get(private)

    # -- what EC2 tells ----------------------------------------------------------------

    def vpc(self, cidrs: tuple[Network, ...]) -> None:
        """Route the VPC's ranges, and no others any more."""
        self._fabric.set_vpc(cidrs)

    def instance(self, node: NodeFacts) -> None:
        """Let a node be born with its ENIs, as its image and DHCP make it."""
        self._born += 1
        namespace = self._names.node(self._born)
        netns.create(namespace)
        self.vpc((*node.vpc_cidrs, *node.vpc_cidrs6))
        directory = self._names.run / f"node{self._born}"
        self._nodes[node.instance_id] = born = Node(self._born, namespace, directory)
        for eni in node.enis:
            self.attached(eni)
        six = next(iter(node.eni.addresses6), None)
        born.boot(node.address, node.eni.cidr, six)

    def instance_gone(self, node: NodeFacts) -> None:
        """Take a node away, with all that runs there."""
        for eni in node.enis:
            self.detached(eni)
        gone = self._nodes.pop(node.instance_id, None)
        if gone is not None:
            gone.close()
            netns.remove(gone.namespace)

    def attached(self, eni: EniFacts) -> None:
        """Let the ENI appear in its node."""
        self._subnet(eni)
        self._fabric.plug(eni, self._nodes[eni.instance].namespace)
        self._enis[eni.id] = eni

    def detached(self, eni: EniFacts) -> None:
        """Take the ENI out of its node."""
        self._fabric.unplug(eni.id)
        self._enis.pop(eni.id, None)

    def addresses(self, eni: EniFacts) -> None:
        """Route what the ENI holds now."""
        if eni.id in self._enis:
            self._fabric.change(eni)
            self._enis[eni.id] = eni

    def attribute(self, eni: EniFacts) -> None:
        """Check sources, or no longer."""
        self.addresses(eni)

    def public_ip(self, public: Mapping[IPv4Address, IPv4Address]) -> None:
        """Let the internet gateway translate these addresses."""
        self._fabric.publish(public)
        self._public = dict(public)

    # ----------------------------------------------------------------------------------

    def _subnet(self, eni: EniFacts) -> None:
        if eni.cidr not in self._known:
            self._known.add(eni.cidr)
            self._fabric.add_subnet(eni.cidr)
