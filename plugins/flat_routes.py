"""flat-routes: no rule per pod, so the data path does not slow down as pods come.

A pod is one route per family in table 512, and its host link carries the number of
its ENI in its link group.  nftables reads the group and marks what must leave by a
secondary ENI; one rule per ENI turns the mark into that ENI's table.  The way out is
decided once per connection, on its first packet and after any DNAT, and kept in the
connmark.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import frozen

from eniplug.hooks import (
    HOST,
    MAIN_TABLE,
    PROTOCOL,
    Allocation,
    Eni,
    LinkState,
    Neighbor,
    NftTable,
    Node,
    Object,
    Route,
    Rule,
    hookimpl,
)
from eniplug.hooks.errors import ConfigError
from eniplug.hooks.values import POD_GROUP
from eniplug.plugins._enis import PODS, elements, families, set_up
from eniplug.plugins._gateway import through_gateway

MASK: Final = 0x7F
"""The bits of the packet mark that hold the number of the ENI to leave by."""

KEEP: Final = 0xFFFFFF80
"""The bits of the packet mark that are others'."""


@frozen(eq=False, kw_only=True)
class FlatRoutes:
    """Routes pods by one table and one mark per ENI; rules do not grow with pods."""

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare the rules, the ENIs' tables and the marks."""
        connmark = node.settings.connmark
        if connmark & MASK:
            msg = f"AWS_VPC_K8S_CNI_CONNMARK={connmark:#x} shares bits with {MASK:#x}"
            raise ConfigError(msg, "flat-routes keeps the ENI's number in those bits")
        yield from set_up(node, routes=PROTOCOL, rules=PROTOCOL)
        for family in families(node):
            yield Rule(priority=512, family=family, table=PODS, protocol=PROTOCOL)
            yield Rule(
                priority=1024,
                family=family,
                mark=connmark,
                mask=connmark,
                table=MAIN_TABLE,
                protocol=PROTOCOL,
            )
            for eni in node.enis[1:]:
                yield Rule(
                    priority=1536,
                    family=family,
                    mark=eni.mark,
                    mask=MASK,
                    table=eni.table,
                    protocol=PROTOCOL,
                )
        if node.enis[1:]:
            text = marks(node)
            yield NftTable(family="inet", name="eniplug-routes", text=text)

    @hookimpl
    def program_routes(self, allocation: Allocation, node: Node) -> Iterator[Object]:
        """Declare the pod's way out, and the node's way to the pod."""
        for nic in allocation.nics:
            yield from through_gateway(nic)
            if nic.eni is not None:
                group = POD_GROUP + nic.eni.mark
                yield LinkState(link=nic.host_ifname, setting="group", value=group)
            # Strict: a pod cannot send with an address that is not its own.
            yield LinkState(link=nic.host_ifname, setting="rp_filter", value=1)
            for address in nic.addresses:
                own = node.primary.address(address.version)
                yield Route(
                    destination=address.network,
                    link=nic.host_ifname,
                    src=own.ip if own else None,
                    table=PODS,
                    protocol=PROTOCOL,
                    side=HOST,
                )
                yield Neighbor(
                    link=nic.host_ifname, address=address.ip, mac=nic.mac, side=HOST
                )


def marks(node: Node) -> str:
    """Write the table that turns link groups into marks."""
    back = node.settings.connmark
    near = [cidr for cidr in node.near if cidr.version == 4]  # noqa: PLR2004
    way = ", ".join(f"{POD_GROUP + e.mark} : goto eni-{e.mark}" for e in node.enis[1:])
    parts = [
        f"set near4 {{ type ipv4_addr; flags interval; auto-merge; {elements(near)} }}",
        f"map way {{ typeof meta iifgroup : verdict; elements = {{ {way} }} }}",
    ]
    if node.settings.node_port_support:
        parts.append(
            f"""chain arrive {{
  type nat hook prerouting priority dstnat - 10; policy accept;
  iifname "{node.primary.link}" ct mark set ct mark | {back:#x}
}}"""
        )
    parts.append(
        f"""chain off-vpc {{
  ct mark set ct mark | {back:#x}
  meta mark set meta mark | {back:#x}
}}"""
    )
    parts += [_leave_by(eni, node) for eni in node.enis[1:]]
    parts.append(
        """chain leave {
  type filter hook prerouting priority dstnat + 10; policy accept;
  meta iifgroup vmap @way
}"""
    )
    return "\n".join(parts)


def _leave_by(eni: Eni, node: Node) -> str:
    back = node.settings.connmark
    off = "ct status & confirmed == 0x0 ip daddr != @near4 goto off-vpc"
    lines = [
        f"ct mark & {back:#x} != 0x0 meta mark set meta mark | {back:#x} return",
        *(() if node.settings.external_snat else (off,)),
        f"meta mark set meta mark & {KEEP:#x} | {eni.mark:#x}",
    ]
    body = "\n".join(f"  {line}" for line in lines)
    return f"chain eni-{eni.mark} {{\n{body}\n}}"
