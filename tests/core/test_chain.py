from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface

import pluggy
import pytest
from attrs import frozen

from eniplug.core.chain import Chain
from eniplug.hooks import (
    HOST,
    PROJECT,
    Address,
    Allocation,
    Eni,
    Lease,
    LinkState,
    Node,
    Object,
    Pod,
    Pool,
    Veth,
    hookimpl,
    specs,
)
from eniplug.hooks.errors import ConflictError, PluginError, PoolEmptyError

POD = Pod(container_id="c1", ifname="eth0", network="vpc")
ENI = Eni(id="eni-1", link="ens5", mac="02:00:00:00:00:01", device=0)
ALLOCATION = Allocation.of(POD, Lease(address=ip_address("10.0.0.7"), eni=ENI))
NODE = Node(
    instance_id="i-1",
    instance_type="m5.large",
    region="r",
    zone="a",
    vpc_cidrs=(),
    enis=(ENI,),
)


@frozen(eq=False, kw_only=True)
class Links:
    @hookimpl
    def setup_netns(self, pod: Pod) -> Iterator[Object]:
        yield Address(link=pod.ifname, address=ip_interface("10.0.0.7/32"))
        yield Veth(
            name=pod.host_ifname,
            peer=pod.ifname,
            mac=pod.mac("a"),
            peer_mac=pod.mac("b"),
        )


@frozen(eq=False, kw_only=True)
class Groups:
    group: int = 1

    @hookimpl
    def setup_netns(self, pod: Pod, allocation: Allocation) -> list[Object]:
        del allocation
        return [LinkState(link=pod.host_ifname, setting="group", value=self.group)]


@frozen(eq=False, kw_only=True)
class Raises:
    @hookimpl
    def program_routes(self, pod: Pod) -> Iterator[Object]:
        yield LinkState(link=pod.host_ifname, setting="mtu", value=1500)
        msg = "half-way"
        raise OSError(msg)


@frozen(eq=False, kw_only=True)
class Nonsense:
    @hookimpl
    def egress(self) -> list[str]:
        return ["a route, please"]


@frozen(eq=False, kw_only=True)
class Nobody:
    @hookimpl
    def allocate_ip(self) -> None:
        return None


@frozen(eq=False, kw_only=True)
class Empty:
    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        return Allocation.of(pod, pool.take())


@frozen(eq=False, kw_only=True)
class Watcher:
    seen: list[str]

    @hookimpl(wrapper=True)
    def setup_netns(self) -> Iterator[None]:
        self.seen.append("before")
        found = yield
        self.seen.append("after")
        return found


class NoPool:
    def take(self, *_: object, **__: object) -> Lease:
        msg = "nothing here"
        raise PoolEmptyError(msg)

    def take_pair(self, **_: object) -> tuple[Lease, Lease]:
        return self.take(), self.take()

    def take_each_card(self, **_: object) -> tuple[Lease, ...]:
        return (self.take(),)

    def held(self, **_: str) -> int:
        return 0


def chain(**plugins: object) -> Chain:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    for name, plugin in reversed(plugins.items()):
        manager.register(plugin, name)
    return Chain(manager, tuple(plugins))


def test_objects_come_by_rank_and_then_in_the_chains_order() -> None:
    declared = chain(links=Links(), groups=Groups()).declare(POD, ALLOCATION, NODE)

    assert [type(o) for o in declared] == [Veth, LinkState, Address]


def test_the_same_value_twice_is_one_object() -> None:
    declared = chain(a=Groups(), b=Groups()).declare(POD, ALLOCATION, NODE)

    assert len(declared) == 1


def test_a_contradiction_names_both_plugins() -> None:
    with pytest.raises(ConflictError, match="'a' and 'b'") as caught:
        chain(a=Groups(group=1), b=Groups(group=2)).declare(POD, ALLOCATION, NODE)

    assert caught.value.code == 7


def test_a_generator_that_raises_is_contained() -> None:
    with pytest.raises(PluginError, match="'bad': program_routes raised OSError"):
        chain(links=Links(), bad=Raises()).declare(POD, ALLOCATION, NODE)


def test_what_is_no_object_is_refused() -> None:
    with pytest.raises(PluginError, match="'odd': egress returned 'a route, please'"):
        chain(odd=Nonsense()).declare(POD, ALLOCATION, NODE)


def test_the_next_plugin_is_asked_when_one_has_no_answer() -> None:
    both = chain(nobody=Nobody(), empty=Empty())

    assert both.address_plugins == ("nobody", "empty")
    with pytest.raises(PoolEmptyError):
        both.allocate(POD, NoPool())


def test_a_wrapper_stays_around_every_plugin() -> None:
    seen: list[str] = []

    chain(links=Links(), watcher=Watcher(seen=seen)).declare(POD, ALLOCATION, NODE)

    assert seen == ["before", "after"]


def test_an_observers_error_does_not_pass() -> None:
    @frozen(eq=False)
    class Observer:
        @hookimpl
        def attached(self, pod: Pod) -> None:
            raise ValueError(pod)

    chain(observer=Observer()).observe("attached", pod=POD, allocation=ALLOCATION)


def test_a_plugin_that_does_not_implement_a_hook_is_not_called_for_it() -> None:
    assert chain(links=Links()).declare(POD, ALLOCATION, NODE)[0].side is HOST
    assert chain(links=Links()).address_plugins == ()
