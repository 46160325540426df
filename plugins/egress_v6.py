"""egress-v6: pods that have IPv4 alone reach IPv6, with the node's address.

Such a pod gets an interface ``v6if0`` with a unique local address (RFC 4193) out of a
range, the same on each node, that only its node knows.  Nobody reaches a pod by that
address but its node.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv6Network

from attrs import field, frozen

from eniplug.hooks import Allocation, Node, Object, Pod, hookimpl
from eniplug.plugins._egress import Egress, wide_enough


@frozen(eq=False, kw_only=True)
class EgressV6:
    """Gives pods without IPv6 a way out to it."""

    subnet: IPv6Network = field(
        default=IPv6Network("fd00::ac:0/118"), validator=wide_enough
    )
    """Where the addresses are from; it must be nobody else's on this node."""

    @property
    def _way(self) -> Egress:
        return Egress(name="egress-v6", link="v6if0", subnet=self.subnet)

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare the table that translates and blocks."""
        return self._way.node_objects(node)

    @hookimpl
    def egress(self, pod: Pod, allocation: Allocation, node: Node) -> Iterator[Object]:
        """Declare the pod's second interface."""
        return self._way.pod_objects(pod, allocation, node)
