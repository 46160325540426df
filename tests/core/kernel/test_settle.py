"""The node's objects: settled, repaired, replaced and given up."""

from __future__ import annotations

import subprocess
import time
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from threading import Thread

import pytest
from attrs import evolve

from eniplug.core.kernel import Kernel
from eniplug.hooks import (
    HOST,
    POD,
    Address,
    LinkState,
    Neighbor,
    NftTable,
    Object,
    Route,
    Rule,
    Sysctl,
)
from eniplug.hooks.errors import ForeignObjectError, KernelError
from kit.nodes import World, flat_pod

pytestmark = pytest.mark.root

TABLE = NftTable(
    family="inet",
    name="eniplug-routes",
    text="""
    set near { type ipv4_addr; flags interval; elements = { 10.0.0.0/16 } }
    chain leave {
        type filter hook prerouting priority dstnat + 10; policy accept;
        ip daddr @near counter
    }
    """,
)
FORWARD = Sysctl(path="net/ipv4/ip_forward", value="1")
PORTS = Sysctl(path="net/ipv4/ip_local_port_range", value="32000 60999")
RP_FILTER = LinkState(link="ens6", setting="rp_filter", value=2)
UP = LinkState(link="ens6", setting="up", value=1)
ADDRESS = Address(link="ens6", address=ip_interface("10.0.2.10/24"), side=HOST)
SUBNET = Route(destination=ip_network("10.0.2.0/24"), link="ens6", table=2, side=HOST)
DEFAULT = Route(
    destination=ip_network("0.0.0.0/0"),
    link="ens6",
    via=ip_address("10.0.2.1"),
    table=2,
    onlink=True,
    side=HOST,
)
NEIGHBOR = Neighbor(
    link="ens6",
    address=ip_address("10.0.2.1"),
    mac="02:00:00:00:00:99",
    side=HOST,
)
RULE = Rule(priority=1536, table=2, mark=2, mask=0x7F)
RULE6 = evolve(RULE, family=6)
WANTED: tuple[Object, ...] = (
    FORWARD,
    PORTS,
    UP,
    RP_FILTER,
    ADDRESS,
    TABLE,
    NEIGHBOR,
    SUBNET,
    DEFAULT,
    RULE,
    RULE6,
)


@pytest.fixture
def eni(world: World) -> World:
    """A second ENI, down, as the node finds it; its far end is up."""
    world.run("ip", "link", "add", "ens6", "type", "veth", "peer", "name", "far6")
    for link in ("ens6", "far6"):
        world.run("ip", "link", "set", link, "up", "addrgenmode", "none")
    world.run("ip", "link", "set", "ens6", "down")
    return world


def nft(world: World) -> str:
    return world.run("nft", "-s", "list", "ruleset")


@contextmanager
def no_changes(world: World) -> Generator[None]:
    """Hold that nothing of the network changes meanwhile."""
    before, tables = world.snapshot(), world.run("nft", "-a", "list", "ruleset")
    heard: list[str] = []
    with subprocess.Popen(
        ["ip", "monitor", "all"], stdout=subprocess.PIPE, text=True
    ) as monitor:
        assert monitor.stdout is not None
        listener = Thread(target=lambda out=monitor.stdout: heard.extend(out))
        listener.start()
        try:
            hear(world, heard, "7.7.7.1")
            yield
            hear(world, heard, "7.7.7.2")
        finally:
            monitor.terminate()
            listener.join(5)
    notes = [line for line in heard if "pref 7" in line or "7:" in line]
    between = heard[heard.index(notes[0]) : heard.index(notes[-1])]
    assert [line for line in between if "7.7.7." not in line] == []
    assert world.snapshot() == before
    assert world.run("nft", "-a", "list", "ruleset") == tables


def hear(world: World, heard: list[str], address: str) -> None:
    """Wait until the monitor hears; the last of the two notes is a rule's going."""
    end = time.monotonic() + 5
    while not any(address in line and "Deleted" in line for line in heard):
        assert time.monotonic() < end
        world.run("ip", "rule", "add", "pref", "7", "to", address)
        world.run("ip", "rule", "del", "pref", "7", "to", address)
        time.sleep(0.02)


def test_the_node_becomes_as_it_is_wanted(kernel: Kernel, eni: World) -> None:
    kernel.settle((), WANTED, {})

    assert kernel.check(WANTED, None) == ()
    routes = eni.run("ip", "route", "show", "table", "2").splitlines()
    assert [line.strip() for line in routes] == [
        "default via 10.0.2.1 dev ens6 onlink",
        "10.0.2.0/24 dev ens6 scope link",
    ]
    rules = [line.split() for line in eni.run("ip", "rule").splitlines()]
    assert ["1536:", "from", "all", "fwmark", "0x2/0x7f", "lookup", "2"] in rules
    assert "table inet eniplug-routes" in nft(eni)
    assert eni.run("sysctl", "-n", "net.ipv4.conf.ens6.rp_filter").strip() == "2"


