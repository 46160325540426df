"""Each law can be broken: a bad plugin for each, and what the author is told."""

from __future__ import annotations

import subprocess
from collections.abc import Callable, Generator, Iterator
from ipaddress import IPv4Address, ip_interface, ip_network
from itertools import count
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field, frozen

from eniplug.core.kernel import Kernel
from eniplug.hooks import (
    POD,
    Allocation,
    CapacityView,
    ElasticIp,
    LinkState,
    NftTable,
    Object,
    Pod,
    Pool,
    Route,
    Rule,
    Sysctl,
    Veth,
    hookimpl,
)
from eniplug.hooks.errors import (
    ConfigError,
    EniplugError,
    KernelError,
    PoolEmptyError,
)
from eniplug.testing.builders import ADDRESSES, PRIMARY
from eniplug.testing.conformance import Conformance, conformance

TTL = Sysctl(path="net/ipv4/ip_default_ttl", value="63", side=POD)
NUMBERS = count()


@frozen(eq=False, kw_only=True)
class Good:
    """Sets the TTL of what a pod sends."""

    ttl: int = 63
    """Hops."""

    @hookimpl
    def setup_netns(self) -> Iterator[Object]:
        yield Sysctl(path="net/ipv4/ip_default_ttl", value=str(self.ttl), side=POD)


class Plain:
    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [TTL]


@frozen
class ByValue:
    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [TTL]


@define(eq=False)
class Changeable:
    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [TTL]


@frozen(eq=False)
class Greedy:
    @hookimpl
    def setup_netns(self, pod: Pod, kubernetes: object) -> list[Object]:
        return [TTL]


@frozen(eq=False)
class Misspelt:
    @hookimpl
    def setup_nets(self) -> list[Object]:
        return [TTL]


@frozen(eq=False)
class Idle:
    pass


@frozen(eq=False)
class Undocumented:
    ttl: int = 63
    """Hops."""

    mtu: int = 1500

    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [TTL]


@frozen(eq=False)
class Demanding:
    ttl: int
    """Hops."""

    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [TTL]


@frozen(eq=False)
class Unread:
    ttl: Path | int | None = 7
    """Hops."""

    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [TTL]


@frozen(eq=False)
class Counting:
    @hookimpl
    def setup_netns(self) -> list[Object]:
        ttl = next(NUMBERS) % 200 + 1
        return [Sysctl(path=TTL.path, value=str(ttl), side=POD)]


@frozen(eq=False)
class Remembering:
    seen: list[str] = field(factory=list)
    """Pods."""

    @hookimpl
    def setup_netns(self, pod: Pod) -> list[Object]:
        self.seen.append(pod.name)
        return [TTL]


@frozen(eq=False)
class Reading:
    @hookimpl
    def setup_netns(self) -> list[Object]:
        ttl = Path("/proc/sys/net/ipv4/ip_default_ttl").read_text()
        return [Sysctl(path=TTL.path, value=ttl.strip(), side=POD)]


@frozen(eq=False)
class Running:
    @hookimpl
    def program_routes(self) -> list[Object]:
        subprocess.run(["true"], check=True)
        return []


@frozen(eq=False)
class Words:
    @hookimpl
    def setup_netns(self) -> list[str]:
        return ["ip link set eth0 up"]


@frozen(eq=False)
class InsideNode:
    @hookimpl
    def node_objects(self) -> list[Object]:
        return [TTL]


@frozen(eq=False)
class TableForEach:
    @hookimpl
    def egress(self, pod: Pod) -> list[Object]:
        return [NftTable(family="ip", name=f"t{pod.slot}", text="")]


@frozen(eq=False)
class NodesTtl:
    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [Sysctl(path=TTL.path, value="63")]


@frozen(eq=False)
class OneRuleForAll:
    @hookimpl
    def egress(self) -> list[Object]:
        return [Rule(priority=99, table=99)]


