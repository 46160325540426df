"""The VPC as Linux: one namespace that is the VPC's router, and a veth pair per ENI.

::

    internet  net0 ---- igw  NAME-vpc  e-<eni> ---- ens5  NAME-node1
                                       e-<eni> ---- ens6  NAME-node1
                                       e-<eni> ---- ens5  NAME-node2

There is no bridge.  The guest's end of a pair carries the ENI's MAC and its name; the
router's end stays alone.  The router has a route for each address that EC2 has
assigned, through that ENI, with one permanent neighbour entry, and answers ARP for
whatever it has a route to.  So, as in EC2: what no ENI holds is reachable nowhere, a
guest never answers ARP for its secondary addresses, there is no broadcast, and the
source check is the reverse route.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from ipaddress import IPv4Address, IPv4Network, ip_network
from pathlib import Path

from eniplug.lab import netns, tools
from eniplug.lab.errors import LabError
from eniplug.lab.facts import EniFacts, Network
from eniplug.lab.names import Names

MTU = 9001
"""Inside a VPC; an internet gateway passes 1500 (EC2 User Guide, "Network MTU")."""

IMDS = IPv4Address("169.254.169.254")
EC2 = IPv4Address("10.0.0.2")
"""Where the nodes find the EC2 API, on port 80."""

GATEWAY6 = "fe80:ec2::1"
"""The VPC router's address on every link (VPC User Guide, "Subnet routing")."""

_GUEST6 = "fe80::ec2"
"""Stands for the guest in the router's routes; a permanent neighbour, no more."""

_RULES = """
table inet vpc {
  set mac { type ifname . ether_addr; }
  set check { type ifname; }
  counter spoofed_mac { }
  counter spoofed_source { }
  chain source {
    type filter hook prerouting priority raw;
    iifname != "e-*" accept
    iifname . ether saddr != @mac counter name spoofed_mac drop
    ip6 saddr { ::, fe80::/10 } accept
    iifname @check fib saddr . iif oif 0 counter name spoofed_source drop
  }
}
table ip igw {
  counter igw_private { }
  set public { type ipv4_addr; }
  map inward { type ipv4_addr : ipv4_addr; }
  map outward { type ipv4_addr : ipv4_addr; }
  chain pass {
    type filter hook forward priority filter;
    iifname "igw" ct status snat,dnat accept
    iifname "igw" drop
    oifname "igw" ip saddr != @public counter name igw_private drop
  }
  chain pre {
    type nat hook prerouting priority dstnat;
    iifname "igw" dnat to ip daddr map @inward
  }
  chain post {
    type nat hook postrouting priority srcnat;
    oifname "igw" snat to ip saddr map @outward
  }
}
"""


