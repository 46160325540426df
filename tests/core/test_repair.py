"""What somebody else changes on a node with many pods is put back."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from ipaddress import ip_network
from pathlib import Path

import pytest
from attrs import define, frozen

from eniplug.core.attach import Attachments
from eniplug.core.backoff import AT_ONCE, FIRST
from eniplug.core.kernel import Kernel
from eniplug.core.kernel.watch import Heard, Watch
from eniplug.core.node import NodeScope
from eniplug.core.parts import Part
from eniplug.core.plan import Planner
from eniplug.core.pool import AddressPool
from eniplug.core.repair import Repair
from eniplug.core.state import Desk, State
from eniplug.hooks import (
    HOST,
    PROTOCOL,
    Allocation,
    LinkState,
    Neighbor,
    NftTable,
    Node,
    Object,
    Pod,
    Route,
    Rule,
    Sysctl,
    Veth,
    hookimpl,
)
from eniplug.testing.builders import NODE, PRIMARY, a_pod
from kit.chains import chain
from kit.netns import inside, namespace, run
from kit.stores import stores

pytestmark = pytest.mark.root

PODS = 250
WITHIN = 10.0


@frozen(eq=False)
class OnTheNode:
    """What every node has: settings, a table of routes, rules, and a ruleset."""

    @hookimpl
    def node_objects(self, node: Node) -> Iterator[Object]:
        del node
        yield Sysctl(path="net/ipv4/ip_forward", value="1")
        yield LinkState(link="ens5", setting="up", value=1)
        yield LinkState(link="ens5", setting="mtu", value=9001)
        yield LinkState(link="ens5", setting="rp_filter", value=2)
        yield Rule(priority=1024, table=254, mark=0x80, mask=0x80, protocol=PROTOCOL)
        yield Route(destination=ip_network("10.0.0.1"), link="ens5", table=2, side=HOST)
        text = "chain out { type filter hook postrouting priority 7; counter; }"
        yield NftTable(family="inet", name="eniplug-test", text=text)


def of_pod(pod: Pod, number: int) -> tuple[Object, ...]:
    """A pod's objects on the node, with two rules."""
    link = pod.host_ifname
    address = ip_network(f"10.1.{number >> 8}.{number & 255}")
    return (
        Veth(
            name=link,
            peer=f"p{number}",
            mac=pod.mac("host"),
            peer_mac=pod.mac("pod"),
        ),
        LinkState(link=link, setting="group", value=0xE001),
        LinkState(link=link, setting="rp_filter", value=1),
        Route(destination=address, link=link, table=512, protocol=PROTOCOL, side=HOST),
        Neighbor(
            link=link, address=address.network_address, mac=pod.mac("pod"), side=HOST
        ),
        Rule(priority=512, table=512, dst=address),
        Rule(priority=1536, table=2, src=address),
    )


@define(eq=False)
class Bench:
    """A node with its repair running; the thread is in its namespace."""

    state: State
    kernel: Kernel
    scope: NodeScope
    repair: Repair
    attachments: Attachments
    parts: list[Part]
    all: list[Object]

    def whole(self) -> bool:
        return not self.kernel.check(self.all, None)

    def rests(self) -> bool:
        """Whether repair has ended, and counted, what it was at."""
        keys = [part.key for part in self.parts]
        with self.scope.held(), self.attachments.held(keys) as held:
            return not held.busy

    def provoke(self, command: str) -> None:
        """Have somebody else do something, and wait until some of it is put back."""
        count = self.repair.told()["put_back"]
        run("sh", "-c", command)
        until(lambda: self.repair.told()["put_back"] > count)

    def damage(self, command: str) -> None:
        """Have somebody else do something, and wait until it is put right."""
        self.provoke(command)
        until(self.whole)
        until(self.rests)

    @contextmanager
    def at_work_on(self, part: Part) -> Generator[None]:
        """Hold a pod as a request does, as soon as repair has let go of it."""
        end = time.monotonic() + WITHIN
        while time.monotonic() < end:
            with self.attachments.held([part.key]) as held:
                if held.parts == [part]:
                    yield
                    return
            time.sleep(0.002)
        raise AssertionError(part)

    def look(self) -> list[str]:
        """Lines of all that is compared as text, but for what the kernel does alone."""
        words = ("ip rule", "ip route show table all", "ip neigh show nud permanent")
        lines = "".join(run(*one.split()) for one in words).splitlines()
        return sorted(line for line in lines if "proto kernel" not in line)


