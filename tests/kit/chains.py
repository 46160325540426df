"""A chain of small plugins: one address, a link, and a way out."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from ipaddress import IPv4Address, ip_interface, ip_network
from threading import Event

import pluggy
from attrs import frozen

from eniplug.core.chain import Chain
from eniplug.core.guard import Guard
from eniplug.hooks import (
    HOST,
    PROJECT,
    Address,
    Allocation,
    ElasticIp,
    LinkState,
    Object,
    Pod,
    Pool,
    Route,
    Rule,
    Veth,
    hookimpl,
    specs,
)


@frozen(eq=False)
class Give:
    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        return Allocation.of(pod, pool.take())


@frozen(eq=False)
class Wire:
    @hookimpl
    def setup_netns(self, pod: Pod, allocation: Allocation) -> Iterator[Object]:
        (nic,) = allocation.nics
        yield Veth(
            name=nic.host_ifname, peer=nic.ifname, mac=nic.host_mac, peer_mac=nic.mac
        )
        yield Address(link=nic.ifname, address=nic.addresses[0])
        yield LinkState(link=nic.host_ifname, setting="rp_filter", value=1)
        yield LinkState(link=nic.host_ifname, setting="mtu", value=pod.mtu)

    @hookimpl
    def program_routes(self, allocation: Allocation) -> Iterator[Object]:
        (nic,) = allocation.nics
        gateway = ip_network(nic.gateways[0])
        yield Route(destination=gateway, link=nic.ifname)
        yield Route(
            destination=ip_network("0.0.0.0/0"), link=nic.ifname, via=nic.gateways[0]
        )
        mine = nic.addresses[0].network
        yield Route(destination=mine, link=nic.host_ifname, table=512, side=HOST)
        yield Rule(priority=600, table=512, dst=mine)


@frozen(eq=False)
class Extra:
    priority: int

    @hookimpl
    def egress(self, allocation: Allocation) -> list[Object]:
        mine = allocation.nics[0].addresses[0].network
        return [Rule(priority=self.priority, table=254, dst=mine)]


@frozen(eq=False)
class Public:
    """Wants a public address for each of the pod's."""

    waited: bool = False

    @hookimpl
    def egress(self, allocation: Allocation) -> Iterator[Object]:
        for nic in allocation.nics:
            for address in nic.addresses:
                if nic.eni is not None and isinstance(address.ip, IPv4Address):
                    yield ElasticIp(
                        private=address.ip, eni=nic.eni.id, waited=self.waited
                    )


@frozen(eq=False)
class Shared:
    """Wants one address, and one rule for it, for every pod."""

    @hookimpl
    def egress(self, pod: Pod) -> Iterator[Object]:
        address = ip_interface("169.254.9.9/32")
        yield Address(link=pod.ifname, address=address)
        yield Rule(priority=700, table=254, dst=address.network)


@frozen(eq=False)
class Fails:
    @hookimpl
    def egress(self) -> list[Object]:
        msg = "no such luck"
        raise OSError(msg)


@frozen(eq=False)
class Hangs:
    until: Event

    @hookimpl
    def egress(self) -> list[Object]:
        self.until.wait(20)
        return []


@frozen(eq=False)
class TakesLate:
    """Takes an address when nobody waits for it any more; says when it has tried."""

    until: Event
    tried: Event

    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        self.until.wait(20)
        try:
            return Allocation.of(pod, pool.take())
        finally:
            self.tried.set()


def chain(
    guard: Guard | None = None, skipped: Collection[str] = (), **plugins: object
) -> Chain:
    """Make a chain of these; their hooks run in the caller's thread without a guard."""
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    for name, plugin in reversed(plugins.items()):
        manager.register(plugin, name)
    ours = () if guard else tuple(plugins)
    return Chain(manager, tuple(plugins), guard, skipped=skipped, ours=ours)


MAIN = chain(give=Give(), wire=Wire())
