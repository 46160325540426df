"""One attachment: apply, check, remove, against the real kernel."""

from __future__ import annotations

import os
import time
from concurrent.futures import ThreadPoolExecutor
from ipaddress import ip_interface, ip_network
from itertools import count
from pathlib import Path

import pytest
from attrs import evolve

from eniplug.core.kernel import Difference, Kernel
from eniplug.core.kernel.graves import GRAVES
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
    Veth,
)
from eniplug.hooks.errors import (
    ForeignObjectError,
    InterfaceTakenError,
    KernelError,
    NetnsError,
)
from kit.nodes import GATEWAY, World, flat_pod, policy_pod, six_pod

pytestmark = pytest.mark.root

LINK = "eni00000000001"
ALIAS = "eniplug/1 abc eth0 vpc"


def test_a_flat_pod_is_in_the_kernel_as_declared(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")

    found = kernel.apply(flat_pod(), pod, ALIAS)

    assert found == ()
    (link,) = world.ip("-d", "link", "show", LINK)
    assert "UP" in link["flags"]
    assert link["operstate"] == "UP"
    assert link["mtu"] == 9001
    assert link["address"] == "02:00:00:00:00:01"
    assert link["ifalias"] == ALIAS
    assert link["group"] == str(0xE001)
    assert link["inet6_addr_gen_mode"] == "none"
    assert (link["num_tx_queues"], link["num_rx_queues"]) == (1, 1)
    (inside,) = [i for i in world.ip("addr", pod="a") if i["ifname"] == "eth0"]
    assert inside["address"] == "02:00:00:00:01:01"
    assert [(a["local"], a["prefixlen"]) for a in inside["addr_info"]] == [
        ("10.0.1.1", 32)
    ]
    assert world.run("ip", "route", pod="a").splitlines() == [
        "default via 169.254.1.1 dev eth0 ",
        "169.254.1.1 dev eth0 scope link ",
    ]
    (neighbour,) = world.ip("neigh", pod="a")
    assert neighbour["lladdr"] == "02:00:00:00:00:01"
    assert neighbour["state"] == ["PERMANENT"]
    assert world.run("ip", "route", "show", "table", "512").split() == (
        f"10.0.1.1 dev {LINK} proto 197 scope link".split()
    )
    rp_filter = Path(f"/proc/thread-self/root/proc/sys/net/ipv4/conf/{LINK}/rp_filter")
    assert rp_filter.read_text().strip() == "1"


def test_an_ipv6_pod_has_no_address_but_its_own(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")

    kernel.apply(six_pod(), pod)

    assert kernel.check(six_pod(), pod) == ()
    (inside,) = [i for i in world.ip("-6", "addr", pod="a") if i["ifname"] == "eth0"]
    (address,) = inside["addr_info"]
    assert (address["local"], address["prefixlen"]) == ("2001:db8::1", 128)
    assert address["nodad"] is True
    assert "tentative" not in address
    assert world.ip("-6", "addr", "show", LINK) in ([], [{}])
    assert kernel.remove(six_pod(), pod) == ()
    assert world.ip("-6", "rule", "show", "pref", "512") == []


def test_packets_pass_at_once(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")

    kernel.apply((*policy_pod(1), *host_address("192.0.2.1/32")), pod)

    world.run("ping", "-c1", "-W2", "192.0.2.1", pod="a")


def host_address(text: str) -> tuple[Object, ...]:
    return (Address(link="lo", address=ip_interface(text), side=HOST),)


def test_rules_and_routes_read_as_those_of_the_aws_vpc_cni(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    mark = Rule(priority=1024, table=254, mark=0x80, mask=0x80)

    kernel.apply((*policy_pod(5), mark), pod)

    routes = world.run("ip", "route").splitlines()
    assert [line.strip() for line in routes] == [
        "10.0.1.5 dev eni00000000005 scope link"
    ]
    rules = [line.split() for line in world.run("ip", "rule").splitlines()]
    for text in (
        "512: from all to 10.0.1.5 lookup main",
        "1024: from all fwmark 0x80/0x80 lookup main",
        "1536: from 10.0.1.5 lookup 2",
    ):
        assert text.split() in rules


def test_check_finds_nothing_wrong_after_apply(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    objects = (*policy_pod(1), *six_pod()[1:])

    kernel.apply(objects, pod)

    assert kernel.check(objects, pod) == ()
    assert kernel.check(objects, None) == ()


VETH, *OTHERS = flat_pod()
GROUP, RP_FILTER, _, NEIGHBOR, _, DEFAULT, ROUTE = OTHERS
RULE = policy_pod(1)[-1]
SYSCTL = Sysctl(path="net/ipv4/ip_unprivileged_port_start", value="80", side=POD)


@pytest.mark.parametrize(
    ("damage", "where", "what"),
    [
        ("ip route del 10.0.1.1 table 512", "", Difference(ROUTE)),
        ("ip neigh del 169.254.1.1 dev eth0", "a", Difference(NEIGHBOR)),
        ("ip route del default", "a", Difference(DEFAULT)),
        (f"ip link set {LINK} group 7", "", Difference(GROUP, "7")),
        (
            f"sysctl -qw net.ipv4.conf.{LINK}.rp_filter=0",
            "",
            Difference(RP_FILTER, "0"),
        ),
        (
            "ip link set eth0 mtu 1500",
            "a",
            Difference(VETH, "eth0 with MTU 1500"),
        ),
        ("ip rule del pref 1536", "", Difference(RULE)),
        (
            "sysctl -qw net.ipv4.ip_unprivileged_port_start=1024",
            "a",
            Difference(SYSCTL, "1024"),
        ),
        (
            "ip neigh replace 169.254.1.1 dev eth0 lladdr 02:00:00:00:00:99",
            "a",
            Difference(
                NEIGHBOR,
                str(Neighbor(link="eth0", address=GATEWAY, mac="02:00:00:00:00:99")),
            ),
        ),
    ],
)
def test_check_names_what_is_damaged(
    kernel: Kernel, world: World, damage: str, where: str, what: Difference
) -> None:
    pod = world.pod("a")
    objects = (*flat_pod(), RULE, SYSCTL)
    kernel.apply(objects, pod)

    world.run(*damage.split(), pod=where)

    assert kernel.check(objects, pod) == (what,)


def test_check_names_all_that_a_down_link_takes_along(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(), pod)

    world.run("ip", "link", "set", LINK, "down")

    assert kernel.check(flat_pod(), None) == (
        Difference(VETH, f"{LINK}, but down"),
        Difference(ROUTE),
    )


def test_check_of_a_pod_that_is_gone_names_everything(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")

    found = kernel.check(flat_pod(), pod)

    assert found == tuple(Difference(one) for one in flat_pod())


def test_remove_leaves_nothing(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    objects = (*policy_pod(1), *six_pod()[1:])
    node, inside = world.snapshot(), world.snapshot("a")
    kernel.apply(objects, pod, ALIAS)

    wrong = kernel.remove(objects, pod)
    kernel.reap()

    assert wrong == ()
    assert world.snapshot() == node
    assert world.snapshot("a") == inside


def test_second_remove_is_quiet(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    objects = (*policy_pod(1), *six_pod()[1:])
    kernel.apply(objects, pod)
    kernel.remove(objects, pod)

    assert kernel.remove(objects, pod) == ()
    assert kernel.remove(objects, None) == ()


def test_a_removed_pod_is_out_of_service_before_it_is_reaped(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(), pod)

    kernel.remove(flat_pod(), pod)

    dead = kernel.links()[LINK]
    assert not dead.up
    assert dead.group in GRAVES
    assert world.run("ip", "route", "show", "table", "512") == ""


def test_remove_spares_another_pods_link_of_that_name(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(), pod)
    veth = evolve(VETH, mac="02:00:00:00:77:77")

    wrong = kernel.remove((veth, *flat_pod()[1:]), pod)

    assert wrong == ()
    assert kernel.check(flat_pod(), pod) == ()


def test_a_host_name_in_use_is_refused_and_its_pod_unharmed(
    kernel: Kernel, world: World
) -> None:
    first, second = world.pod("a"), world.pod("b")
    kernel.apply(flat_pod(), first, ALIAS)
    before, beside = world.snapshot(), world.snapshot("b")
    veth = evolve(VETH, mac="02:00:00:00:77:77")

    with pytest.raises(ForeignObjectError, match=f"{LINK} is there already .*{ALIAS}"):
        kernel.apply((veth, *flat_pod()[1:]), second, "eniplug/1 other eth0 vpc")

    assert world.snapshot() == before
    assert world.snapshot("b") == beside
    assert kernel.check(flat_pod(), first) == ()


def test_an_interface_name_in_use_is_refused(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(1), pod)
    before = world.snapshot()

    with pytest.raises(InterfaceTakenError, match="eth0"):
        kernel.apply(flat_pod(2), pod)

    assert world.snapshot() == before


def test_an_interface_of_somebody_else_is_never_renamed(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    world.run("ip", "link", "add", "eth0", "type", "veth", "peer", "other", pod="a")

    with pytest.raises(InterfaceTakenError):
        kernel.apply(flat_pod(1), pod)

    assert {"eth0", "other"} <= {i["ifname"] for i in world.ip("link", pod="a")}


def test_a_pod_is_made_again_at_once_under_its_old_names(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(), pod)
    kernel.remove(flat_pod(), pod)

    kernel.apply(flat_pod(), pod)

    assert kernel.check(flat_pod(), pod) == ()
    assert kernel.reap()
    assert kernel.check(flat_pod(), pod) == ()


def test_a_dead_link_makes_way_for_a_pod_that_wants_its_name(
    kernel: Kernel, world: World
) -> None:
    first, second = world.pod("a"), world.pod("b")
    kernel.apply(flat_pod(), first)
    kernel.remove(flat_pod(), first)

    kernel.apply(flat_pod(), second)

    assert kernel.check(flat_pod(), second) == ()
    assert kernel.reap()
    assert kernel.check(flat_pod(), second) == ()


@pytest.mark.parametrize("pod_name", ["", "a"])
def test_a_link_number_in_use_is_passed_over(world: World, pod_name: str) -> None:
    pod = world.pod("a")
    taken = 5_000_000
    world.run(
        *f"ip link add other index {taken} type veth peer name far".split(),
        pod=pod_name,
    )
    kernel = Kernel(numbers=count(taken))

    kernel.apply(flat_pod(), pod, ALIAS)

    assert kernel.check(flat_pod(), pod) == ()
    (other,) = world.ip("link", "show", "other", pod=pod_name)
    assert other["ifindex"] == taken
    assert "ifalias" not in other


def test_many_threads_add_and_remove_while_namespaces_come_and_go(
    kernel: Kernel, world: World
) -> None:
    def work(number: int) -> None:
        objects = flat_pod(number)
        for _ in range(3):
            pod = world.pod(f"p{number}")
            for _ in range(3):
                with kernel.lock:
                    kernel.apply(objects, pod)
                assert kernel.check(objects, pod) == ()
                with kernel.lock:
                    assert kernel.remove(objects, pod) == ()
                kernel.reap()
            world.delete(f"p{number}")

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(work, range(1, 9)))

    assert kernel.check(flat_pod(1), None) != ()


def test_the_namespace_can_be_deleted_after_remove(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(), pod)
    kernel.remove(flat_pod(), pod)

    world.delete("a")

    end = time.monotonic() + 5
    while len(kernel.links()) > 1:
        assert time.monotonic() < end, "something holds the namespace"
    assert kernel.reap() is False


def test_no_descriptor_is_left(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    objects = (*flat_pod(), SYSCTL)
    # One socket of the host's and its namespace stay open.
    kernel.apply(objects, pod)
    kernel.remove(objects, pod)
    before = os.listdir("/proc/self/fd")

    kernel.apply(objects, pod)
    kernel.check(objects, pod)
    with pytest.raises(InterfaceTakenError):
        kernel.apply(flat_pod(2), pod)
    kernel.remove(objects, pod)
    kernel.links()

    assert os.listdir("/proc/self/fd") == before


def test_an_equal_object_of_somebody_else_is_used_and_named(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    rule = Rule(priority=512, table=512)
    world.run("ip", "rule", "add", "pref", "512", "lookup", "512")

    found = kernel.apply((*flat_pod(), rule), pod)

    assert found == (rule,)


def test_a_different_object_of_somebody_else_is_never_overwritten(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    world.run("ip", "route", "add", "10.0.1.1", "dev", "lo", "table", "512")
    before, inside = world.snapshot(), world.snapshot("a")

    with pytest.raises(ForeignObjectError, match=r"link=lo.* is there"):
        kernel.apply(flat_pod(), pod)

    assert world.snapshot() == before
    assert world.snapshot("a") == inside


def test_an_error_names_the_object_its_key_and_the_kernels_words(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    route = Route(
        destination=ip_network("10.9.0.0/16"),
        link="eth0",
        via=GATEWAY + 1,
    )

    with pytest.raises(KernelError) as caught:
        kernel.apply((*flat_pod(), route), pod)

    assert str(caught.value) == (
        "Route pod 254 10.9.0.0/16 0 0: Network is unreachable "
        f"(Nexthop has invalid gateway) (wanted: {route})"
    )


def test_an_address_is_refused_with_words_where_ipv6_is_off(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    off = Sysctl(path="net/ipv6/conf/eth0/disable_ipv6", value="1", side=POD)

    with pytest.raises(KernelError, match=r"Address pod eth0 .*Permission denied"):
        kernel.apply((*six_pod(), off), pod)


def test_a_link_that_is_not_there_is_named(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    before = world.snapshot()
    route = Route(destination=ip_network("10.9.0.0/16"), link="ens9", side=HOST)

    with pytest.raises(KernelError, match="there is no link ens9"):
        kernel.apply((*flat_pod(), route), pod)

    assert world.snapshot() == before


def test_a_pod_without_a_namespace_is_refused(kernel: Kernel, world: World) -> None:
    del world

    with pytest.raises(NetnsError):
        kernel.apply(flat_pod(), None)


def test_what_is_no_namespace_is_refused_with_nothing_changed(
    kernel: Kernel, world: World, tmp_path: Path
) -> None:
    before = world.snapshot()
    pod_rule = Rule(priority=77, table=254, side=POD)

    with (tmp_path / "file").open("w") as file:
        with pytest.raises(KernelError, match="the pod's network namespace"):
            kernel.apply(flat_pod(), file.fileno())
        with pytest.raises(KernelError, match="the pod's network namespace"):
            kernel.check(flat_pod(), file.fileno())
        (wrong,) = kernel.remove((*flat_pod(), pod_rule), file.fileno())

    assert "the pod's network namespace" in wrong
    assert world.snapshot() == before


def test_an_nft_table_is_not_one_pods(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")

    with pytest.raises(KernelError, match="the node's"):
        kernel.apply((NftTable(family="inet", name="t", text=""),), pod)


def test_what_stands_on_foreign_links_is_made_and_removed_one_by_one(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    kernel.apply(flat_pod(), pod)
    before, inside = world.snapshot(), world.snapshot("a")
    chained: tuple[Object, ...] = (
        Address(link="eth0", address=ip_interface("10.7.0.1/32")),
        Route(destination=ip_network("10.8.0.0/16"), link="eth0", via=GATEWAY),
        Rule(priority=77, table=254, side=POD),
        Route(destination=ip_network("10.7.0.1"), link=LINK, side=HOST),
    )

    kernel.apply(chained, pod)
    whole = kernel.check(chained, pod)
    wrong = kernel.remove(chained, pod)

    assert whole == ()
    assert wrong == ()
    assert world.snapshot() == before
    assert world.snapshot("a") == inside


def test_several_interfaces_of_one_pod_are_made_together(
    kernel: Kernel, world: World
) -> None:
    pod = world.pod("a")
    second = tuple(
        one for one in flat_pod(2, ifname="eth1") if not isinstance(one, Route)
    )
    objects = (*flat_pod(1), *second)

    kernel.apply(objects, pod)

    assert kernel.check(objects, pod) == ()
    assert isinstance(second[0], Veth)


def test_a_small_mtu_leaves_the_link_without_ipv6(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    objects = (evolve(VETH, mtu=1000), *flat_pod()[1:])

    kernel.apply(objects, pod)

    assert kernel.check(objects, pod) == ()


def test_link_states_of_the_pods_own_end_are_set(kernel: Kernel, world: World) -> None:
    pod = world.pod("a")
    states: tuple[LinkState, ...] = (
        LinkState(link="eth0", setting="arp_ignore", value=1, side=POD),
        LinkState(link="eth0", setting="group", value=5, side=POD),
        LinkState(link=LINK, setting="proxy_arp", value=1),
        LinkState(link=LINK, setting="mtu", value=9001),
    )

    kernel.apply((*flat_pod(), *states), pod)

    assert kernel.check(states, pod) == ()
    assert world.ip("link", "show", "eth0", pod="a")[0]["group"] == "5"
