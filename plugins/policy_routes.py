"""policy-routes: the node looks as the AWS VPC CNI leaves it.

A pod is a route in the main table and one or two rules: to it at 512, from it at 1536
when its ENI is a secondary one.  The text of ``ip rule`` and ``ip route`` is the same
as with the AWS VPC CNI.  The kernel walks the rules one by one for each packet, so
prefer flat-routes where nothing depends on this layout.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network

from attrs import frozen

from eniplug.hooks import (
    HOST,
    MAIN_TABLE,
    Allocation,
    LinkState,
    Neighbor,
    NftTable,
    Node,
    Object,
    Route,
    Rule,
    hookimpl,
)
from eniplug.hooks.objects import BOOT
from eniplug.hooks.values import POD_GROUP
from eniplug.plugins._enis import LAST_POD_GROUP, elements, families, set_up
from eniplug.plugins._gateway import through_gateway


@frozen(eq=False, kw_only=True)
class PolicyRoutes:
    """Routes pods as the AWS VPC CNI does: a route and one or two rules each."""

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare the rules that all pods share, the ENIs' tables and the marks."""
        # `ip` prints neither: the text stays that of the AWS VPC CNI.
        yield from set_up(node, routes=BOOT, rules=0)
        settings = node.settings
        if settings.node_port_support or not settings.external_snat:
            for family in families(node):
                yield Rule(
                    priority=1024,
                    family=family,
                    mark=settings.connmark,
                    mask=settings.connmark,
                    table=MAIN_TABLE,
                )
            yield NftTable(family="inet", name="eniplug-policy", text=marks(node))

    @hookimpl
    def program_routes(self, allocation: Allocation) -> Iterator[Object]:
        """Declare the pod's way out, the node's way to the pod, and its rules."""
        for nic in allocation.nics:
            yield from through_gateway(nic)
            eni = nic.eni
            if eni is not None:
                group = POD_GROUP + eni.mark
                yield LinkState(link=nic.host_ifname, setting="group", value=group)
            for address in nic.addresses:
                pod, family = ip_network(address.ip), address.version
                yield Route(destination=pod, link=nic.host_ifname, side=HOST)
                yield Neighbor(
                    link=nic.host_ifname, address=address.ip, mac=nic.mac, side=HOST
                )
                yield Rule(priority=512, family=family, dst=pod, table=MAIN_TABLE)
                if eni is not None and not eni.primary:
                    yield Rule(priority=1536, family=family, src=pod, table=eni.table)


def marks(node: Node) -> str:
    """Write the table that marks connections which leave by the primary ENI.

    As the AWS VPC CNI's rules do, but after every DNAT: a cluster IP whose endpoint is
    outside the VPC works as well.
    """
    back = node.settings.connmark
    near = [cidr for cidr in node.near if cidr.version == 4]  # noqa: PLR2004
    parts = [
        f"set near4 {{ type ipv4_addr; flags interval; auto-merge; {elements(near)} }}"
    ]
    if node.settings.node_port_support:
        parts.append(
            f"""chain arrive {{
  type nat hook prerouting priority dstnat - 10; policy accept;
  iifname "{node.primary.link}" ct mark set ct mark | {back:#x}
}}"""
        )
    lines = [
        "type filter hook prerouting priority dstnat + 10; policy accept;",
        f"meta iifgroup != {POD_GROUP}-{LAST_POD_GROUP} return",
        f"ct mark & {back:#x} != 0x0 meta mark set meta mark | {back:#x} return",
    ]
    if not node.settings.external_snat:
        lines += [
            "ct status & confirmed != 0x0 return",
            "ip daddr @near4 return",
            "meta nfproto != ipv4 return",
            f"ct mark set ct mark | {back:#x}",
            f"meta mark set meta mark | {back:#x}",
        ]
    body = "\n".join(f"  {line}" for line in lines)
    return "\n".join((*parts, f"chain leave {{\n{body}\n}}"))
