"""Parts, as an ADD makes them."""

from __future__ import annotations

from ipaddress import ip_network

from eniplug.core.parts import Part
from eniplug.hooks import HOST, Allocation, Lease, LinkState, Object, Pod, Route, Veth


def a_part(pod: Pod, lease: Lease, *, made: float = 100.0) -> Part:
    """Make the part of one pod with one address."""
    link = pod.host_ifname
    objects: tuple[Object, ...] = (
        Veth(name=link, peer=pod.ifname, mac=pod.mac("host"), peer_mac=pod.mac("pod")),
        LinkState(link=link, setting="group", value=0xE001),
        Route(destination=ip_network(lease.address), link=link, side=HOST),
    )
    return Part(
        pod=pod,
        plugins=("secondary-ip", "pod-veth"),
        allocation=Allocation.of(pod, lease),
        leased=True,
        objects=objects,
        request="0" * 32,
        made=made,
    )
