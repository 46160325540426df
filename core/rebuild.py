"""A lost or unreadable store, made again from what the node shows.

Every host link of ours carries an alias with its attachment's names, and a host route
leads to each pod's address.  That is enough to know which addresses are in use, and to
remove a pod when its DEL comes: what else it had goes with its link.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from ipaddress import ip_interface
from typing import Final

import structlog

from eniplug.core.kernel import LinkInfo
from eniplug.core.kernel.graves import GRAVES
from eniplug.core.kernel.survey import Survey
from eniplug.core.parts import AttachmentKey, Life, Part
from eniplug.hooks import Allocation, Eni, Ip, Nic, Object, Pod, Route, Veth
from eniplug.hooks.values import POD_GROUP

log = structlog.get_logger()

MARK: Final = "eniplug/1 "
"""How the alias of each host link of ours begins."""

LAST_MARK: Final = 128
NAMES: Final = 3
"""What follows in it: container id, interface name, network."""


def ours(links: Mapping[str, LinkInfo]) -> dict[str, LinkInfo]:
    """The living host links that carry an alias of ours."""
    return {
        name: link
        for name, link in links.items()
        if link.alias.startswith(MARK) and link.group not in GRAVES
    }


def strangers(
    links: Mapping[str, LinkInfo], known: Collection[AttachmentKey]
) -> dict[str, LinkInfo]:
    """Those of them that belong to no known attachment."""
    keys = {(MARK + " ".join(key)) for key in known}
    return {
        name: link
        for name, link in ours(links).items()
        if link.alias.rpartition(" ")[0] not in keys
    }


def marks_of(links: Mapping[str, LinkInfo], parts: Iterable[Part]) -> dict[str, int]:
    """Read each ENI's number off the link groups of its pods.

    A pod keeps its group for life, so the number must stay its ENI's.
    """
    found: dict[str, int] = {}
    for part in parts:
        nic = part.allocation.nics[0]
        mark = links[nic.host_ifname].group - POD_GROUP
        if nic.eni is not None and 1 < mark < LAST_MARK:
            found[nic.eni.id] = mark
    return found


def parts_of(
    links: Mapping[str, LinkInfo],
    found: Survey,
    eni_of: Callable[[Ip], Eni | None],
    slot: int = 0,
) -> Iterator[Part]:
    """Make a live part of each host link of ours that leads to an address.

    ``eni_of`` tells whose an address is, None when it is no ENI's.  Slots are given
    from ``slot`` on.
    """
    for name, link in sorted(ours(links).items()):
        names = link.alias.removeprefix(MARK).split(" ")
        routes = [
            route
            for route in found.routes.get(name, ())
            if route.destination.prefixlen == route.destination.max_prefixlen
        ]
        if len(names) != NAMES or not routes:
            log.warning("a link of ours that leads nowhere is left", link=name)
            continue
        pods = {route.destination for route in routes}
        rules = [rule for rule in found.rules if pods & {rule.src, rule.dst}]
        container_id, ifname, network = names
        pod = Pod(container_id=container_id, ifname=ifname, network=network, slot=slot)
        slot += 1
        log.info("found a running pod", link=name, container=container_id)
        yield _part(pod, link, (*routes, *rules), eni_of)


def _part(
    pod: Pod,
    link: LinkInfo,
    objects: tuple[Object, ...],
    eni_of: Callable[[Ip], Eni | None],
) -> Part:
    veth = Veth(
        name=link.name,
        peer=pod.ifname,
        mac=link.mac,
        peer_mac=pod.mac("pod"),
        mtu=link.mtu,
    )
    addresses = {
        ip_interface(one.destination.network_address): None
        for one in objects
        if isinstance(one, Route)
    }
    nic = Nic(
        ifname=pod.ifname,
        host_ifname=link.name,
        mac=veth.peer_mac,
        host_mac=veth.mac,
        addresses=tuple(addresses),
        eni=eni_of(next(iter(addresses)).ip),
    )
    return Part(
        pod=pod,
        plugins=("rebuilt",),
        allocation=Allocation(nics=(nic,)),
        leased=True,
        objects=(veth, *objects),
        request=b"",
        made=time.time(),
        life=Life.LIVE,
        result={},
    )
