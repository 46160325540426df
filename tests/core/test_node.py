from __future__ import annotations

import time
from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pluggy
import pytest
from attrs import define, evolve, frozen

from eniplug.core.chain import Chain
from eniplug.core.kernel import Kernel
from eniplug.core.node import NodeScope
from eniplug.core.parts import Life, Part
from eniplug.core.pool import AddressPool
from eniplug.core.state import State
from eniplug.hooks import (
    HOST,
    PROJECT,
    PROTOCOL,
    Lease,
    LinkState,
    NftElement,
    NftTable,
    Node,
    Object,
    Route,
    Rule,
    Sysctl,
    hookimpl,
    specs,
)
from eniplug.hooks.errors import ConflictError, ForeignObjectError, KernelError
from eniplug.testing.builders import ADDRESSES, NODE, PRIMARY, SECOND, a_pod
from kit.netns import inside, namespace, run
from kit.parts import a_part
from kit.stores import Stores, stores

pytestmark = pytest.mark.root

ONE = evolve(NODE, enis=(PRIMARY,))


@frozen(eq=False)
class Rules:
    """One rule for each ENI, and two settings."""

    table: int = 254
    forward: str = "1"
    protocol: int = 0

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        for eni in node.enis:
            yield Rule(
                priority=700 + eni.mark, table=self.table, protocol=self.protocol
            )
        yield Sysctl(path="net/ipv4/ip_forward", value=self.forward)
        yield LinkState(link="ens5", setting="rp_filter", value=2)


@frozen(eq=False)
class Ports:
    """A table with a set for pods."""

    more: str = ""

    @hookimpl
    def node_objects(self) -> Iterator[Object]:
        text = f"set any {{ type inet_service; }}\n{self.more}"
        yield NftTable(family="inet", name="ports", text=text)


@frozen(eq=False)
class Ranges:
    """A rule for each range of the VPC; documentation ranges are refused."""

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        for cidr in node.vpc_cidrs:
            yield Rule(priority=700, table=254, dst=cidr)
            if cidr == ip_network("192.0.2.0/24"):
                yield LinkState(link="nowhere", setting="mtu", value=1400)


@frozen(eq=False)
class OneRoute:
    @hookimpl
    def node_objects(self) -> Iterator[Object]:
        net = ip_network("192.0.2.0/24")
        yield Route(destination=net, link="ens5", table=7, protocol=PROTOCOL, side=HOST)


@frozen(eq=False)
class Impossible:
    @hookimpl
    def node_objects(self) -> list[Object]:
        return [LinkState(link="nowhere", setting="mtu", value=1400)]


def chain(**plugins: object) -> Chain:
    manager = pluggy.PluginManager(PROJECT)
    manager.add_hookspecs(specs)
    for name, plugin in plugins.items():
        manager.register(plugin, name)
    return Chain(manager, tuple(plugins))


@define
class World:
    stores: Stores
    kernel: Kernel

    def scope(self, *chains: Chain, node: Node = ONE) -> NodeScope:
        pool = AddressPool(0.0, time.monotonic)
        state = State(self.stores.open(), pool, lambda: None)
        return NodeScope(node, chains, self.kernel, state)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with namespace() as name, inside(name), stores(tmp_path) as kept:
        run("ip", "link", "add", "ens5", "type", "veth", "peer", "name", "p5")
        yield World(kept, Kernel())


def rules() -> list[str]:
    return [line for line in run("ip", "rule").splitlines() if line.startswith("7")]


def setting(path: str) -> str:
    return run("cat", f"/proc/sys/net/ipv4/{path}").strip()


def test_the_node_is_made_as_it_is_declared_and_twice_is_quiet(world: World) -> None:
    scope = world.scope(chain(rules=Rules()))

    scope.settle()
    once = run("ip", "rule")
    scope.settle()

    assert run("ip", "rule") == once
    assert rules() == ["701:\tfrom all lookup main"]
    assert setting("ip_forward") == "1"
    assert setting("conf/ens5/rp_filter") == "2"


def test_an_eni_comes_and_goes(world: World) -> None:
    scope = world.scope(chain(rules=Rules()))
    scope.settle()

    scope.adopt(SECOND)
    assert [e.id for e in scope.node.enis] == ["eni-1", "eni-2"]
    assert len(rules()) == 2

    scope.leave(SECOND.id)
    assert [e.id for e in scope.node.enis] == ["eni-1"]
    assert len(rules()) == 1


def test_a_restart_changes_only_what_is_declared_otherwise(world: World) -> None:
    world.scope(chain(rules=Rules()), node=NODE).settle()
    run("ip", "rule", "add", "priority", "799", "table", "main")

    world.scope(chain(rules=Rules(table=255))).settle()

    assert rules() == ["701:\tfrom all lookup local", "799:\tfrom all lookup main"]


