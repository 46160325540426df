from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from typing import Any

import pytest
from attrs import evolve

from eniplug.core.kernel import Kernel
from eniplug.core.settings import Settings
from eniplug.hooks import NftTable, Node, NodeSettings
from eniplug.plugins.snat import Snat
from eniplug.testing.builders import NODE, PRIMARY
from kit.nodes import World, a_world

TEXT = """\
set near {
  type ipv4_addr; flags interval; auto-merge; elements = { 10.0.0.0/16 }
}
chain out {
  type nat hook postrouting priority srcnat + 10; policy accept;
  oifname "ens5" ip saddr != 10.0.0.4 ip daddr != @near snat to 10.0.0.4 fully-random
}"""


@pytest.fixture
def world() -> Iterator[World]:
    with a_world("pt") as world:
        yield world


def having(**settings: Any) -> Node:
    """A node with these settings."""
    return evolve(NODE, settings=NodeSettings(**settings))


def test_what_leaves_the_vpc_by_the_primary_eni_gets_its_address() -> None:
    assert list(Snat().node_objects(NODE)) == [
        NftTable(family="ip", name="eniplug-snat", text=TEXT)
    ]


def test_nothing_is_translated_where_somebody_outside_does() -> None:
    assert not list(Snat().node_objects(having(external_snat=True)))


def test_nothing_is_translated_where_the_node_has_no_ipv4_address() -> None:
    six = evolve(PRIMARY, addresses=(ip_interface("2001:db8::4/128"),))

    assert not list(Snat().node_objects(evolve(NODE, enis=(six,))))


def test_excluded_networks_are_near_and_ipv6_ones_are_no_matter() -> None:
    excluded = (ip_network("2001:db8::/56"), ip_network("192.0.2.0/24"))

    (table,) = Snat().node_objects(having(exclude_snat_cidrs=excluded))

    assert isinstance(table, NftTable)
    near = "10.0.0.0/16, 192.0.2.0/24"
    assert table.text == TEXT.replace("10.0.0.0/16", near)


@pytest.mark.parametrize(
    ("value", "words"),
    [("prng", " fully-random"), ("hashrandom", " random"), ("none", "")],
)
def test_ports_are_chosen_as_the_operator_says(value: str, words: str) -> None:
    settings = Settings.from_environ({"AWS_VPC_K8S_CNI_RANDOMIZESNAT": value})

    (table,) = Snat().node_objects(evolve(NODE, settings=settings.node))

    assert isinstance(table, NftTable)
    assert table.text == TEXT.replace(" fully-random", words)


@pytest.mark.root
@pytest.mark.parametrize(
    "settings",
    [
        NodeSettings(),
        NodeSettings(randomize_snat="hashrandom"),
        NodeSettings(randomize_snat="none"),
        NodeSettings(exclude_snat_cidrs=(ip_network("10.0.0.0/8"),)),
    ],
)
def test_every_variant_is_taken_by_nft(world: World, settings: NodeSettings) -> None:
    tables = tuple(Snat().node_objects(evolve(NODE, settings=settings)))

    Kernel().settle((), tables, {})

    listed = world.run("nft", "list", "table", "ip", "eniplug-snat")
    assert "snat to 10.0.0.4" in listed
    assert ("fully-random" in listed) is (settings.randomize_snat == "prng")
