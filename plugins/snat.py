"""snat: pods reach the internet with the node's address.

What leaves the node by its primary ENI for a destination outside the VPC gets the
primary ENI's own address.  Which connections leave there is the routes plugin's
decision; this one only translates.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from eniplug.hooks import NftTable, Node, Object, hookimpl
from eniplug.plugins._enis import PORTS, elements


@frozen(eq=False, kw_only=True)
class Snat:
    """Translates pods' IPv4 addresses on their way out of the VPC."""

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        """Declare the table; none when somebody outside translates."""
        own = node.primary.address(4)
        if node.settings.external_snat or own is None:
            return
        near = [cidr for cidr in node.near if cidr.version == own.version]
        snat = f"snat to {own.ip}{PORTS[node.settings.randomize_snat]}"
        text = f"""set near {{
  type ipv4_addr; flags interval; auto-merge; {elements(near)}
}}
chain out {{
  type nat hook postrouting priority srcnat + 10; policy accept;
  oifname "{node.primary.link}" ip saddr != {own.ip} ip daddr != @near {snat}
}}"""
        yield NftTable(family="ip", name="eniplug-snat", text=text)