def test_a_restart_puts_back_what_was_flushed(world: World) -> None:
    world.scope(chain(rules=Rules())).settle()
    run("ip", "rule", "del", "priority", "701")

    world.scope(chain(rules=Rules())).settle()

    assert rules() == ["701:\tfrom all lookup main"]


def test_settings_that_are_no_longer_wanted_get_their_earlier_value(
    world: World,
) -> None:
    run("sysctl", "-q", "-w", "net.ipv4.conf.ens5.rp_filter=1")
    world.scope(chain(rules=Rules())).settle()

    world.scope().settle()

    assert setting("conf/ens5/rp_filter") == "1"
    assert setting("ip_forward") == "0"
    assert rules() == []


def test_a_chain_of_a_request_is_settled_at_its_first_use(world: World) -> None:
    scope = world.scope()
    extra = chain(rules=Rules())

    scope.use(extra)
    scope.use(extra)

    assert len(rules()) == 1


@pytest.mark.parametrize("damage", ["nft flush ruleset", "true"])
def test_a_table_that_is_made_anew_has_the_pods_elements(
    world: World, damage: str
) -> None:
    def port(number: int) -> NftElement:
        return NftElement(family="inet", table="ports", set="any", element=f"{number}")

    def part(number: int) -> Part:
        pod = a_pod(number, slot=number)
        lease = Lease(address=ADDRESSES[number], eni=PRIMARY)
        return evolve(a_part(pod, lease), objects=(port(number),))

    pool = AddressPool(0.0, time.monotonic)
    state = State(world.stores.open(), pool, lambda: None)
    scope = NodeScope(ONE, [chain(ports=Ports())], world.kernel, state)
    scope.settle()
    begun, made, live, dying = (state.begin(part(number)) for number in range(4))
    world.kernel.apply([port(1), port(2), port(3)], None)
    state.live(live, {})
    state.dying(dying)
    run(*damage.split())

    NodeScope(ONE, [chain(ports=Ports("chain more { }"))], world.kernel, state).settle()

    there = run("nft", "list", "set", "inet", "ports", "any")
    assert begun.life is made.life is Life.PENDING
    assert "chain more" in run("nft", "list", "table", "inet", "ports")
    # What an ADD under way has made must stay, what it has not is for it to make.
    wanted = "2" if "flush" in damage else "1, 2"
    assert f"elements = {{ {wanted} }}" in there


def test_chains_that_contradict_each_other_change_nothing(world: World) -> None:
    scope = world.scope(chain(rules=Rules()))
    scope.settle()

    with pytest.raises(ConflictError):
        scope.use(chain(other=Rules(forward="0")))

    assert setting("ip_forward") == "1"
    scope.settle()


def test_what_the_kernel_refuses_does_not_change_the_node(world: World) -> None:
    scope = world.scope(chain(rules=Rules()))
    scope.settle()

    with pytest.raises(KernelError, match="nowhere"):
        scope.use(chain(bad=Impossible()))

    scope.adopt(SECOND)
    assert len(rules()) == 2


def test_what_was_there_before_is_used_and_stays(world: World) -> None:
    run("ip", "rule", "add", "priority", "701", "table", "main")
    world.scope(chain(rules=Rules()), node=NODE).settle()
    world.scope(chain(rules=Rules()), node=NODE).settle()
    assert len(rules()) == 2

    world.scope().settle()

    assert rules() == ["701:\tfrom all lookup main"]


def test_what_bears_our_protocol_is_ours_also_when_the_store_is_new(
    world: World,
) -> None:
    run("ip", "rule", "add", "priority", "701", "table", "main", "protocol", "197")
    scope = world.scope(chain(rules=Rules(protocol=PROTOCOL)))

    scope.settle()
    world.scope().settle()

    assert rules() == []


def test_other_cidrs_of_the_vpc_are_settled_and_a_refusal_changes_nothing(
    world: World,
) -> None:
    scope = world.scope(chain(ranges=Ranges()))
    scope.settle()

    scope.vpc_is((ip_network("100.64.0.0/16"),))
    with pytest.raises(KernelError):
        scope.vpc_is((ip_network("192.0.2.0/24"),))

    assert rules() == ["700:\tfrom all to 100.64.0.0/16 lookup main"]
    assert scope.node.vpc_cidrs == (ip_network("100.64.0.0/16"),)


def test_what_was_refused_as_foreign_is_foreign_at_the_next_start_as_well(
    world: World,
) -> None:
    run("ip", "link", "set", "ens5", "up")
    run("ip", "route", "add", "192.0.2.0/24", "dev", "ens5", "table", "7")
    before = run("ip", "route", "show", "table", "7")

    for _ in range(2):
        with pytest.raises(ForeignObjectError):
            world.scope(chain(rules=Rules(), route=OneRoute())).settle()

    assert run("ip", "route", "show", "table", "7") == before
    world.scope().settle()
    assert rules() == []
    assert run("ip", "route", "show", "table", "7") == before
