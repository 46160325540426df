"""How packets leave a pod, the same in every layout: through one static next hop."""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from typing import Final

from eniplug.hooks import Neighbor, Nic, Object, Route

DEFAULT: Final = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def through_gateway(nic: Nic) -> Iterator[Object]:
    """Declare a pod's way out: all goes to the gateway, whose MAC is the host link's.

    The neighbour is static, so no ARP or neighbour discovery is ever needed.
    """
    for gateway in nic.gateways:
        yield Route(destination=ip_network(gateway), link=nic.ifname)
        yield Route(destination=DEFAULT[gateway.version], link=nic.ifname, via=gateway)
        yield Neighbor(link=nic.ifname, address=gateway, mac=nic.host_mac)
