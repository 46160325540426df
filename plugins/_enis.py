"""What every layout wants of the node's ENIs, and the numbers that layouts share."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from ipaddress import ip_network
from typing import Final

from eniplug.hooks import (
    HOST,
    MAIN_TABLE,
    Address,
    Eni,
    Family,
    LinkState,
    Network,
    Node,
    Object,
    Route,
    Rule,
    Sysctl,
)
from eniplug.hooks.values import POD_GROUP
from eniplug.plugins._gateway import DEFAULT

PODS: Final = 512
"""The table of pods' host routes, and the priority of the rule that leads to it."""

LAST_POD_GROUP: Final = POD_GROUP + 0x7F

PORTS: Final = {"prng": " fully-random", "hashrandom": " random", "none": ""}
"""AWS_VPC_K8S_CNI_RANDOMIZESNAT in the words of nftables (nft(8), "NAT statements")."""

LOOSE: Final = 2
"""rp_filter: some route back must exist (RFC 3704), by whichever interface."""


def set_up(node: Node, *, routes: int, rules: int) -> Iterator[Object]:
    """Declare forwarding, and each ENI's link, address, table and rule.

    ``routes`` and ``rules`` are the routing protocol numbers that they carry.
    """
    yield from forwarding(node, 4)
    if any(eni.address(6) for eni in node.enis):
        yield from forwarding(node, 6)
    for eni in node.enis:
        yield LinkState(link=eni.link, setting="mtu", value=node.settings.eni_mtu)
        # Replies to node ports come in by one ENI and leave by another.
        yield LinkState(link=eni.link, setting="rp_filter", value=LOOSE)
        if not eni.primary:
            yield from _secondary(eni, routes, rules)
    for cidr in node.settings.external_service_cidrs:
        yield Rule(
            priority=1535,
            family=cidr.version,
            dst=cidr,
            table=MAIN_TABLE,
            protocol=rules,
        )


def forwarding(node: Node, family: Family) -> Iterator[Object]:
    """Declare that the node passes packets of a family on."""
    if family == 4:  # noqa: PLR2004
        yield Sysctl(path="net/ipv4/ip_forward", value="1")
        return
    # A node that forwards heeds router advertisements, and so keeps its default route,
    # only when told to: before it forwards (ip-sysctl.rst, "accept_ra").
    heed = f"net/ipv6/conf/{node.primary.link}/accept_ra"
    yield Sysctl(path=heed, value="2")
    yield Sysctl(path="net/ipv6/conf/all/forwarding", value="1")


def _secondary(eni: Eni, routes: int, rules: int) -> Iterator[Object]:
    if eni.gateway(6):
        # Until the kernel is sure that the link's own address is unique it cannot ask
        # for the router's, and pods reach nothing (RFC 4862, 5.4); in a VPC it is.
        unasked = f"net/ipv6/conf/{eni.link}/accept_dad"
        yield Sysctl(path=unasked, value="0")
    yield LinkState(link=eni.link, setting="up", value=1)
    for address in eni.addresses:
        yield Address(link=eni.link, address=address, side=HOST)
    for gateway in eni.gateways:
        yield Route(
            destination=ip_network(gateway),
            link=eni.link,
            table=eni.table,
            protocol=routes,
            side=HOST,
        )
        yield Route(
            destination=DEFAULT[gateway.version],
            via=gateway,
            link=eni.link,
            table=eni.table,
            protocol=routes,
            side=HOST,
        )
    for address in eni.addresses:
        yield Rule(
            priority=32765,
            family=address.version,
            src=ip_network(address.ip),
            table=eni.table,
            protocol=rules,
        )


def elements(cidrs: Iterable[Network]) -> str:
    """Write a set's elements for nftables; nothing when there are none."""
    found = ", ".join(str(cidr) for cidr in cidrs)
    return f"elements = {{ {found} }}" if found else ""


def families(node: Node) -> tuple[Family, ...]:
    """The families in which the node has an address."""
    both: tuple[Family, ...] = (4, 6)
    return tuple(f for f in both if node.primary.address(f))
