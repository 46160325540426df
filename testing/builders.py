"""Pods, ENIs, nodes and pools to test with: small, valid, and the same each time."""

from __future__ import annotations

from collections.abc import Iterable
from ipaddress import ip_address, ip_interface, ip_network
from typing import Final

from attrs import evolve

from eniplug.hooks import (
    Allocation,
    CapacityView,
    Eni,
    EniView,
    Ip,
    Lease,
    Node,
    Pod,
    Targets,
)
from eniplug.testing.pool import MemoryPool

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

ADDRESSES6: Final = tuple(ip_address(f"2001:db8::{n}") for n in range(10, 19))

NODE: Final = Node(
    instance_id="i-1",
    instance_type="m5.large",
    region="us-east-1",
    zone="us-east-1a",
    vpc_cidrs=(ip_network("10.0.0.0/16"),),
    enis=(PRIMARY, SECOND),
)

DUAL_NODE: Final = evolve(
    NODE,
    vpc_cidrs=(*NODE.vpc_cidrs, ip_network("2001:db8::/56")),
    enis=tuple(
        evolve(
            eni,
            addresses=(*eni.addresses, ip_interface(f"2001:db8::{4 + n}/64")),
            gateways=(*eni.gateways, ip_address("fe80::1")),
        )
        for n, eni in enumerate(NODE.enis)
    ),
)
"""The same node in a VPC with IPv6."""


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


def a_six_allocation(pod: Pod, number: int = 0, eni: Eni = PRIMARY) -> Allocation:
    """Give a pod an IPv6 address alone, out of `ADDRESSES6`."""
    return Allocation.of(pod, Lease(address=ADDRESSES6[number], eni=eni))


def a_dual_allocation(pod: Pod, number: int = 0, eni: Eni = PRIMARY) -> Allocation:
    """Give a pod an address of each family with this number."""
    both = (ADDRESSES[number], ADDRESSES6[number])
    return Allocation.of(pod, *(Lease(address=one, eni=eni) for one in both))


def a_pool(
    *holders: Pod, addresses: Iterable[Ip] = (*ADDRESSES, *ADDRESSES6)
) -> MemoryPool:
    """Make a pool of two ENIs with these addresses; ``holders`` have one each already.

    ``addresses`` are the primary ENI's, all but the last of each family.
    """
    pool = MemoryPool()
    given = tuple(addresses)
    for eni in (PRIMARY, SECOND):
        pool.add(eni)
    for version in (4, 6):
        of_one = [one for one in given if one.version == version]
        pool.fill(PRIMARY, of_one[:-1] or of_one)
        pool.fill(SECOND, of_one[1:][-1:])
    for pod in holders:
        pool.serve(pod)
    return pool


def a_view(**fields: object) -> CapacityView:
    """Make a view of a primary ENI with three idle addresses and room for six more."""
    eni = EniView(
        id=PRIMARY.id,
        primary=True,
        assigned=0,
        cooling=0,
        idle=ADDRESSES[:3],
        slots=6,
        age=3600.0,
        kept=True,
    )
    values: dict[str, object] = {
        "enis": (eni,),
        "targets": Targets(),
        "eni_slots": 9,
        "new_enis": 2,
    }
    return CapacityView(**(values | fields))  # type: ignore[arg-type]
