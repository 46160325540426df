from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from eniplug.core.kernel import Kernel
from eniplug.hooks import (
    HOST,
    MAIN_TABLE,
    PROTOCOL,
    Address,
    Allocation,
    Eni,
    LinkState,
    Neighbor,
    NftTable,
    Node,
    NodeSettings,
    Object,
    Route,
    Rule,
    Sysctl,
)
from eniplug.hooks.errors import ConfigError
from eniplug.plugins.flat_routes import FlatRoutes
from eniplug.testing.builders import NODE, PRIMARY, SECOND, a_pod, an_allocation
from kit.nodes import World, a_world

GATEWAY = ip_address("169.254.1.1")
GATEWAY6 = ip_address("fe80::1")
ANY = ip_network("0.0.0.0/0")
ANY6 = ip_network("::/0")

ALONE = evolve(NODE, enis=(PRIMARY,))
TEXT = """\
set near4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/16 } }
map way { typeof meta iifgroup : verdict; elements = { 57346 : goto eni-2 } }
chain arrive {
  type nat hook prerouting priority dstnat - 10; policy accept;
  iifname "ens5" ct mark set ct mark | 0x80
}
chain off-vpc {
  ct mark set ct mark | 0x80
  meta mark set meta mark | 0x80
}
chain eni-2 {
  ct mark & 0x80 != 0x0 meta mark set meta mark | 0x80 return
  ct status & confirmed == 0x0 ip daddr != @near4 goto off-vpc
  meta mark set meta mark & 0xffffff80 | 0x2
}
chain leave {
  type filter hook prerouting priority dstnat + 10; policy accept;
  meta iifgroup vmap @way
}"""


@pytest.fixture
def world() -> Iterator[World]:
    with a_world("pt") as world:
        yield world


def with_six(eni: Eni, address: str) -> Eni:
    """The same ENI with an IPv6 address, whose router is AWS's."""
    return evolve(
        eni,
        addresses=(*eni.addresses, ip_interface(address)),
        gateways=(*eni.gateways, ip_address("fe80:ec2::1")),
    )


DUAL = evolve(
    NODE,
    enis=(with_six(PRIMARY, "2001:db8::4/128"), with_six(SECOND, "2001:db8::5/128")),
)


def having(**settings: Any) -> Node:
    """A node with two ENIs and these settings."""
    return evolve(NODE, settings=NodeSettings(**settings))


def declared(node: Node) -> list[Object]:
    return list(FlatRoutes().node_objects(node))


def rules(node: Node) -> list[Rule]:
    """What a node's rules are, in the order of their priority."""
    found = [one for one in declared(node) if isinstance(one, Rule)]
    return sorted(found, key=lambda rule: (rule.family, rule.priority))


def text(node: Node) -> str:
    (table,) = [one for one in declared(node) if isinstance(one, NftTable)]
    return table.text


# -- the node ------------------------------------------------------------------------


def test_node_with_one_eni_needs_two_rules_and_no_marks() -> None:
    assert declared(ALONE) == [
        Sysctl(path="net/ipv4/ip_forward", value="1"),
        LinkState(link="ens5", setting="mtu", value=9001),
        LinkState(link="ens5", setting="rp_filter", value=2),
        Rule(priority=512, table=512, protocol=PROTOCOL),
        Rule(priority=1024, table=MAIN_TABLE, mark=0x80, mask=0x80, protocol=PROTOCOL),
    ]


def test_another_eni_is_set_up_with_a_table_and_two_rules_of_its_own() -> None:
    more = [one for one in declared(NODE) if one not in declared(ALONE)]

    router = ip_address("10.0.0.1")
    assert more == [
        LinkState(link="ens6", setting="mtu", value=9001),
        LinkState(link="ens6", setting="rp_filter", value=2),
        LinkState(link="ens6", setting="up", value=1),
        Address(link="ens6", address=ip_interface("10.0.0.5/24"), side=HOST),
        Route(
            destination=ip_network(router),
            link="ens6",
            table=2,
            protocol=PROTOCOL,
            side=HOST,
        ),
        Route(
            destination=ANY,
            via=router,
            link="ens6",
            table=2,
            protocol=PROTOCOL,
            side=HOST,
        ),
        Rule(priority=32765, table=2, src=ip_network("10.0.0.5"), protocol=PROTOCOL),
        Rule(priority=1536, table=2, mark=2, mask=0x7F, protocol=PROTOCOL),
        NftTable(family="inet", name="eniplug-routes", text=TEXT),
    ]


def test_marks_are_those_that_were_measured() -> None:
    assert text(NODE) == TEXT


def test_external_snat_leaves_every_pod_on_its_own_eni() -> None:
    lines = text(having(external_snat=True)).splitlines()

    assert lines == [line for line in TEXT.splitlines() if "goto off-vpc" not in line]


def test_without_node_ports_nothing_is_marked_on_arrival() -> None:
    with_, without = text(NODE), text(having(node_port_support=False))

    head, _, rest = with_.partition("chain arrive {")
    _, _, tail = rest.partition("}\n")
    assert without == head + tail


def test_operators_mark_and_cidrs_take_the_place_of_the_defaults() -> None:
    excluded = (ip_network("192.0.2.0/24"),)
    node = having(connmark=0x100, exclude_snat_cidrs=excluded)

    assert text(node) == TEXT.replace("0x80", "0x100").replace(
        "10.0.0.0/16", "10.0.0.0/16, 192.0.2.0/24"
    )
    assert Rule(
        priority=1024, table=MAIN_TABLE, mark=0x100, mask=0x100, protocol=PROTOCOL
    ) in rules(node)


