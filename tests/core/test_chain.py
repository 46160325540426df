from __future__ import annotations

import re
from collections.abc import Collection, Iterator
from ipaddress import ip_address, ip_interface
from threading import Event

import pluggy
import pytest
from attrs import frozen

from eniplug.core.chain import Chain
from eniplug.core.guard import Guard
from eniplug.hooks import (
    HOST,
    PROJECT,
    Address,
    Allocation,
    CapacityView,
    Eni,
    Lease,
    LinkState,
    Node,
    Object,
    Pod,
    Pool,
    Targets,
    Veth,
    hookimpl,
    specs,
)
from eniplug.hooks.errors import (
    ConflictError,
    NotThePodsError,
    PluginError,
    PluginSlowError,
    PoolEmptyError,
    UnsupportedError,
)

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
    taken: tuple[Lease, ...] = ()

    def take(self, *_: object, **__: object) -> Lease:
        msg = "nothing here"
        raise PoolEmptyError(msg)

    def take_pair(self, **_: object) -> tuple[Lease, Lease]:
        return self.take(), self.take()

    def take_each_card(self, **_: object) -> tuple[Lease, ...]:
        return (self.take(),)

    def held(self, **_: str) -> int:
        return 0


@frozen(eq=False, kw_only=True)
class Hangs:
    until: Event

    @hookimpl
    def egress(self) -> list[Object]:
        self.until.wait(20)
        return []


@frozen(eq=False, kw_only=True)
class Exits:
    @hookimpl
    def egress(self) -> list[Object]:
        msg = "not a good day"
        raise SystemExit(msg)


@frozen(eq=False, kw_only=True)
class Enslaves:
    """Half of it is right."""

    @hookimpl
    def setup_netns(self, pod: Pod) -> Iterator[Object]:
        yield LinkState(link=pod.host_ifname, setting="mtu", value=1500)

    @hookimpl
    def egress(self) -> Iterator[Object]:
        yield LinkState(link="ens5", setting="mtu", value=1500)


@frozen(eq=False, kw_only=True)
class Invents:
    @hookimpl
    def allocate_ip(self, pod: Pod) -> Allocation:
        return Allocation.of(pod, Lease(address=ip_address("10.0.0.8"), eni=ENI))


@frozen(eq=False, kw_only=True)
class Wraps:
    @hookimpl(wrapper=True)
    def program_routes(self) -> Iterator[None]:
        return (yield)


@frozen(eq=False, kw_only=True)
class Refuses:
    @hookimpl
    def egress(self) -> list[Object]:
        msg = "not on this node"
        raise UnsupportedError(msg)


@frozen(eq=False, kw_only=True)
class Plans:
    @hookimpl
    def plan_capacity(self) -> list[str]:
        return ["more, please"]


def chain(
    guard: Guard | None = None, skipped: Collection[str] = (), **plugins: object
) -> Chain:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    for name, plugin in reversed(plugins.items()):
        manager.register(plugin, name)
    ours = () if guard else tuple(plugins)
    return Chain(manager, tuple(plugins), guard, skipped=skipped, ours=ours)


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


# -- plugins that fail -----------------------------------------------------------------


@pytest.fixture
def release() -> Iterator[Event]:
    event = Event()
    yield event
    event.set()


def test_a_plugin_that_hangs_costs_its_pod_the_add_and_is_named(release: Event) -> None:
    guard = Guard(limit=0.5)
    both = chain(guard, links=Links(), stuck=Hangs(until=release))

    with pytest.raises(PluginSlowError, match="'stuck': egress") as caught:
        both.declare(POD, ALLOCATION, NODE)

    assert caught.value.plugin == "stuck"
    assert guard.conduct("stuck").timeouts == 1
    assert guard.conduct("links").timeouts == 0


def test_a_plugin_that_exits_does_not_take_the_agent_along() -> None:
    with pytest.raises(PluginError, match="'quits': egress raised SystemExit"):
        chain(quits=Exits()).declare(POD, ALLOCATION, NODE)


@pytest.mark.parametrize(
    ("plugin", "words"),
    [
        (Raises(), "program_routes raised OSError"),
        (Nonsense(), "egress returned 'a route, please'"),
        (Exits(), "egress raised SystemExit"),
        (Enslaves(), "egress declared .*ens5 is not the pod's"),
        (Hangs(until=Event()), "egress did not end within 0.5 s"),
    ],
    ids=["raises", "nonsense", "exits", "not-its-pods", "hangs"],
)
def test_a_pod_goes_without_a_plugin_that_may_be_skipped(
    plugin: object, words: str
) -> None:
    guard = Guard(limit=0.5)
    both = chain(guard, ["weak"], links=Links(), weak=plugin, groups=Groups())
    why: list[PluginError] = []

    declared = both.declare(POD, ALLOCATION, NODE, why.append)

    strong = chain(links=Links(), groups=Groups())
    assert declared == strong.declare(POD, ALLOCATION, NODE)
    [error] = why
    assert error.plugin == "weak"
    assert re.search(words, error.message)
    assert guard.conduct("weak").errors + guard.conduct("weak").timeouts == 1
    if isinstance(plugin, Hangs):
        plugin.until.set()


def test_an_error_inside_a_wrapper_names_the_wrapper_too() -> None:
    words = re.escape("plugin 'bad': program_routes (inside wrap) raised OSError")

    with pytest.raises(PluginError, match=words):
        chain(bad=Raises(), wrap=Wraps()).declare(POD, ALLOCATION, NODE)


def test_a_refusal_is_not_skipped() -> None:
    with pytest.raises(UnsupportedError, match="not on this node"):
        chain(skipped=["no"], no=Refuses()).declare(POD, ALLOCATION, NODE)


def test_an_address_that_the_pool_did_not_give_is_refused() -> None:
    words = re.escape("'odd': allocate_ip gave 10.0.0.8, which it did not take")

    with pytest.raises(NotThePodsError, match=words):
        chain(odd=Invents()).allocate(POD, NoPool())


def test_a_plan_of_what_is_no_action_is_refused() -> None:
    view = CapacityView(enis=(), targets=Targets(), eni_slots=1, new_enis=0)

    with pytest.raises(PluginError, match="plan_capacity returned 'more, please'"):
        chain(odd=Plans()).plan(view)


def test_what_plugins_did_is_counted() -> None:
    guard = Guard()
    both = chain(guard, links=Links(), bad=Raises())

    with pytest.raises(PluginError):
        both.declare(POD, ALLOCATION, NODE)

    told = {one["plugin"]: (one["calls"], one["errors"]) for one in guard.told()}
    assert told == {"links": (1, 0), "bad": (1, 1)}
