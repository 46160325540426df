"""A node's ENIs as the metadata service alone tells them, where EC2 may not be asked.

It does not tell tags, attachments, interface types or what goes with the instance, so
an ENI from here is an ordinary one that nobody made for pods.
"""

from __future__ import annotations

from ipaddress import IPv4Network, IPv6Network

from eniplug.core.ec2 import EniFacts
from eniplug.core.imds import Metadata


def enis(metadata: Metadata) -> tuple[EniFacts, ...]:
    """Describe the instance's ENIs, by card and device.

    One that is told only in part (it is being attached or detached), or that has no
    IPv4 address (one for EFA alone), is left out.  Raises CloudError when there is no
    answer.
    """
    found = (eni(metadata, mac) for mac in metadata.macs())
    whole = [one for one in found if one is not None]
    return tuple(sorted(whole, key=lambda one: (one.card, one.device or 0)))


def eni(metadata: Metadata, mac: str) -> EniFacts | None:
    """Describe one ENI; None if it is not told whole."""
    eni_id, device = metadata.interface_id(mac), metadata.device_number(mac)
    addresses, cidr = metadata.local_ipv4s(mac), metadata.subnet_cidr(mac)
    if not eni_id or device is None or not addresses or cidr is None:
        return None
    blocks = metadata.blocks(mac)
    return EniFacts(
        id=eni_id,
        mac=mac,
        subnet=metadata.subnet_id(mac),
        subnet_cidr=cidr,
        address=addresses[0],
        vpc=metadata.vpc_id(mac),
        secondary=addresses[1:],
        prefixes=tuple(sorted(b for b in blocks if isinstance(b, IPv4Network))),
        subnet_cidr6=metadata.subnet_cidr6(mac),
        addresses6=metadata.ipv6s(mac),
        prefixes6=tuple(sorted(b for b in blocks if isinstance(b, IPv6Network))),
        device=device,
        card=metadata.network_card(mac),
        status="in-use",
        groups=metadata.security_groups(mac),
    )
