"""pod-eip: a pod has a public address of its own, and leaves the VPC with it.

The agent gets an Elastic IP for the pod's private address and gives it back once the
pod is gone.  The internet gateway translates one into the other; so what such a pod
begins towards the outside leaves by the pod's own ENI with the pod's own address,
which the node's translation (snat) would hide.
"""

from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Address
from typing import Final

from attrs import frozen

from eniplug.hooks import (
    Allocation,
    ElasticIp,
    Eni,
    NftElement,
    NftTable,
    Node,
    Object,
    Pod,
    hookimpl,
)
from eniplug.hooks.values import POD_GROUP

TABLE: Final = "eniplug-pod-eip"

ANNOTATION: Final = "eniplug/public-address"
"""The pod's own word, "true" or "false", if the runtime tells annotations."""

ENI_BITS: Final = 0x7F
"""Where flat-routes and policy-routes have an ENI's number in a packet's mark."""


@frozen(eq=False, kw_only=True)
class PodEip:
    """Gives pods of some namespaces a public address each."""

    namespaces: str = ""
    """Whose pods get one, comma-separated, or `all`; an annotation goes before."""

    waited: bool = False
    """Whether the pod begins only once the address is there."""

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare the table."""
        near = [str(cidr) for cidr in node.near if cidr.version == 4]
        lead = "\n".join(f"  {_lead(node, eni)}" for eni in node.enis)
        yield NftTable(
            family="ip",
            name=TABLE,
            text=f"""set pods {{ type ipv4_addr; }}
set near {{
  type ipv4_addr; flags interval; auto-merge;
  elements = {{ {", ".join((*near, "169.254.0.0/16"))} }}
}}
chain lead {{
  type filter hook prerouting priority dstnat + 20; policy accept;
  ip saddr != @pods return
  ip daddr @near return
  ct direction reply return
{lead}
}}
chain out {{
  type nat hook postrouting priority srcnat + 5; policy accept;
  ip saddr @pods ip daddr != @near snat to ip saddr
}}""",
        )

    @hookimpl
    def egress(self, pod: Pod, allocation: Allocation) -> Iterator[Object]:
        """Declare the address of the pod's first interface, and its way out."""
        nic = allocation.nics[0]
        if nic.eni is None or not self._heeds(pod):
            return
        for one in nic.addresses:
            if isinstance(one.ip, IPv4Address):
                yield ElasticIp(private=one.ip, eni=nic.eni.id, waited=self.waited)
                element = str(one.ip)
                yield NftElement(family="ip", table=TABLE, set="pods", element=element)

    def _heeds(self, pod: Pod) -> bool:
        said = (pod.annotations or {}).get(ANNOTATION)
        if said is not None:
            return bool(said == "true")
        chosen = {name.strip() for name in self.namespaces.split(",")} - {""}
        return "all" in chosen or pod.namespace in chosen


def _lead(node: Node, eni: Eni) -> str:
    """Set the mark by which a packet leaves by its pod's ENI, after the layout's own.

    The primary ENI's number is none: by it goes what bears no mark.
    """
    others = 0xFFFFFFFF & ~(ENI_BITS | node.settings.connmark)
    mark = 0 if eni.primary else eni.mark
    group = POD_GROUP + eni.mark
    return f"meta iifgroup {group} meta mark set meta mark & {others:#x} | {mark:#x}"