def until(condition: Callable[[], bool], within: float = WITHIN) -> float:
    """Wait for it; returns the seconds that it took."""
    began = time.monotonic()
    while not condition():
        assert time.monotonic() - began < within
        time.sleep(0.002)
    return time.monotonic() - began


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bench]:
    """250 pods whose links end in one other namespace."""
    folder = tmp_path_factory.mktemp("repair")
    with (
        namespace() as node,
        namespace() as far,
        inside(node),
        stores(folder) as kept,
        Path("/run/netns", far).open() as netns,
    ):
        run("ip", "link", "add", "ens5", "type", "veth", "peer", "name", "p5")
        run("ip", "link", "set", "p5", "up")
        kernel = Kernel()
        state = State(kept.open(), AddressPool(0.0, time.monotonic), lambda: None)
        addresses = [ip_network(f"10.1.{n >> 8}.{n & 255}")[0] for n in range(PODS)]
        state.add_eni(PRIMARY, (PODS, 0), addresses)
        scope = NodeScope(NODE, [chain(node=OnTheNode())], kernel, state)
        attachments = Attachments(state, kernel, lambda: NODE, lambda: None)
        scope.settle()
        parts: list[Part] = []
        for number in range(PODS):
            lease = Desk(state, None).take(address=addresses[number])
            pod = a_pod(number, slot=state.open_slot())
            part = Part(
                pod=pod,
                plugins=("give", "wire"),
                allocation=Allocation.of(pod, lease),
                leased=True,
                objects=of_pod(pod, number),
                request="0" * 32,
                made=time.time(),
            )
            part = state.begin(part)
            kernel.apply(part.objects, netns.fileno(), part.alias)
            parts.append(state.live(part, {}))
        repair = Repair(kernel, state, scope, attachments)
        repair.start()
        with scope.held() as declared:
            all_of_it = [*declared, *(one for part in parts for one in part.objects)]
        yield Bench(state, kernel, scope, repair, attachments, parts, all_of_it)
        repair.stop()


DAMAGES = {
    "a rule is deleted": "ip rule del priority 512 to 10.1.0.7",
    "all rules are flushed": "ip rule flush",
    "a table of routes is flushed": "ip route flush table 512",
    "a route is replaced": "ip route replace 10.1.0.7/32 dev ens5 table 512",
    "all nftables state is flushed": "nft flush ruleset",
    "the pods' neighbours are flushed": "ip neigh flush nud permanent",
    "an ENI's link goes down": "ip link set ens5 down",
    "an ENI's link is given another MTU": "ip link set ens5 mtu 1400",
    "forwarding is switched off": "sysctl -qw net.ipv4.ip_forward=0",
    "loose filtering is switched off": "sysctl -qw net.ipv4.conf.ens5.rp_filter=1",
    "all of it": "ip rule flush; ip route flush table 512; nft flush ruleset",
}


@pytest.mark.parametrize("damage", DAMAGES.values(), ids=DAMAGES)
def test_what_others_change_is_put_back(bench: Bench, damage: str) -> None:
    before = bench.look()
    main = [line for line in before if line.startswith("3276")]

    bench.damage(damage)

    for line in main:  # the kernel's own rules, which are not put back
        priority, _, rest = line.partition(":")
        if line not in run("ip", "rule").splitlines():
            run("ip", "rule", "add", *rest.split()[2:], "priority", priority)
    assert bench.look() == before


def test_a_pods_link_that_was_down_has_its_route_again(bench: Bench) -> None:
    link = bench.parts[7].pod.host_ifname

    bench.damage(f"ip link set {link} down; ip link set {link} up")

    assert "10.1.0.7 dev" in run("ip", "route", "show", "table", "512")


def test_a_single_rule_of_a_table_is_put_back(bench: Bench) -> None:
    table = ("nft", "-s", "list", "table", "inet", "eniplug-test")
    before = run(*table)

    bench.damage("nft flush chain inet eniplug-test out")

    assert run(*table) == before


def test_what_others_have_is_left_alone(bench: Bench) -> None:
    count = bench.repair.told()["put_back"]

    run("ip", "rule", "add", "priority", "40", "to", "10.9.9.9", "table", "40")
    run("ip", "route", "add", "10.9.9.9", "dev", "ens5", "table", "40")
    run("nft", "add", "table", "ip", "somebodys")
    bench.damage("ip rule del priority 1536 from 10.1.0.1")

    assert "10.9.9.9" in run("ip", "rule")
    assert "10.9.9.9" in run("ip", "route", "show", "table", "40")
    assert "somebodys" in run("nft", "list", "tables")
    assert bench.repair.told()["put_back"] == count + 1


def test_a_pod_that_is_deleted_is_not_put_back(bench: Bench) -> None:
    part = bench.parts[9]
    key = part.key

    assert bench.attachments.bury(key, time.time() + 1)
    run("ip", "rule", "del", "priority", "512", "to", "10.1.0.8")

    gone = [one for one in part.objects if isinstance(one, Rule | Route)]
    bench.all = [one for one in bench.all if one not in part.objects]
    until(bench.whole)
    assert len(bench.kernel.check(gone, None)) == len(gone)


