"""egress-v4: pods that have IPv6 alone reach IPv4, with the node's address.

Such a pod gets an interface ``v4if0`` with an address out of a link-local range, the
same on each node, that only its node knows (RFC 3927, 2.7: it is never forwarded as it
is).  Nobody reaches a pod by that address but its node.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network

from attrs import field, frozen

from eniplug.hooks import Allocation, Node, Object, Pod, hookimpl
from eniplug.plugins._egress import Egress, wide_enough


@frozen(eq=False, kw_only=True)
class EgressV4:
    """Gives pods without IPv4 a way out to it."""

    subnet: IPv4Network = field(
        default=IPv4Network("169.254.172.0/22"), validator=wide_enough
    )
    """Where the addresses are from; it must be nobody else's on this node."""

    @property
    def _way(self) -> Egress:
        return Egress(name="egress-v4", link="v4if0", subnet=self.subnet)

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare the table that translates and blocks."""
        return self._way.node_objects(node)

    @hookimpl
    def egress(self, pod: Pod, allocation: Allocation, node: Node) -> Iterator[Object]:
        """Declare the pod's second interface."""
        return self._way.pod_objects(pod, allocation, node)
