"""CNI results from objects, and allocations from CNI results.

A result is never written by a plugin: it is read off the objects, on top of prevResult.
Both directions use the form of CNI 1.1.0 (SPEC.md, "ADD Success").
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import ip_address, ip_interface
from typing import Any

from eniplug.hooks import (
    MAIN_TABLE,
    POD,
    Address,
    Allocation,
    Ifb,
    Nic,
    Object,
    Pod,
    Route,
    Veth,
)
from eniplug.hooks.errors import ConfigError, DecodeError

Result = dict[str, Any]


def result_of(
    objects: Sequence[Object], pod: Pod, allocation: Allocation, netns: str
) -> Result:
    """Describe an attachment: prevResult, and what these objects add to it.

    All its links are told of, but addresses and routes only of those that the
    allocation names: by what another one has, such as a way out, nobody reaches the
    pod.  ``netns`` is the pod's namespace as the runtime named it (the result's
    sandbox).
    """
    result: Result = dict(pod.prev or {})
    for name in ("interfaces", "ips", "routes"):  # prevResult's own stay as they are
        result[name] = list(result.get(name, ()))
    interfaces: list[dict[str, Any]] = result["interfaces"]
    ips: list[dict[str, Any]] = result["ips"]
    routes: list[dict[str, Any]] = result["routes"]
    inside: dict[str, int] = {}
    named = {nic.ifname for nic in allocation.nics}
    for one in objects:
        if isinstance(one, Veth):
            interfaces.append({"name": one.name, "mac": one.mac, "mtu": one.mtu})
            if one.peer in named:
                inside[one.peer] = len(interfaces)
            interfaces.append(
                {
                    "name": one.peer,
                    "mac": one.peer_mac,
                    "mtu": one.mtu,
                    "sandbox": netns,
                }
            )
        elif isinstance(one, Ifb):
            interfaces.append({"name": one.name, "mac": one.mac, "mtu": one.mtu})
    ways = [r for r in objects if isinstance(r, Route) and r.side is POD]
    for one in objects:
        if isinstance(one, Address) and one.link in inside:
            address = {"address": str(one.address), "interface": inside[one.link]}
            for way in ways:
                default = way.destination.prefixlen == 0 and way.link == one.link
                if default and way.via and way.via.version == one.address.version:
                    address["gateway"] = str(way.via)
            ips.append(address)
    for way in ways:
        # A default route that comes last is no way that the pod goes by itself.
        if way.table == MAIN_TABLE and not way.metric and way.link in inside:
            route = {"dst": str(way.destination)}
            routes.append(route | ({"gw": str(way.via)} if way.via else {}))
    return result


def allocation_of(pod: Pod) -> Allocation:
    """Read a foreign main plugin's allocation from prevResult.

    Raises ConfigError when there is no prevResult, DecodeError when it does not tell
    of the pod's interface.
    """
    prev = pod.prev
    if prev is None:
        msg = "the entry names no address plugin and there is no prevResult"
        remedy = "name one (secondary-ip), or put the entry behind a main plugin"
        raise ConfigError(msg, remedy)
    interfaces: Sequence[Mapping[str, Any]] = prev.get("interfaces") or ()
    index = next(
        (
            i
            for i, link in enumerate(interfaces)
            if link.get("sandbox") and link.get("name") == pod.ifname
        ),
        None,
    )
    if index is None:
        msg = f"prevResult tells of no interface {pod.ifname!r} in the pod"
        raise DecodeError(msg)
    before = [link for link in interfaces[:index] if not link.get("sandbox")]
    host: Mapping[str, Any] = before[-1] if before else {}
    mine = [ip for ip in prev.get("ips") or () if ip.get("interface", index) == index]
    try:
        nic = Nic(
            ifname=pod.ifname,
            host_ifname=str(host.get("name", "")),
            mac=str(interfaces[index].get("mac", "")),
            host_mac=str(host.get("mac", "")),
            addresses=tuple(ip_interface(ip["address"]) for ip in mine),
            gateways=tuple(ip_address(ip["gateway"]) for ip in mine if "gateway" in ip),
        )
    except (KeyError, ValueError) as error:
        msg = f"prevResult's addresses cannot be read: {error}"
        raise DecodeError(msg) from error
    return Allocation(nics=(nic,))
