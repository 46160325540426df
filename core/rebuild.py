"""A lost or unreadable store, made again from what the node shows.

Every host link of ours carries an alias with its attachment's names, and a host route
leads to each pod's address.  That is enough to know which addresses are in use, and to
remove a pod when its DEL comes: what else it had goes with its link.
"""

from __future__ import annotations

import time
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from ipaddress import ip_interface
from typing import Final

import structlog
from attrs import evolve

from eniplug.core.kernel import LinkInfo
from eniplug.core.kernel.graves import GRAVES
from eniplug.core.kernel.survey import Survey
from eniplug.core.parts import AttachmentKey, Life, Part
from eniplug.hooks import Allocation, Eni, Ifb, Ip, Nic, Object, Pod, Route, Veth
from eniplug.hooks.values import POD_GROUP, ifb_name

log = structlog.get_logger()

MARK: Final = "eniplug/1 "
"""How the alias of each host link of ours begins."""

LAST_MARK: Final = 128
WORDS: Final = 4
"""What follows in it: container id, interface name, network, slot."""


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
        if link.alias.rsplit(" ", 2)[0] not in keys
    }


def marks_of(links: Mapping[str, LinkInfo], parts: Iterable[Part]) -> dict[str, int]:
    """Read each ENI's number off the link groups of its pods.

    A pod keeps its group for life, so the number must stay its ENI's.
    """
    found: dict[str, int] = {}
    for nic in (nic for part in parts for nic in part.allocation.nics):
        if nic.eni is None:
            continue
        mark = links[nic.host_ifname].group - POD_GROUP
        if 1 < mark < LAST_MARK:
            found[nic.eni.id] = mark
    return found


def parts_of(
    links: Mapping[str, LinkInfo], found: Survey, eni_of: Callable[[Ip], Eni | None]
) -> Iterator[Part]:
    """Make a live part of the links of each pod, if each host link leads to an address.

    ``eni_of`` tells whose an address is, None when it is no ENI's.  A pod of which only
    an ifb is ours has its host link from somebody else, and is swept when that is gone.
    """
    for alias, its in _by_alias(links).items():
        words = alias.removeprefix(MARK).split(" ")
        ends = [link for link in its if link.kind != "ifb"]
        nowhere = [link.name for link in ends if not _to_pods(found, link.name)]
        if len(words) != WORDS or not words[3].isdecimal() or nowhere:
            log.warning("links of ours that lead nowhere are left", links=nowhere)
            continue
        container_id, ifname, network, slot = words
        pod = Pod(
            container_id=container_id, ifname=ifname, network=network, slot=int(slot)
        )
        names = [link.name for link in its]
        log.info("found a running pod", links=names, container=container_id)
        ifbs = [
            Ifb(name=link.name, mac=link.mac, mtu=link.mtu)
            for link in its
            if link.kind == "ifb"
        ]
        if ends:
            yield _part(pod, ends, ifbs, found, eni_of)
        else:
            yield _alone(pod, ifbs, found)


def _by_alias(links: Mapping[str, LinkInfo]) -> dict[str, list[LinkInfo]]:
    """The host links of each pod: one, or more where it has further ways out."""
    pods: dict[str, list[LinkInfo]] = {}
    for _, link in sorted(ours(links).items()):
        pods.setdefault(link.alias, []).append(link)
    return pods


def _to_pods(found: Survey, link: str) -> tuple[Route, ...]:
    return tuple(
        route
        for route in found.routes.get(link, ())
        if route.destination.prefixlen == route.destination.max_prefixlen
    )


def _part(
    pod: Pod,
    links: Sequence[LinkInfo],
    ifbs: Sequence[Ifb],
    found: Survey,
    eni_of: Callable[[Ip], Eni | None],
) -> Part:
    nics = [_nic(pod, link, _to_pods(found, link.name), eni_of) for link in links]
    own = _numbered(pod, nics)
    ends = {nic.host_ifname: nic for nic in own}
    routes = [route for link in links for route in _to_pods(found, link.name)]
    pods = {route.destination for route in routes}
    veths = [
        Veth(
            name=link.name,
            peer=ends.get(link.name, own[0]).ifname,
            mac=link.mac,
            peer_mac=ends.get(link.name, own[0]).mac,
            mtu=link.mtu,
        )
        for link in links
    ]
    rules = [rule for rule in found.rules if pods & {rule.src, rule.dst}]
    addresses = {str(pod.network_address) for pod in pods}
    elements = [
        one
        for one in found.elements
        if addresses & {*one.element.split(" . "), *one.value.split(" . ")}
    ]
    objects: tuple[Object, ...] = (*veths, *ifbs, *routes, *rules, *elements)
    return _rebuilt(pod, own, objects, leased=True)


def _alone(pod: Pod, ifbs: Sequence[Ifb], found: Survey) -> Part:
    ours = {one.name for one in ifbs}
    host = next((name for name in found.routes if ifb_name(name) in ours), "")
    nic = Nic(ifname=pod.ifname, host_ifname=host, mac="", host_mac="", addresses=())
    return _rebuilt(pod, (nic,), tuple(ifbs), leased=False)


def _rebuilt(
    pod: Pod, nics: tuple[Nic, ...], objects: tuple[Object, ...], *, leased: bool
) -> Part:
    return Part(
        pod=pod,
        plugins=("rebuilt",),
        allocation=Allocation(nics=nics),
        leased=leased,
        objects=objects,
        request="",
        made=time.time(),
        life=Life.LIVE,
        result={},
    )


def _numbered(pod: Pod, nics: Sequence[Nic]) -> tuple[Nic, ...]:
    """The pod's interfaces: its links to ENIs' addresses, by network card.

    A pod behind a foreign main plugin has the first link that there is.
    """
    placed = [(nic.eni.card, nic) for nic in nics if nic.eni is not None]
    own = [nic for _, nic in sorted(placed, key=lambda one: one[0])] or nics[:1]
    return tuple(
        evolve(nic, index=i, ifname=pod.ifname_of(i), mac=pod.mac("pod", i))
        for i, nic in enumerate(own)
    )


def _nic(
    pod: Pod,
    link: LinkInfo,
    routes: Sequence[Route],
    eni_of: Callable[[Ip], Eni | None],
) -> Nic:
    addresses = [ip_interface(one.destination.network_address) for one in routes]
    return Nic(
        ifname=pod.ifname,
        host_ifname=link.name,
        mac=pod.mac("pod"),
        host_mac=link.mac,
        addresses=tuple(dict.fromkeys(addresses)),
        eni=eni_of(addresses[0].ip),
    )