def test_settling_twice_is_quiet(kernel: Kernel, eni: World) -> None:
    kernel.settle((), WANTED, {})

    with no_changes(eni):
        kernel.settle(WANTED, WANTED, {})


@pytest.mark.parametrize(
    "damage",
    [
        "ip rule flush",
        "ip -6 rule flush",
        "ip route flush table 2",
        "ip addr flush dev ens6",
        "ip neigh del 10.0.2.1 dev ens6",
        "ip link set ens6 down",
        "nft flush ruleset",
        "nft delete table inet eniplug-routes",
        "nft flush table inet eniplug-routes",
        "sysctl -qw net.ipv4.ip_forward=0",
        "sysctl -qw net.ipv4.conf.ens6.rp_filter=1",
        "ip route replace default via 10.0.2.2 dev ens6 onlink table 2",
        "ip neigh replace 10.0.2.1 dev ens6 lladdr 02:00:00:00:00:01 nud permanent",
    ],
)
def test_what_somebody_took_away_is_put_back(
    kernel: Kernel, eni: World, damage: str
) -> None:
    kernel.settle((), WANTED, {})
    eni.run(*damage.split())
    assert kernel.check(WANTED, None)

    kernel.settle(WANTED, WANTED, {})

    assert kernel.check(WANTED, None) == ()


def test_settling_for_nothing_leaves_the_node_as_it_was(
    kernel: Kernel, eni: World
) -> None:
    ports = eni.run("sysctl", "-n", PORTS.path.replace("/", "."))
    before, tables = eni.snapshot(), nft(eni)
    earlier = kernel.earlier(WANTED)
    kernel.settle((), WANTED, earlier)

    kernel.settle(WANTED, (), earlier)

    assert eni.snapshot() == before
    assert nft(eni) == tables
    assert eni.run("sysctl", "-n", PORTS.path.replace("/", ".")) == ports
    assert kernel.earlier(WANTED) == earlier


def test_earlier_values_are_read_and_absence_is_left_out(
    kernel: Kernel, eni: World
) -> None:
    del eni
    missing = LinkState(link="ens7", setting="up", value=1)
    nothing = Sysctl(path="net/ipv4/no_such_setting", value="1")

    earlier = kernel.earlier((*WANTED, missing, nothing))

    assert earlier[UP.key] == "0"
    assert len(earlier[PORTS.key].split()) == 2
    assert set(earlier) == {FORWARD.key, PORTS.key, UP.key, RP_FILTER.key}


def test_a_value_that_somebody_changed_since_is_not_restored(
    kernel: Kernel, eni: World
) -> None:
    had = (Sysctl(path="net/ipv4/ip_default_ttl", value="63"), RP_FILTER)
    kernel.settle((), had, {})
    eni.run("sysctl", "-qw", "net.ipv4.ip_default_ttl=99")
    eni.run("sysctl", "-qw", "net.ipv4.conf.ens6.rp_filter=1")

    kernel.settle(had, (), {had[0].key: "64", had[1].key: "0"})

    assert eni.run("sysctl", "-n", "net.ipv4.ip_default_ttl").strip() == "99"
    assert eni.run("sysctl", "-n", "net.ipv4.conf.ens6.rp_filter").strip() == "1"


def test_a_link_that_is_gone_is_no_obstacle_to_giving_up(
    kernel: Kernel, eni: World
) -> None:
    earlier = kernel.earlier(WANTED)
    kernel.settle((), WANTED, earlier)
    eni.run("ip", "link", "del", "ens6")

    kernel.settle(WANTED, (), earlier)

    assert "1536" not in eni.run("ip", "rule")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (DEFAULT, evolve(DEFAULT, via=ip_address("10.0.2.3"))),
        (NEIGHBOR, evolve(NEIGHBOR, mac="02:00:00:00:00:98")),
        (RULE, evolve(RULE, priority=1537)),
        (RP_FILTER, evolve(RP_FILTER, value=1)),
        (
            Route(
                destination=ip_network("2001:db8::/64"),
                link="ens6",
                via=ip_address("fe80::1"),
                side=HOST,
            ),
            Route(
                destination=ip_network("2001:db8::/64"),
                link="ens6",
                via=ip_address("fe80::2"),
                side=HOST,
            ),
        ),
        (TABLE, evolve(TABLE, text="chain other { }")),
    ],
)
def test_what_changes_is_replaced(
    kernel: Kernel, eni: World, old: Object, new: Object
) -> None:
    base = (UP, ADDRESS)
    kernel.settle((), (*base, old), {})

    kernel.settle((*base, old), (*base, new), {})

    assert kernel.check((new,), None) == ()
    assert [d.object for d in kernel.check((old,), None)] == [old]
    assert "fe80::1 " not in eni.run("ip", "-6", "route")