def test_a_request_at_work_on_a_pod_is_not_disturbed(bench: Bench) -> None:
    part = bench.parts[11]
    rule = next(one for one in part.objects if isinstance(one, Rule))
    lost = ("ip", "rule", "del", "priority", "512", "to", "10.1.0.11")

    with bench.at_work_on(part):
        run(*lost)
        run("ip", "rule", "del", "priority", "512", "to", "10.1.0.12")
        until(lambda: len(bench.kernel.check(bench.all, None)) == 1)
        assert bench.kernel.check([rule], None)

    until(bench.whole)


def test_a_fight_ends_in_ever_longer_pauses(bench: Bench) -> None:
    delete = "ip rule del priority 1024 fwmark 0x80/0x80 lookup main"
    rule = next(o for o in bench.all if isinstance(o, Rule) and o.priority == 1024)

    def is_whole() -> bool:
        return not bench.kernel.check([rule], None)

    def is_fought_over() -> bool:
        return any("priority=1024" in o for o in bench.repair.told()["fought_over"])

    deleted = 0
    while not is_fought_over():
        bench.provoke(delete)
        deleted += 1
    run("sh", "-c", delete)

    assert deleted <= AT_ONCE
    assert until(is_whole) > FIRST / 2


def test_a_plan_tells_of_a_pod_whose_link_is_gone_and_of_what_is_fought_over(
    bench: Bench,
) -> None:
    planner = Planner(bench.kernel, bench.state, bench.scope)
    pods = planner.told()["pods"]
    assert planner.told() == {"pods": pods, "scopes": [], "dead": []}
    part = bench.parts[20]
    rule = next(one for one in part.objects if isinstance(one, Rule))

    with bench.at_work_on(part):  # so that repair leaves it alone
        run("ip", "rule", "del", "priority", "512", "to", "10.1.0.20")
        (scope,) = planner.told()["scopes"]

    assert (scope["container"], scope["pod"]) == ("c20", "default/web-20")
    told = {"kind": "Rule", "wanted": str(rule), "found": None}
    assert scope["changes"] == [told]
    until(bench.whole)
    run("ip", "link", "del", part.pod.host_ifname)
    bench.all = [one for one in bench.all if one not in part.objects]
    said = planner.told()
    assert [pod["container"] for pod in said["dead"]] == ["c20"]
    assert (said["pods"], said["scopes"]) == (pods - 1, [])


def test_messages_that_are_lost_lead_to_a_look_at_everything(bench: Bench) -> None:
    heard: list[Heard] = []
    watch = Watch(heard.append, lambda _: False, buffer=1)
    for _ in range(40):
        run("ip", "rule", "add", "priority", "41", "table", "41")
        run("ip", "rule", "del", "priority", "41", "table", "41")
    watch.start()

    until(lambda: any(one.everything for one in heard))
    watch.stop()


def test_own_changes_are_not_heard(bench: Bench) -> None:
    heard: list[Heard] = []
    watch = Watch(heard.append, bench.kernel.nft.is_own)
    watch.start()
    mine = (Rule(priority=42, table=42), Sysctl(path="net/ipv4/ip_forward", value="1"))
    table = NftTable(family="ip", name="eniplug-own", text="chain c { return; }")

    bench.kernel.settle((), (*mine, table), {})
    bench.kernel.settle((*mine, table), (mine[1],), {})
    run("ip", "rule", "add", "priority", "43", "table", "43")
    run("ip", "rule", "del", "priority", "43", "table", "43")

    until(lambda: any(heard))
    watch.stop()
    assert {key[3] for one in heard for key in one.slots} == {43}
    assert not any(one.tables for one in heard)


def test_what_shaped_a_link_is_heard_of_when_it_goes() -> None:
    heard: list[Heard] = []
    with namespace() as node, inside(node):
        run("ip", "link", "add", "ens5", "type", "veth", "peer", "name", "p5")
        run("tc", "qdisc", "add", "dev", "ens5", "root", "pfifo")
        watch = Watch(heard.append, lambda _: False)
        watch.start()

        run("tc", "qdisc", "del", "dev", "ens5", "root")

        until(lambda: any("ens5" in one.links for one in heard))
        watch.stop()


def test_the_kernels_own_rules_come_back_only_when_asked_for(tmp_path: Path) -> None:
    with namespace() as node, inside(node), stores(tmp_path) as kept:
        kernel = Kernel()
        state = State(kept.open(), AddressPool(0.0, time.monotonic), lambda: None)
        scope = NodeScope(NODE, [], kernel, state)
        attachments = Attachments(state, kernel, lambda: NODE, lambda: None)
        repair = Repair(kernel, state, scope, attachments, main_rules=True)
        repair.start()
        before = run("ip", "rule"), run("ip", "-6", "rule")

        run("ip", "rule", "flush")
        run("ip", "-6", "rule", "flush")

        until(lambda: (run("ip", "rule"), run("ip", "-6", "rule")) == before)
        repair.stop()