@frozen(eq=False)
class TwoMinds:
    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [TTL]

    @hookimpl
    def program_routes(self) -> list[Object]:
        return [Sysctl(path=TTL.path, value="1", side=POD)]


@frozen(eq=False)
class Contradicting:
    @hookimpl
    def setup_netns(self, pod: Pod) -> list[Object]:
        mac = "02:00:00:00:00:01"
        name = pod.host_ifname
        return [Veth(name=name, peer=pod.ifname, mac=mac, peer_mac=mac)]


@frozen(eq=False)
class Swapping:
    @hookimpl(wrapper=True)
    def setup_netns(self) -> Generator[None, Any, list[Any]]:
        yield
        return []


@frozen(eq=False)
class Forging:
    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        lease = pool.take()
        pool.take()
        return Allocation.of(pod, lease)


@frozen(eq=False)
class Swallowing:
    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        try:
            return Allocation.of(pod, pool.take())
        except PoolEmptyError as error:
            raise ConfigError("there is nothing") from error


@frozen(eq=False)
class NoNetwork:
    """Takes an address with its length where a network is wanted."""

    @hookimpl
    def program_routes(self, pod: Pod) -> list[Object]:
        there: Any = ip_interface(f"10.9.0.{pod.slot}")
        return [Route(destination=there, link=pod.ifname)]


@frozen(eq=False)
class Slow:
    @hookimpl
    def setup_netns(self) -> list[Object]:
        return [TTL] if sum(range(200_000)) else []


@frozen(eq=False)
class SlowGift:
    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation | None:
        return Allocation.of(pod, pool.take()) if sum(range(200_000)) else None


@frozen(eq=False)
class Dice:
    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        return Allocation.of(pod, pool.take(address=ADDRESSES[next(NUMBERS) % 8]))


@frozen(eq=False)
class SlowPlan:
    @hookimpl
    def plan_capacity(self, view: CapacityView) -> list[Any]:
        return [] if sum(range(200_000)) else [view]


@frozen(eq=False)
class OnTheEni:
    """Changes what is no pod's, and would stay."""

    @hookimpl
    def setup_netns(self, pod: Pod) -> list[Object]:
        return [LinkState(link=PRIMARY.link, setting="proxy_arp", value=1)]


@frozen(eq=False)
class NoSuchLink:
    @hookimpl
    def program_routes(self, pod: Pod) -> list[Object]:
        net = ip_network(f"10.9.0.{pod.slot}")
        return [Route(destination=net, link="absent0")]


@frozen(eq=False)
class OnePublicForAll:
    """Wants a public address for what is no pod's."""

    @hookimpl
    def egress(self) -> list[Object]:
        return [ElasticIp(private=IPv4Address("10.0.0.4"), eni=PRIMARY.id)]


