"""egress-gateway: a namespace leaves the VPC through one fixed address of the node.

The address is an ENI's own, which no pod ever has.  The node has one table with the
namespace's pods in a set; what they begin towards the outside is led to that ENI and
translated there.  While the node has no such ENI it is dropped: it must not be seen
with another address.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

from attrs import field, frozen, validators

from eniplug.hooks import (
    Allocation,
    Eni,
    NftElement,
    NftTable,
    Node,
    Object,
    Pod,
    hookimpl,
)

TABLE: Final = "eniplug-egress-gateway"

ENI_BITS: Final = 0x7F
"""Where flat-routes and policy-routes have an ENI's number in a packet's mark."""


@frozen(eq=False, kw_only=True)
class EgressGateway:
    """Lets a namespace's pods out of the VPC with an ENI's own address."""

    namespace: str = ""
    """The namespace whose pods leave so; empty: every one."""

    device: int = field(default=1, validator=validators.ge(1))
    """The device number of the ENI, on each node, whose own address they leave with."""

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare the table."""
        near = ", ".join(str(cidr) for cidr in node.near if cidr.version == 4)
        outward = "ip saddr @pods ip daddr != @near"
        gateway = next((e for e in node.enis if e.device == self.device), None)
        yield NftTable(
            family="ip",
            name=TABLE,
            text=f"""set pods {{ type ipv4_addr; }}
set near {{ type ipv4_addr; flags interval; auto-merge; elements = {{ {near} }} }}
chain lead {{
  type filter hook prerouting priority dstnat + 20; policy accept;
  {outward} ct direction original {_lead(node, gateway)}
}}
{_translate(gateway, outward)}""",
        )

    @hookimpl
    def egress(self, pod: Pod, allocation: Allocation) -> Iterator[Object]:
        """Put a pod of the namespace into the set."""
        if self.namespace not in {"", pod.namespace}:
            return
        for nic in allocation.nics:
            for address in nic.addresses:
                if address.version == 4:
                    element = str(address.ip)
                    yield NftElement(
                        family="ip", table=TABLE, set="pods", element=element
                    )


def _lead(node: Node, gateway: Eni | None) -> str:
    """Set the mark by which a packet leaves by an ENI, after the layout has set its."""
    if gateway is None:
        return "drop"
    others = 0xFFFFFFFF & ~(ENI_BITS | node.settings.connmark)
    return f"meta mark set meta mark & {others:#x} | {gateway.mark:#x}"


def _translate(gateway: Eni | None, outward: str) -> str:
    own = gateway.address(4) if gateway else None
    if gateway is None or own is None:
        return ""
    return f"""chain out {{
  type nat hook postrouting priority srcnat + 5; policy accept;
  oifname "{gateway.link}" {outward} snat to {own.ip} fully-random
}}"""
