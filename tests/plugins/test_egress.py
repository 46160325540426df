from __future__ import annotations

from collections.abc import Iterator
from ipaddress import IPv4Network, IPv6Network, ip_address, ip_interface, ip_network

import pytest
from attrs import evolve

from eniplug.core.kernel import Kernel
from eniplug.core.manager import Catalogue, wanted
from eniplug.hooks import (
    HOST,
    POD,
    Address,
    Allocation,
    Lease,
    LinkState,
    Neighbor,
    NftTable,
    Node,
    NodeSettings,
    Object,
    Pod,
    Route,
    Rule,
    Sysctl,
    Veth,
)
from eniplug.hooks.errors import ConfigError, OptionError, RangeFullError
from eniplug.plugins.egress_v4 import EgressV4
from eniplug.plugins.egress_v6 import EgressV6
from eniplug.testing.builders import NODE, PRIMARY, SECOND, a_pod, an_allocation
from kit.nodes import World, a_world

OWN4, OWN6 = ip_interface("10.0.0.4/24"), ip_interface("2001:db8:0:1::4/128")
BOTH = evolve(NODE, enis=(evolve(PRIMARY, addresses=(OWN4, OWN6)), SECOND))
TABLE = """\
chain arrive {
  type nat hook prerouting priority dstnat - 10; policy accept;
  iifname != { "ens5", "ens6" } ip daddr 169.254.172.0/22 meta l4proto tcp reject with \
tcp reset
  ip daddr 169.254.172.0/22 reject with icmp type admin-prohibited
  meta iifgroup 57472 ip saddr != 169.254.172.0/22 drop
  meta iifgroup 57472 fib saddr . iif oif 0 drop
}
chain out {
  type nat hook postrouting priority srcnat + 10; policy accept;
  ip saddr 169.254.172.0/22 ip daddr != 224.0.0.0/4 snat to 10.0.0.4 fully-random
}
chain guard {
  type filter hook postrouting priority srcnat + 20; policy accept;
  ip saddr 169.254.172.0/22 oifname { "ens5", "ens6" } drop
}"""


@pytest.fixture
def world() -> Iterator[World]:
    with a_world("pt") as world:
        yield world


def with_ipv6(pod: Pod) -> Allocation:
    """What a pod with IPv6 alone was given."""
    lease = Lease(address=ip_address("2001:db8:0:1:1::7"), eni=PRIMARY)
    return Allocation.of(pod, lease)


def address_of(declared: Iterator[Object]) -> str:
    (address,) = (one for one in declared if isinstance(one, Address))
    return str(address.address)


# -- the node --------------------------------------------------------------------------


def test_the_node_has_one_rule_and_one_table_for_all_pods() -> None:
    assert list(EgressV4().node_objects(BOTH)) == [
        Sysctl(path="net/ipv4/ip_forward", value="1"),
        Rule(priority=512, dst=ip_network("169.254.172.0/22"), table=512, protocol=197),
        NftTable(family="ip", name="eniplug-egress-v4", text=TABLE),
    ]


def test_egress_v6_says_the_same_of_ipv6() -> None:
    *_, rule, table = EgressV6().node_objects(BOTH)

    assert isinstance(rule, Rule)
    assert (rule.family, rule.dst) == (6, ip_network("fd00::ac:0/118"))
    assert table == NftTable(
        family="ip6",
        name="eniplug-egress-v6",
        text=TABLE.replace("ip ", "ip6 ")
        .replace("icmp ", "icmpv6 ")
        .replace("169.254.172.0/22", "fd00::ac:0/118")
        .replace("224.0.0.0/4", "ff00::/8")
        .replace("10.0.0.4", "2001:db8:0:1::4"),
    )


def test_egress_is_translated_where_others_translate_for_the_vpc() -> None:
    node = evolve(BOTH, settings=NodeSettings(external_snat=True))

    assert list(EgressV4().node_objects(node)) == list(EgressV4().node_objects(BOTH))


def test_ports_are_chosen_as_the_operator_says() -> None:
    node = evolve(BOTH, settings=NodeSettings(randomize_snat="none"))

    *_, table = EgressV4().node_objects(node)

    assert isinstance(table, NftTable)
    assert table.text == TABLE.replace(" fully-random", "")


@pytest.mark.parametrize(
    ("plugin", "family"), [(EgressV4(), 6), (EgressV6(), 4)], ids=["v4", "v6"]
)
def test_a_node_without_an_address_to_lend_is_refused(
    plugin: EgressV4 | EgressV6, family: int
) -> None:
    own = {4: OWN4, 6: OWN6}[family]
    node = evolve(NODE, enis=(evolve(PRIMARY, addresses=(own,)),))

    with pytest.raises(ConfigError, match="primary ENI eni-1 has no IPv"):
        list(plugin.node_objects(node))


def test_a_range_within_the_vpc_is_refused() -> None:
    plugin = EgressV4(subnet=IPv4Network("10.0.200.0/24"))

    with pytest.raises(ConfigError, match=r"10\.0\.200\.0/24 is in the VPC's 10\.0"):
        list(plugin.node_objects(BOTH))


@pytest.mark.parametrize(
    ("plugin", "subnet"),
    [
        ("egress-v4", "169.254.172.0/31"),
        ("egress-v4", "169.254.172.1/22"),
        ("egress-v4", "fd00::ac:0/118"),
        ("egress-v6", "fd00::ac:0/127"),
        ("egress-v6", "169.254.172.0/22"),
        ("egress-v6", 7),
    ],
)
def test_an_unusable_range_is_refused_with_its_place(
    plugin: str, subnet: object
) -> None:
    with pytest.raises(OptionError, match=r"plugins\[0\]"):
        Catalogue().build(wanted([{"name": plugin, "subnet": subnet}]))