BAD: list[tuple[object, str, str]] = [
    (Plain(), "frozen_attrs", "Plain is no attrs class: decorate it with @frozen"),
    (ByValue(), "frozen_attrs", r"ByValue compares by value: say @frozen\(eq=False"),
    (Changeable(), "frozen_attrs", "Changeable can be changed: say @frozen"),
    (Greedy(), "every_hook_asks", "kubernetes"),
    (Misspelt(), "every_hook_asks", "setup_nets"),
    (Idle(), "every_hook_asks", "implements no hook: mark its methods with @hookimpl"),
    (Undocumented(), "every_option", "option 'mtu' is not documented: write"),
    (Demanding(ttl=1), "every_option", "option 'ttl' has no default: give it one"),
    (Remembering(), "options_come_back", "option 'seen' is a list: use bool, int"),
    (Unread(), "options_come_back", "cannot be read"),
    (Counting(), "hooks_are_pure", "setup_netns said .*, and later .*: let it follow"),
    (Dice(), "hooks_are_pure", "allocate_ip said .*, and later"),
    (Reading(), "no_input_or_output", "a hook did open.*ip_default_ttl"),
    (Running(), "no_input_or_output", "a hook did .*: declare objects instead"),
    (Words(), "valid_and_of_the_right", "gave 'ip link set eth0 up', which is no obj"),
    (InsideNode(), "valid_and_of_the_right", "node_objects gave Sysctl.*: a node has"),
    (TableForEach(), "valid_and_of_the_right", "gave table t0: declare it by node_obj"),
    (NodesTtl(), "valid_and_of_the_right", "declare the node's by node_objects"),
    (OneRuleForAll(), "keys_are_distinct", "two pods, .* declare Rule.priority=99"),
    (OnePublicForAll(), "keys_are_distinct", "two pods, .* declare ElasticIp"),
    (OnePublicForAll(), "others_declare", "10.0.0.4 of eni-1 was not given to this"),
    (TwoMinds(), "keys_are_distinct", "contradict each other"),
    (Contradicting(), "others_declare", "contradict each other: Veth.*: leave it to"),
    (
        Swapping(),
        "others_declare",
        "makes Veth.* go away: a wrapper returns",
    ),
    (Forging(), "what_was_taken", r"gave 10\.0\.0\.\d+, took 10.*, 10.*: give what"),
    (Swallowing(), "empty_pool", "raise ConfigError.*: let PoolEmptyError pass"),
    (NoNetwork(), "survives_the_agents_restart", "came back as .*: use fields' own"),
    (
        Slow(),
        "no_hook_is_slow",
        r"setup_netns: 99 of 100 calls took .* ms: 1.00 ms",
    ),
    (SlowGift(), "no_hook_is_slow", "allocate_ip: 99 of 100"),
    (SlowPlan(), "no_hook_is_slow", "plan_capacity: 99 of 100"),
]
ON_A_KERNEL: list[tuple[object, str, str]] = [
    (OnTheEni(), "attach_then_detach", "link ens5 is not the pod's"),
    (NoSuchLink(), "attach_then_detach", "there is no link absent0"),
]


def law(plugin: object, name: str, **fields: object) -> Callable[[], None]:
    """One law over a plugin."""
    suite = conformance(plugin, p99=0.001, **fields)()
    [found] = [one for one in laws() if name in one]
    test: Callable[[], None] = getattr(suite, found)
    return test


def test_there_is_a_bad_plugin_for_each_law() -> None:
    broken = [name for _, name, _ in (*BAD, *ON_A_KERNEL)] + ["failure_at_any_step"]

    assert [one for one in laws() if not any(name in one for name in broken)] == []


def laws() -> list[str]:
    return [name for name in dir(Conformance) if name.startswith("test_")]


def named(rows: list[tuple[object, str, str]]) -> list[Any]:
    return [pytest.param(*row, id=type(row[0]).__name__) for row in rows]


@pytest.mark.parametrize(("plugin", "name", "said"), named(BAD))
def test_a_bad_plugin_breaks_its_law(plugin: object, name: str, said: str) -> None:
    with pytest.raises(pytest.fail.Exception, match=said):
        law(plugin, name)()


@pytest.mark.root
@pytest.mark.parametrize(("plugin", "name", "said"), named(ON_A_KERNEL))
def test_a_bad_plugin_is_found_out_by_the_kernel(
    plugin: object, name: str, said: str
) -> None:
    with pytest.raises((pytest.fail.Exception, EniplugError), match=said):
        law(plugin, name)()


class Careless(Kernel):
    """Leaves something behind when an ADD fails."""

    def apply(self, *args: Any, **more: Any) -> tuple[Object, ...]:
        try:
            return super().apply(*args, **more)
        except KernelError:
            words = "ip link add left type veth peer name right"
            subprocess.run(words.split(), check=True)
            raise


@pytest.mark.root
def test_a_core_that_leaves_something_after_a_failure_is_found_out() -> None:
    with pytest.raises(
        pytest.fail.Exception, match=r"step 0 leaves a trace:\n\+ .*lef"
    ):
        law(Good(), "failure_at_any_step", kernel=Careless)()


TestGood = conformance(Good)
