"""Pods, ENIs and a node to test with: small, valid, and the same each time."""

from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

from eniplug.hooks import Allocation, Eni, Lease, Node, Pod

PRIMARY: Final = Eni(
    id="eni-1",
    link="ens5",
    mac="02:00:00:00:00:01",
    device=0,
    addresses=(ip_interface("10.0.0.4/24"),),
    gateways=(ip_address("10.0.0.1"),),
)
SECOND: Final = Eni(
    id="eni-2",
    link="ens6",
    mac="02:00:00:00:00:02",
    device=1,
    mark=2,
    table=2,
    addresses=(ip_interface("10.0.0.5/24"),),
    gateways=(ip_address("10.0.0.1"),),
)
ADDRESSES: Final = tuple(ip_address(f"10.0.0.{n}") for n in range(10, 19))

NODE: Final = Node(
    instance_id="i-1",
    instance_type="m5.large",
    region="us-east-1",
    zone="us-east-1a",
    vpc_cidrs=(ip_network("10.0.0.0/16"),),
    enis=(PRIMARY, SECOND),
)


def a_pod(number: int = 0, **fields: object) -> Pod:
    """Make a pod, ``default/web-<number>``; ``fields`` replace what it has."""
    values: dict[str, object] = {
        "container_id": f"c{number}",
        "ifname": "eth0",
        "network": "vpc",
        "namespace": "default",
        "name": f"web-{number}",
    }
    return Pod(**(values | fields))  # type: ignore[arg-type]


def an_allocation(pod: Pod, number: int = 0, eni: Eni = PRIMARY) -> Allocation:
    """Give a pod the address with this number out of `ADDRESSES`."""
    return Allocation.of(pod, Lease(address=ADDRESSES[number], eni=eni))