def test_one_table_is_replaced_and_a_foreign_one_untouched(
    kernel: Kernel, world: World
) -> None:
    world.run("nft", "add table ip kube; add chain ip kube c { counter; }")
    foreign = world.run("nft", "-a", "list", "table", "ip", "kube")
    kernel.settle((), (TABLE,), {})
    new = evolve(TABLE, text="chain only { counter; }")

    kernel.settle((TABLE,), (new,), {})

    assert world.run("nft", "-a", "list", "table", "ip", "kube") == foreign
    assert "chain only" in nft(world)
    assert "chain leave" not in nft(world)


def test_tables_change_together_or_not_at_all(kernel: Kernel, world: World) -> None:
    kernel.settle((), (TABLE,), {})
    before = world.run("nft", "-a", "list", "ruleset")
    new = evolve(TABLE, text="chain only { }")
    bad = NftTable(family="ip", name="bad", text="chain c { no such thing }")

    with pytest.raises(KernelError, match=r"inet eniplug-routes, ip bad: .*syntax"):
        kernel.settle((TABLE,), (new, bad), {})

    assert world.run("nft", "-a", "list", "ruleset") == before


def test_a_foreign_table_of_that_name_is_refused(kernel: Kernel, world: World) -> None:
    world.run("nft", "add", "table", "inet", "eniplug-routes")
    before = world.run("nft", "-a", "list", "ruleset")

    with pytest.raises(ForeignObjectError, match="inet eniplug-routes"):
        kernel.settle((), (TABLE,), {})
    kernel.settle((TABLE,), (), {})

    assert world.run("nft", "-a", "list", "ruleset") == before


def test_our_own_table_is_known_without_the_store(kernel: Kernel, world: World) -> None:
    kernel.settle((), (evolve(TABLE, text="chain old { }"),), {})

    kernel.settle((), (TABLE,), {})

    assert kernel.check((TABLE,), None) == ()
    assert "chain old" not in nft(world)


def test_without_nft_the_remedy_is_told(world: World) -> None:
    del world
    kernel = Kernel(nft="/nowhere/nft")

    with pytest.raises(KernelError, match="/nowhere/nft") as caught:
        kernel.settle((), (TABLE,), {})

    assert caught.value.details == "install nftables"


def test_a_foreign_route_is_refused_and_can_be_tried_again(
    kernel: Kernel, eni: World
) -> None:
    eni.run("ip", "route", "add", "10.0.2.0/24", "dev", "lo", "table", "2")

    with pytest.raises(ForeignObjectError, match="link=lo"):
        kernel.settle((), WANTED, {})
    eni.run("ip", "route", "del", "10.0.2.0/24", "dev", "lo", "table", "2")
    kernel.settle(WANTED, WANTED, {})

    assert kernel.check(WANTED, None) == ()


def test_a_learned_neighbour_is_made_permanent(kernel: Kernel, eni: World) -> None:
    eni.run("ip", "link", "set", "ens6", "up")
    eni.run(
        *("ip", "neigh", "add", "10.0.2.1", "dev", "ens6"),
        *("lladdr", "02:00:00:00:00:55", "nud", "reachable"),
    )

    kernel.settle((), (NEIGHBOR,), {})

    assert kernel.check((NEIGHBOR,), None) == ()


def test_a_wanted_link_that_is_missing_is_named(kernel: Kernel, world: World) -> None:
    del world

    with pytest.raises(KernelError, match="there is no link ens6"):
        kernel.settle((), (RP_FILTER,), {})


def test_a_pods_object_is_not_the_nodes(kernel: Kernel, world: World) -> None:
    del world

    with pytest.raises(KernelError, match="not the node's"):
        kernel.settle((), (evolve(SUBNET, side=POD),), {})


def test_the_host_side_of_a_pod_is_put_back(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(), pod)
    world.run("ip", "link", "set", "eni00000000001", "down", "mtu", "1500")
    lost = [difference.object for difference in kernel.check(flat_pod(), None)]

    kernel.settle(lost, lost, {})

    assert kernel.check(flat_pod(), pod) == ()


def test_a_pods_link_that_is_gone_cannot_be_put_back(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(), pod)
    world.run("ip", "link", "del", "eni00000000001")

    with pytest.raises(KernelError, match="its pod must be made again"):
        kernel.settle(flat_pod()[:1], flat_pod()[:1], {})
