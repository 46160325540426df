"""How packets leave a pod, the same in every layout: through one static next hop."""

from __future__ import annotations

from collections.abc import Iterator
from functools import lru_cache
from ipaddress import ip_network
from typing import Final

from eniplug.hooks import MAIN_TABLE, POD, Ip, Neighbor, Nic, Object, Route, Rule

DEFAULT: Final = {4: ip_network("0.0.0.0/0"), 6: ip_network("::/0")}


def through_gateway(nic: Nic) -> Iterator[Object]:
    """Declare a pod's way out: all goes to the gateway, whose MAC is the host link's.

    The neighbour is static, so no ARP or neighbour discovery is ever needed.  A further
    interface has a table of its own, for what is sent with its address; and a default
    route that comes last, for what is bound to it by name and has no address yet.
    """
    table = nic.index or MAIN_TABLE
    for gateway in nic.gateways:
        yield from _ways(gateway, nic.ifname, table)
        yield Neighbor(link=nic.ifname, address=gateway, mac=nic.host_mac)
        if nic.index:
            yield Route(
                destination=DEFAULT[gateway.version],
                link=nic.ifname,
                via=gateway,
                metric=nic.index,
                onlink=True,
            )
    for address in nic.addresses if nic.index else ():
        yield Rule(
            priority=1,
            family=address.version,
            src=address.network,
            table=table,
            side=POD,
        )


@lru_cache(64)
def _ways(gateway: Ip, link: str, table: int) -> tuple[Route, Route]:
    """The routes to the gateway and by it: the same for nearly all pods."""
    near = Route(destination=ip_network(gateway), link=link, table=table)
    everywhere = DEFAULT[gateway.version]
    return near, Route(destination=everywhere, link=link, via=gateway, table=table)
