"""A way out in the family that a pod lacks: what egress-v4 and egress-v6 share.

A pod gets one more interface, with an address out of a range that every node uses for
itself: it is translated to the node's own and never seen outside.  The interface is one
of its own so that its packets are told by their link group: out of the pod's first one
they would leave by the ENI that this one's address belongs to, translated to an address
that only the primary ENI has.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from typing import Any, Final

from attrs import Attribute, evolve, frozen

from eniplug.hooks import (
    HOST,
    POD,
    PROTOCOL,
    Address,
    Allocation,
    Family,
    Interface,
    Ip,
    LinkState,
    Neighbor,
    Network,
    NftTable,
    Nic,
    Node,
    Object,
    Pod,
    Route,
    Rule,
    Sysctl,
    Veth,
)
from eniplug.hooks.errors import ConfigError, RangeFullError
from eniplug.hooks.objects import NftFamily
from eniplug.hooks.values import POD_GROUP
from eniplug.plugins._enis import PODS, PORTS, forwarding
from eniplug.plugins._gateway import through_gateway

GROUP: Final = POD_GROUP + 0x80
"""The link group of egress interfaces; no ENI has this number."""

GATEWAY: Final = 1
FIRST: Final = 2
SMALLEST: Final = 4
"""Of a range: its gateway, its first pod, and how many addresses it has at least."""

_WORDS: Final[dict[Family, tuple[NftFamily, str, str]]] = {
    4: ("ip", "icmp", "224.0.0.0/4"),
    6: ("ip6", "icmpv6", "ff00::/8"),
}
"""A family, its ICMP and its multicast addresses in the words of nftables."""


def wide_enough(_: object, attribute: Attribute[Any], value: Network) -> None:
    """Hold that a range has room for a gateway and a pod."""
    if value.num_addresses < SMALLEST:
        msg = f"{attribute.name}: {value} has fewer than {SMALLEST} addresses"
        raise ValueError(msg)


@frozen(kw_only=True)
class Egress:
    """One way out: the plugin's name, its interface in a pod, and its range."""

    name: str
    link: str
    subnet: Network

    @property
    def family(self) -> Family:
        """The family that the pods lack."""
        return self.subnet.version

    def address(self, slot: int) -> Interface:
        """Return the address of the pod in that slot.

        Raises RangeFullError beyond the range, whose last address stays free.
        """
        pods = self.subnet.num_addresses - FIRST - 1
        if slot >= pods:
            msg = f"{self.name}: {self.subnet} has addresses for {pods} pods of a node"
            raise RangeFullError(msg)
        return ip_interface(self.subnet[FIRST + slot])

    # -- the node ----------------------------------------------------------------------

    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare forwarding, the range's rule, and the table that translates.

        Raises ConfigError when the node cannot lend its pods an address.
        """
        own = node.primary.address(self.family)
        if own is None:
            msg = f"{self.name}: the node's primary ENI {node.primary.id} has no "
            msg += f"IPv{self.family} address that pods could go out with"
            raise ConfigError(msg, f"give it one, or take {self.name} out")
        for cidr in node.vpc_cidrs:
            if cidr.version == self.family and cidr.overlaps(self.subnet):
                msg = f"{self.name}: {self.subnet} is in the VPC's {cidr}"
                raise ConfigError(msg, "choose a range that nobody uses")
        yield from forwarding(node, self.family)
        # With policy-routes nothing else leads to the table of pods' routes.
        yield Rule(
            priority=512,
            family=self.family,
            dst=self.subnet,
            table=PODS,
            protocol=PROTOCOL,
        )
        family, *_ = _WORDS[self.family]
        text = self._table(node, own.ip)
        yield NftTable(family=family, name=f"eniplug-{self.name}", text=text)

    def _table(self, node: Node, own: Ip) -> str:
        """Write the table.

        A nat chain sees the first packet of a connection alone, so what is refused
        there costs nothing afterwards.  Pods are refused by a reset: an ICMPv6 error
        that comes while their connect() still holds its socket is lost, and costs a
        second.  It bears the address that was asked for, so others get the error.

        What conntrack calls invalid passes no nat chain: ``guard`` keeps it here.
        """
        ip, icmp, many = _WORDS[self.family]
        links = ", ".join(f'"{eni.link}"' for eni in node.enis)
        to = f"{ip} daddr {self.subnet}"
        ports = PORTS[node.settings.randomize_snat]
        return f"""chain arrive {{
  type nat hook prerouting priority dstnat - 10; policy accept;
  iifname != {{ {links} }} {to} meta l4proto tcp reject with tcp reset
  {to} reject with {icmp} type admin-prohibited
  meta iifgroup {GROUP} {ip} saddr != {self.subnet} drop
  meta iifgroup {GROUP} fib saddr . iif oif 0 drop
}}
chain out {{
  type nat hook postrouting priority srcnat + 10; policy accept;
  {ip} saddr {self.subnet} {ip} daddr != {many} snat to {own}{ports}
}}
chain guard {{
  type filter hook postrouting priority srcnat + 20; policy accept;
  {ip} saddr {self.subnet} oifname {{ {links} }} drop
}}"""

    # -- a pod -------------------------------------------------------------------------

    def pod_objects(
        self, pod: Pod, allocation: Allocation, node: Node
    ) -> Iterator[Object]:
        """Declare the interface, its address, and the routes at both of its ends.

        Nothing for a pod that has an address of the family: it has a way out.
        """
        of_its_own = (one for nic in allocation.nics for one in nic.addresses)
        if any(one.version == self.family for one in of_its_own):
            return
        nic, own = self._nic(pod), node.primary.address(self.family)
        yield Veth(
            name=nic.host_ifname,
            peer=nic.ifname,
            mac=nic.host_mac,
            peer_mac=nic.mac,
            mtu=pod.mtu,
        )
        yield LinkState(link=nic.host_ifname, setting="group", value=GROUP)
        if self.family == 4:  # noqa: PLR2004
            yield LinkState(link=nic.host_ifname, setting="rp_filter", value=1)
        else:
            path = f"net/ipv6/conf/{nic.ifname}/disable_ipv6"
            yield Sysctl(path=path, value="0", side=POD)
        yield from through_gateway(nic)
        for address in nic.addresses:
            yield Address(link=nic.ifname, address=address)
            yield Route(
                destination=ip_network(address.ip),
                link=nic.host_ifname,
                src=own.ip if own else None,
                table=PODS,
                protocol=PROTOCOL,
                side=HOST,
            )
            yield Neighbor(
                link=nic.host_ifname, address=address.ip, mac=nic.mac, side=HOST
            )

    def _nic(self, pod: Pod) -> Nic:
        return Nic(
            ifname=self.link,
            host_ifname=evolve(pod, ifname=self.link).host_ifname,
            mac=pod.mac(f"{self.name} pod"),
            host_mac=pod.mac(f"{self.name} host"),
            addresses=(self.address(pod.slot),),
            gateways=(self.subnet[GATEWAY],),
        )