# -- a pod -----------------------------------------------------------------------------


def test_a_pod_with_ipv6_alone_gets_an_interface_for_ipv4() -> None:
    pod = a_pod(3, slot=5, mtu=1500)

    declared = list(EgressV4().egress(pod, with_ipv6(pod), BOTH))

    link = evolve(pod, ifname="v4if0").host_ifname
    gateway, own = ip_address("169.254.172.1"), ip_address("169.254.172.7")
    mac, host_mac = pod.mac("egress-v4 pod"), pod.mac("egress-v4 host")
    assert declared == [
        Veth(name=link, peer="v4if0", mac=host_mac, peer_mac=mac, mtu=1500),
        LinkState(link=link, setting="group", value=0xE080),
        LinkState(link=link, setting="rp_filter", value=1),
        Route(destination=ip_network(gateway), link="v4if0"),
        Route(destination=ip_network("0.0.0.0/0"), link="v4if0", via=gateway),
        Neighbor(link="v4if0", address=gateway, mac=host_mac),
        Address(link="v4if0", address=ip_interface(own)),
        Route(
            destination=ip_network(own),
            link=link,
            src=OWN4.ip,
            table=512,
            protocol=197,
            side=HOST,
        ),
        Neighbor(link=link, address=own, mac=mac, side=HOST),
    ]


def test_a_pod_with_ipv4_alone_gets_an_interface_with_ipv6_switched_on() -> None:
    pod = a_pod(3, slot=5)

    declared = list(EgressV6().egress(pod, an_allocation(pod), BOTH))

    assert address_of(iter(declared)) == "fd00::ac:7/128"
    path = "net/ipv6/conf/v6if0/disable_ipv6"
    assert Sysctl(path=path, value="0", side=POD) in declared


def test_a_pod_that_has_the_family_gets_nothing() -> None:
    pod = a_pod(3)

    assert list(EgressV4().egress(pod, an_allocation(pod), BOTH)) == []
    assert list(EgressV6().egress(pod, with_ipv6(pod), BOTH)) == []


@pytest.mark.parametrize("plugin", [EgressV4(), EgressV6()], ids=["v4", "v6"])
def test_each_slot_has_an_address_of_its_own_until_the_range_is_full(
    plugin: EgressV4 | EgressV6,
) -> None:
    def given(slot: int) -> str:
        pod = a_pod(3, slot=slot)
        own = with_ipv6(pod) if isinstance(plugin, EgressV4) else an_allocation(pod)
        return address_of(iter(plugin.egress(pod, own, BOTH)))

    addresses = [ip_interface(given(slot)).ip for slot in range(1021)]

    assert len(set(addresses)) == 1021
    assert all(address in plugin.subnet for address in addresses)
    assert not set(addresses) & {plugin.subnet[0], plugin.subnet[1], plugin.subnet[-1]}
    with pytest.raises(RangeFullError, match="for 1021 pods of a node"):
        given(1021)


def test_the_smallest_range_serves_one_pod() -> None:
    plugin = EgressV6(subnet=IPv6Network("fd00::/126"))
    pod = a_pod(3)

    declared = plugin.egress(pod, an_allocation(pod), BOTH)

    assert address_of(declared) == "fd00::2/128"


def test_two_interfaces_of_one_pod_never_share_a_host_link() -> None:
    pod = a_pod(3)

    links = {
        one.name
        for plugin, own in (
            (EgressV4(), with_ipv6(pod)),
            (EgressV6(), an_allocation(pod)),
        )
        for one in plugin.egress(pod, own, BOTH)
        if isinstance(one, Veth)
    }

    assert len(links | {pod.host_ifname}) == 3


@pytest.mark.root
@pytest.mark.parametrize("node", [BOTH, evolve(BOTH, enis=BOTH.enis[:1])])
def test_the_tables_are_taken_by_nft(world: World, node: Node) -> None:
    tables = tuple(
        one
        for plugin in (EgressV4(), EgressV6())
        for one in plugin.node_objects(node)
        if isinstance(one, NftTable)
    )

    Kernel().settle((), tables, {})

    assert "snat to 10.0.0.4" in world.run("nft", "list", "ruleset")
    assert "snat to 2001:db8:0:1::4" in world.run("nft", "list", "ruleset")


@pytest.mark.root
def test_what_a_pod_is_made_of_is_there_and_goes_again(world: World) -> None:
    netns, kernel = world.pod("pod"), Kernel()
    world.run("ip", "link", "add", "ens5", "type", "veth", "peer", "far")
    world.run("ip", "addr", "add", str(OWN4), "dev", "ens5")
    before = world.snapshot()
    pod = a_pod(3)
    objects = tuple(EgressV4().egress(pod, with_ipv6(pod), BOTH))

    kernel.apply(objects, netns)

    assert kernel.check(objects, netns) == ()
    (link,) = filter(None, world.ip("link", "show", "group", "0xe080"))
    assert link["ifname"] == evolve(pod, ifname="v4if0").host_ifname
    assert kernel.remove(objects, netns) == ()
    kernel.reap()
    kernel.reap()
    assert (
        world.snapshot()["-4 route show table all"]
        == (before["-4 route show table all"])
    )