class Fabric:
    """The VPC's router, and the ENIs that are plugged into it."""

    def __init__(self, names: Names) -> None:
        netns.create(names.vpc)
        self.inside = netns.Inside(names.vpc)
        self._plugged: dict[str, EniFacts] = {}
        self._public: dict[IPv4Address, IPv4Address] = {}
        self._ranges: set[Network] = set()
        self.inside.call(self._begin)

    def _begin(self) -> None:
        settings = {
            "ipv4/ip_forward": 1,
            "ipv4/icmp_ratelimit": 0,
            "ipv4/conf/all/rp_filter": 0,
            "ipv4/conf/default/rp_filter": 0,
            "ipv4/conf/all/send_redirects": 0,
            "ipv4/conf/default/send_redirects": 0,
            "ipv4/conf/default/proxy_arp": 1,
        }
        if six():
            settings |= {"ipv6/conf/all/forwarding": 1}
            settings |= {"ipv6/conf/default/accept_dad": 0}
        netns.write(settings)
        tools.nft(_RULES)
        # Host scope keeps it out of the kernel's choice of a source for ICMP errors.
        tools.ip([f"addr add {IMDS}/32 dev lo scope host", f"addr add {EC2}/32 dev lo"])

    def set_vpc(self, cidrs: Iterable[Network]) -> None:
        """Take the VPC's ranges: what nobody holds in them leaves by no gateway."""
        wanted = set(cidrs)
        changes = [("del", cidr) for cidr in self._ranges - wanted]
        changes += [("add", cidr) for cidr in wanted - self._ranges]
        lines = [
            f"route {verb} unreachable {cidr} metric 4096" for verb, cidr in changes
        ]
        self.inside.call(tools.ip, lines)
        self._ranges = wanted

    def add_subnet(self, subnet: IPv4Network) -> None:
        """Be a subnet's gateway, which has its first address."""
        self.inside.call(tools.ip, [f"addr replace {subnet[1]}/32 dev lo"])

    def plug(self, eni: EniFacts, namespace: str) -> None:
        """Let an ENI appear in a node: with name, MAC and MTU, and down."""
        self.inside.call(self._plug, eni, namespace)

    def _plug(self, eni: EniFacts, namespace: str) -> None:
        if eni.id in self._plugged:
            return
        link = link_of(eni)
        elements = [f'add element inet vpc mac {{ "{link}" . {eni.mac} }}']
        if eni.source_check:
            elements.append(f'add element inet vpc check {{ "{link}" }}')
        tools.nft("\n".join(elements))
        one = f"mtu {MTU} numtxqueues 1 numrxqueues 1"
        peer = f"name {guest_link(eni)} {one} address {eni.mac} netns {namespace}"
        try:
            tools.ip([f"link add {link} {one} type veth peer {peer}"])
            netns.write({f"ipv4/neigh/{link}/proxy_delay": 0})
            tools.ip(
                [
                    f"link set {link} up",
                    f"neigh add {eni.primary} lladdr {eni.mac} dev {link}",
                    *_router6(eni),
                    *(_route("add", eni, prefix) for prefix in primary_first(eni)),
                ]
            )
        except LabError:
            self._withdraw(eni)
            raise
        self._plugged[eni.id] = eni

    def change(self, eni: EniFacts) -> None:
        """Follow EC2: other addresses, or the source check switched."""
        self.inside.call(self._change, eni)

    def _change(self, eni: EniFacts) -> None:
        old = self._plugged.get(eni.id)
        if old is None:
            return
        gone, new = old.networks - eni.networks, eni.networks - old.networks
        tools.ip(
            [
                *(_route("del", eni, prefix) for prefix in gone),
                *(_route("add", eni, prefix) for prefix in new),
            ]
        )
        if old.source_check != eni.source_check:
            verb = "add" if eni.source_check else "delete"
            tools.nft(f'{verb} element inet vpc check {{ "{link_of(eni)}" }}')
        self._plugged[eni.id] = eni

    def unplug(self, eni_id: str) -> None:
        """Take an ENI out of its node; one that is not there is fine."""
        self.inside.call(self._unplug, eni_id)

    def _unplug(self, eni_id: str) -> None:
        eni = self._plugged.pop(eni_id, None)
        if eni is not None:
            self._withdraw(eni)

    def _withdraw(self, eni: EniFacts) -> None:
        with suppress(LabError):  # never made, or gone with its node's namespace
            tools.ip([f"link del {link_of(eni)}"])
        elements = [f'delete element inet vpc mac {{ "{link_of(eni)}" . {eni.mac} }}']
        if eni.source_check:
            elements.append(f'delete element inet vpc check {{ "{link_of(eni)}" }}')
        tools.nft("\n".join(elements))

    def publish(self, public: Mapping[IPv4Address, IPv4Address]) -> None:
        """Say which private address has which public one; others have none."""
        self.inside.call(self._publish, dict(public))

    def _publish(self, public: dict[IPv4Address, IPv4Address]) -> None:
        if public == self._public:
            return
        lines = [
            "flush map ip igw inward",
            "flush map ip igw outward",
            "flush set ip igw public",
        ]
        for private, address in public.items():
            lines += [
                f"add element ip igw inward {{ {address} : {private} }}",
                f"add element ip igw outward {{ {private} : {address} }}",
                f"add element ip igw public {{ {private} }}",
            ]
        tools.nft("\n".join(lines))
        self._public = public

    def counters(self) -> dict[str, int]:
        """Return the packets dropped: spoofed_mac, spoofed_source, igw_private."""
        return self.inside.call(tools.counters)

    def close(self) -> None:
        """End the router's thread; the namespace is removed by its name."""
        self.inside.close()


def link_of(eni: EniFacts) -> str:
    """Return the router's end of an ENI (a link's name has at most 15 characters)."""
    return "e-" + eni.id.removeprefix("eni-")[:13]


def guest_link(eni: EniFacts) -> str:
    """Return the guest's end: ens5 is the primary ENI, ens6 that of device 1."""
    return f"ens{5 + eni.device + 20 * eni.card}"


def six() -> bool:
    """Tell whether this kernel has IPv6."""
    return Path("/proc/sys/net/ipv6").is_dir()


def primary_first(eni: EniFacts) -> list[Network]:
    """Return the primary address first: the others' routes lead over it."""
    first = ip_network(eni.primary)
    return sorted(eni.networks, key=lambda prefix: (prefix != first, str(prefix)))


def _router6(eni: EniFacts) -> Iterator[str]:
    if six():
        yield f"addr add {GATEWAY6}/128 dev {link_of(eni)} nodad"
        yield f"neigh add {_GUEST6} lladdr {eni.mac} dev {link_of(eni)}"


def _route(verb: str, eni: EniFacts, prefix: Network) -> str:
    if prefix == ip_network(eni.primary):
        return f"route {verb} {prefix} dev {link_of(eni)} scope link"
    via = f"{eni.primary}" if prefix.version == 4 else _GUEST6  # noqa: PLR2004
    return f"route {verb} {prefix} via {via} dev {link_of(eni)} onlink"
