from __future__ import annotations

import re
from collections.abc import Iterator
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from attrs import evolve

from eniplug.core.kernel import Kernel
from eniplug.hooks import (
    HOST,
    MAIN_TABLE,
    LinkState,
    Neighbor,
    NftTable,
    Node,
    NodeSettings,
    Object,
    Route,
    Rule,
)
from eniplug.plugins.pod_veth import PodVeth
from eniplug.plugins.policy_routes import PolicyRoutes
from eniplug.testing.builders import NODE, PRIMARY, SECOND, a_pod, an_allocation
from kit.nodes import World, a_world

GATEWAY = ip_address("169.254.1.1")
TEXT = """\
set near4 { type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/16 } }
chain arrive {
  type nat hook prerouting priority dstnat - 10; policy accept;
  iifname "ens5" ct mark set ct mark | 0x80
}
chain leave {
  type filter hook prerouting priority dstnat + 10; policy accept;
  meta iifgroup != 57344-57471 return
  ct mark & 0x80 != 0x0 meta mark set meta mark | 0x80 return
  ct status & confirmed != 0x0 return
  ip daddr @near4 return
  meta nfproto != ipv4 return
  ct mark set ct mark | 0x80
  meta mark set meta mark | 0x80
}"""


@pytest.fixture
def world() -> Iterator[World]:
    """A node with ens5 and ens6."""
    with a_world("pt") as world:
        for link in ("ens5", "ens6"):
            far = f"{link}-far"
            world.run("ip", "link", "add", link, "type", "veth", "peer", far)
            world.run("ip", "link", "set", far, "up")
        world.run("ip", "addr", "add", "10.0.0.4/24", "dev", "ens5", "noprefixroute")
        yield world


def having(**settings: Any) -> Node:
    """A node with two ENIs and these settings."""
    return evolve(NODE, settings=NodeSettings(**settings))


def declared(node: Node) -> list[Object]:
    return list(PolicyRoutes().node_objects(node))


def texts(node: Node) -> list[str]:
    """The nftables tables that a node gets."""
    return [one.text for one in declared(node) if isinstance(one, NftTable)]


# -- the node ------------------------------------------------------------------------


def test_node_has_the_rules_of_the_aws_vpc_cni() -> None:
    rules = [one for one in declared(NODE) if isinstance(one, Rule)]

    assert rules == [
        Rule(priority=32765, table=2, src=ip_network("10.0.0.5")),
        Rule(priority=1024, table=MAIN_TABLE, mark=0x80, mask=0x80),
    ]


def test_replies_to_node_ports_find_their_way_back_in_each_family_of_the_node() -> None:
    both = (*PRIMARY.addresses, ip_interface("2001:db8::4/128"))
    dual = evolve(NODE, enis=(evolve(PRIMARY, addresses=both),))

    rules = [one for one in declared(dual) if isinstance(one, Rule)]

    assert [(rule.priority, rule.family, rule.mark) for rule in rules] == [
        (1024, 4, 0x80),
        (1024, 6, 0x80),
    ]


def test_marks_are_made_after_every_dnat() -> None:
    assert texts(NODE) == [TEXT]


def test_without_node_ports_nothing_is_marked_on_arrival() -> None:
    (text,) = texts(having(node_port_support=False))

    head, _, rest = TEXT.partition("chain arrive {")
    assert text == head + rest.partition("}\n")[2]


def test_external_snat_marks_only_what_arrived_by_the_primary_eni() -> None:
    (text,) = texts(having(external_snat=True))

    restored = "ct mark & 0x80 != 0x0 meta mark set meta mark | 0x80 return\n"
    head, _, _ = TEXT.partition(restored)
    assert text == head + restored + "}"


def test_nothing_is_marked_where_neither_snat_nor_node_ports_need_it() -> None:
    node = having(external_snat=True, node_port_support=False)

    assert texts(node) == []
    assert 1024 not in {o.priority for o in declared(node) if isinstance(o, Rule)}


# -- a pod ---------------------------------------------------------------------------


def test_pod_of_the_primary_eni_is_a_route_and_one_rule() -> None:
    pod = a_pod()
    allocation = an_allocation(pod, 3, PRIMARY)
    (nic,) = allocation.nics

    found = list(PolicyRoutes().program_routes(allocation))

    own = ip_address("10.0.0.13")
    assert found == [
        Route(destination=ip_network(GATEWAY), link="eth0"),
        Route(destination=ip_network("0.0.0.0/0"), link="eth0", via=GATEWAY),
        Neighbor(link="eth0", address=GATEWAY, mac=nic.host_mac),
        LinkState(link=nic.host_ifname, setting="group", value=0xE001),
        Route(destination=ip_network(own), link=nic.host_ifname, side=HOST),
        Neighbor(link=nic.host_ifname, address=own, mac=nic.mac, side=HOST),
        Rule(priority=512, table=MAIN_TABLE, dst=ip_network(own)),
    ]


def test_pod_of_another_eni_has_a_rule_to_that_enis_table_as_well() -> None:
    first = an_allocation(a_pod(), 3, PRIMARY)
    other = an_allocation(a_pod(), 3, SECOND)

    more = set(PolicyRoutes().program_routes(other)) - set(
        PolicyRoutes().program_routes(first)
    )

    (nic,) = other.nics
    assert more == {
        LinkState(link=nic.host_ifname, setting="group", value=0xE002),
        Rule(priority=1536, table=2, src=ip_network("10.0.0.13")),
    }


# -- a real kernel -------------------------------------------------------------------


@pytest.mark.root
def test_rules_and_routes_read_as_the_aws_vpc_cni_leaves_them(world: World) -> None:
    kernel = Kernel()
    pod = a_pod()
    allocation = an_allocation(pod, 3, SECOND)
    objects = (
        *PodVeth().setup_netns(pod, allocation),
        *PolicyRoutes().program_routes(allocation),
    )

    world.run("ip", "link", "set", "ens5", "up")
    node = having(external_service_cidrs=(ip_network("192.0.2.0/24"),))
    kernel.settle((), declared(node), {})
    kernel.apply(objects, world.pod("pod"))

    link = pod.host_ifname
    assert _lines(world.run("ip", "rule")) == [
        "0: from all lookup local",
        "512: from all to 10.0.0.13 lookup main",
        "1024: from all fwmark 0x80/0x80 lookup main",
        "1535: from all to 192.0.2.0/24 lookup main",
        "1536: from 10.0.0.13 lookup 2",
        "32765: from 10.0.0.5 lookup 2",
        "32766: from all lookup main",
        "32767: from all lookup default",
    ]
    assert _lines(world.run("ip", "route")) == [f"10.0.0.13 dev {link} scope link"]
    assert _lines(world.run("ip", "route", "show", "table", "2")) == [
        "default via 10.0.0.1 dev ens6",
        "10.0.0.1 dev ens6 scope link",
    ]
    in_pod = _lines(world.run("ip", "route", pod="pod"))
    assert in_pod == [
        "default via 169.254.1.1 dev eth0",
        "169.254.1.1 dev eth0 scope link",
    ]


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
    (text,) = texts(evolve(NODE, settings=settings))
    table = NftTable(family="inet", name="eniplug-policy", text=text)

    Kernel().settle((), (table,), {})

    chains = world.run("nft", "list", "table", "inet", "eniplug-policy")
    assert ("@near4 return" in chains) is not settings.external_snat
    assert ("chain arrive" in chains) is settings.node_port_support


def _lines(text: str) -> list[str]:
    """A command's lines, blanks made one."""
    return [re.sub(r"\s+", " ", line).strip() for line in text.splitlines()]