@pytest.mark.parametrize("connmark", [0x1, 0x40, 0xFF])
def test_connmark_in_the_bits_of_an_enis_number_is_refused(connmark: int) -> None:
    with pytest.raises(ConfigError, match="AWS_VPC_K8S_CNI_CONNMARK=0x"):
        declared(having(connmark=connmark))


def test_external_services_are_looked_up_in_the_main_table() -> None:
    services = tuple(map(ip_network, ("192.0.2.0/24", "198.51.100.7/32")))

    found = rules(having(external_service_cidrs=services))

    assert [r for r in found if r.priority == 1535] == [
        Rule(priority=1535, table=MAIN_TABLE, dst=cidr, protocol=PROTOCOL)
        for cidr in services
    ]


def test_ipv6_gets_the_same_rules_where_the_node_has_it() -> None:
    four, six = (
        [(r.priority, r.table, r.mark) for r in rules(DUAL) if r.family == family]
        for family in (4, 6)
    )

    assert four == six


def test_node_with_ipv6_forwards_and_keeps_its_own_default_route() -> None:
    sysctls = [one for one in declared(DUAL) if isinstance(one, Sysctl)]

    assert sysctls == [
        Sysctl(path="net/ipv4/ip_forward", value="1"),
        Sysctl(path="net/ipv6/conf/ens5/accept_ra", value="2"),
        Sysctl(path="net/ipv6/conf/all/forwarding", value="1"),
        # No wait for duplicate addresses on ENIs that come: pods would reach nothing.
        *(
            Sysctl(path=f"net/ipv6/conf/{eni.link}/accept_dad", value="0")
            for eni in DUAL.enis[1:]
        ),
    ]


# -- a pod ---------------------------------------------------------------------------


def test_pod_goes_out_by_its_gateway_and_is_one_route_of_the_node() -> None:
    pod = a_pod()
    (nic,) = an_allocation(pod, 3, SECOND).nics

    found = list(FlatRoutes().program_routes(Allocation(nics=(nic,)), NODE))

    own = ip_address("10.0.0.13")
    assert found == [
        Route(destination=ip_network(GATEWAY), link="eth0"),
        Route(destination=ANY, link="eth0", via=GATEWAY),
        Neighbor(link="eth0", address=GATEWAY, mac=nic.host_mac),
        LinkState(link=nic.host_ifname, setting="group", value=0xE002),
        LinkState(link=nic.host_ifname, setting="rp_filter", value=1),
        Route(
            destination=ip_network(own),
            link=nic.host_ifname,
            src=ip_address("10.0.0.4"),
            table=512,
            protocol=PROTOCOL,
            side=HOST,
        ),
        Neighbor(link=nic.host_ifname, address=own, mac=nic.mac, side=HOST),
    ]


def test_pod_of_both_families_has_each_by_the_nodes_address_of_that_family() -> None:
    (nic,) = an_allocation(a_pod()).nics
    both = evolve(
        nic,
        addresses=(ip_interface("10.0.0.13"), ip_interface("2001:db8::13")),
        gateways=(GATEWAY, GATEWAY6),
    )

    found = list(FlatRoutes().program_routes(Allocation(nics=(both,)), DUAL))

    routes = [one for one in found if isinstance(one, Route)]
    assert [(r.destination, r.src) for r in routes if r.side is HOST] == [
        (ip_network("10.0.0.13"), ip_address("10.0.0.4")),
        (ip_network("2001:db8::13"), ip_address("2001:db8::4")),
    ]
    assert Route(destination=ANY6, link="eth0", via=GATEWAY6) in found
    assert Neighbor(link="eth0", address=GATEWAY6, mac=nic.host_mac) in found


def test_pod_behind_another_plugin_has_no_eni_and_so_no_group() -> None:
    (nic,) = an_allocation(a_pod()).nics
    allocation = Allocation(nics=(evolve(nic, eni=None),))

    found = FlatRoutes().program_routes(allocation, NODE)

    states = [one for one in found if isinstance(one, LinkState)]
    assert [state.setting for state in states] == ["rp_filter"]


@given(count=st.integers(0, 9), eni=st.sampled_from([PRIMARY, SECOND]))
def test_rules_do_not_grow_with_pods(count: int, eni: Eni) -> None:
    pods = [
        one
        for number in range(count)
        for one in FlatRoutes().program_routes(
            an_allocation(a_pod(number), number, eni), NODE
        )
    ]

    assert not [one for one in pods if isinstance(one, Rule | NftTable)]
    routes = [one for one in pods if isinstance(one, Route) and one.side is HOST]
    assert len({route.key for route in routes}) == len(routes) == count


# -- a real kernel -------------------------------------------------------------------


@pytest.mark.root
@pytest.mark.parametrize(
    "settings",
    [
        NodeSettings(),
        NodeSettings(external_snat=True),
        NodeSettings(node_port_support=False),
        NodeSettings(exclude_snat_cidrs=(ip_network("10.0.0.0/8"),)),
    ],
)
def test_every_variant_of_the_table_is_taken_by_nft(
    world: World, settings: NodeSettings
) -> None:
    table = NftTable(
        family="inet",
        name="eniplug-routes",
        text=text(evolve(NODE, settings=settings)),
    )

    Kernel().settle((), (table,), {})

    chains = world.run("nft", "list", "table", "inet", "eniplug-routes")
    assert "57346 : goto eni-2" in chains
    assert ("goto off-vpc" in chains) is not settings.external_snat
    assert ("chain arrive" in chains) is settings.node_port_support


@pytest.mark.root
def test_table_without_near_networks_is_taken_by_nft(world: World) -> None:
    node = evolve(NODE, vpc_cidrs=())
    table = NftTable(family="inet", name="eniplug-routes", text=text(node))

    Kernel().settle((), (table,), {})

    assert "near4" in world.run("nft", "list", "table", "inet", "eniplug-routes")
