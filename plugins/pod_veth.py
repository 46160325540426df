"""pod-veth: a pod's interface is one end of a veth pair.

A pod has an interface with its addresses at full length (/32, /128); the node has the
other end, named as the AWS VPC CNI names it.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from eniplug.hooks import (
    POD,
    Address,
    Allocation,
    Nic,
    Object,
    Pod,
    Sysctl,
    Veth,
    hookimpl,
)


@frozen(eq=False, kw_only=True)
class PodVeth:
    """Gives a pod its interface: a veth pair with the pod's addresses on it."""

    @hookimpl
    def setup_netns(self, pod: Pod, allocation: Allocation) -> Iterator[Object]:
        """Declare the pair and the addresses."""
        for nic in allocation.nics:
            yield Veth(
                name=nic.host_ifname,
                peer=nic.ifname,
                mac=nic.host_mac,
                peer_mac=nic.mac,
                mtu=pod.mtu,
            )
            if any(address.version == 6 for address in nic.addresses):  # noqa: PLR2004
                yield from _ipv6(nic)
            for address in nic.addresses:
                yield Address(link=nic.ifname, address=address)


def _ipv6(nic: Nic) -> Iterator[Object]:
    """Switch IPv6 on: where it is off, the kernel refuses the pod's address.

    On the loopback too, so that a pod with IPv6 alone has a ``::1``.
    """
    for link in ("lo", nic.ifname):
        path = f"net/ipv6/conf/{link}/disable_ipv6"
        yield Sysctl(path=path, value="0", side=POD)
