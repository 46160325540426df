"""host-ports: a port of the node leads to a port of a pod.

The node has one nftables table with maps from ports to pods, and a pod one element for
each of its ports.  Only the first packet of a connection meets them.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from eniplug.hooks import (
    Allocation,
    Claim,
    Family,
    Ip,
    LinkState,
    NftElement,
    NftTable,
    Node,
    Object,
    Pod,
    StaleFlows,
    hookimpl,
)
from eniplug.plugins._port_mappings import PortMapping, mappings_of

TABLE: Final = "eniplug-ports"

PORTS: Final = """\
map any { type inet_proto . inet_service : ipv4_addr . inet_service; }
map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
map host { type ipv4_addr . inet_proto . inet_service : ipv4_addr . inet_service; }
map host6 { type ipv6_addr . inet_proto . inet_service : ipv6_addr . inet_service; }
set self { type ipv4_addr . ipv4_addr; }
set self6 { type ipv6_addr . ipv6_addr; }
chain ports {
  dnat ip to ip daddr . meta l4proto . th dport map @host
  dnat ip6 to ip6 daddr . meta l4proto . th dport map @host6
  fib daddr type local dnat ip to meta l4proto . th dport map @any
  fib daddr type local dnat ip6 to meta l4proto . th dport map @any6
}
chain arrive {
  type nat hook prerouting priority -95; policy accept;
  iifname != "lo" ip daddr 127.0.0.0/8 drop
  jump ports
}
chain local {
  type nat hook output priority -95; policy accept;
  jump ports
}"""
"""-95: after kube-proxy's -100, so that node ports go first, as they do with portmap.

route_localnet, without which 127.0.0.1 does not lead to a pod, would let the pod reach
what listens on the node's 127.0.0.1: hence the drop.
"""


@frozen(eq=False, kw_only=True)
class HostPorts:
    """Leads ports of the node to pods that ask for them (capability portMappings)."""

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare the table."""
        yield NftTable(family="inet", name=TABLE, text=f"{PORTS}\n{_back(node)}")

    @hookimpl
    def program_routes(self, pod: Pod, allocation: Allocation) -> Iterator[Object]:
        """Declare the pod's ports: what it claims, and the elements."""
        (nic, *_) = allocation.nics
        mine: dict[Family, Ip] = {}
        for address in nic.addresses:
            mine.setdefault(address.version, address.ip)
        mappings = mappings_of(pod, tuple(mine))
        for one in mappings:
            where = str(one.address) if one.address else ""
            yield Claim(what=str(one), where=where)
            yield _element(one, mine[one.family])
            if one.protocol == "udp":
                yield StaleFlows(family=one.family, protocol="udp", port=one.port)
        asked: dict[Family, None] = dict.fromkeys(one.family for one in mappings)
        for family in asked:
            ip = mine[family]
            yield _in(_named("self", family), f"{ip} . {ip}")
        if any(_on_loopback(one) for one in mappings):
            yield LinkState(link=nic.host_ifname, setting="route_localnet", value=1)


def _back(node: Node) -> str:
    """Write what makes replies come back by the node where they would not.

    These are a pod's connections to itself, and the node's from 127.0.0.1.
    """
    lines = [
        "type nat hook postrouting priority srcnat + 5; policy accept;",
        "ct status & dnat == 0x0 return",
    ]
    if (own := node.primary.address(4)) is not None:
        lines += [
            f'ip saddr 127.0.0.0/8 oifname != "lo" snat ip to {own.ip}',
            f"ip saddr . ip daddr @self snat ip to {own.ip}",
        ]
    if (own := node.primary.address(6)) is not None:
        lines.append(f"ip6 saddr . ip6 daddr @self6 snat ip6 to {own.ip}")
    body = "\n".join(f"  {line}" for line in lines)
    return f"chain back {{\n{body}\n}}"


def _named(name: str, family: Family) -> str:
    return name if family == 4 else f"{name}6"  # noqa: PLR2004


def _in(name: str, element: str, value: str = "") -> NftElement:
    return NftElement(
        family="inet", table=TABLE, set=name, element=element, value=value
    )


def _element(one: PortMapping, pod: Ip) -> NftElement:
    key = f"{one.protocol} . {one.port}"
    to = f"{pod} . {one.to}"
    if one.address is None:
        return _in(_named("any", one.family), key, to)
    return _in(_named("host", one.family), f"{one.address} . {key}", to)


def _on_loopback(one: PortMapping) -> bool:
    every = one.address is None and one.family == 4  # noqa: PLR2004
    return every or (one.address is not None and one.address.is_loopback)
