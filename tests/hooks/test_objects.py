from __future__ import annotations

import json
from ipaddress import IPv4Address, ip_address, ip_interface, ip_network
from typing import Any

import pytest
from attrs import evolve, fields
from hypothesis import given
from hypothesis import strategies as st

from eniplug.core.codec import FROZEN
from eniplug.hooks import (
    HOST,
    POD,
    Address,
    Claim,
    ElasticIp,
    Ifb,
    LinkState,
    Neighbor,
    NftElement,
    NftTable,
    Object,
    Qdisc,
    Redirect,
    Route,
    Rule,
    StaleFlows,
    Sysctl,
    Veth,
)
from eniplug.hooks.objects import KINDS

MAC = "02:00:00:00:00:01"
NETWORK = ip_network("10.0.0.7")
EXAMPLES: tuple[Object, ...] = (
    Veth(name="eni1", peer="eth0", mac=MAC, peer_mac=MAC),
    LinkState(link="eni1", setting="group", value=0xE001),
    Sysctl(path="net/ipv4/ip_forward", value="1"),
    Address(link="eth0", address=ip_interface("10.0.0.7/32")),
    NftTable(family="inet", name="eniplug-routes", text="chain a { }"),
    Neighbor(link="eth0", address=ip_address("169.254.1.1"), mac=MAC),
    Route(destination=NETWORK, link="eni1", side=HOST),
    Rule(priority=512, table=512),
    NftElement(
        family="inet",
        table="eniplug-ports",
        set="any",
        element="tcp . 8080",
        value="10.0.0.7 . 80",
    ),
    Claim(what="host port 8080/tcp"),
    StaleFlows(family=4, protocol="udp", port=53),
    Ifb(name="ifb1", mac=MAC),
    Qdisc(link="eni1", discipline="tbf", rate=125_000, burst=32768, limit=35893),
    Redirect(link="eni1", to="ifb1"),
    ElasticIp(private=IPv4Address("10.0.0.7"), eni="eni-1", tags=(("team", "net"),)),
)

# In each pair the second has another value under the same key, or another key.
SAME_KEY: tuple[tuple[Object, dict[str, Any]], ...] = (
    (EXAMPLES[0], {"peer": "eth1"}),
    (EXAMPLES[0], {"mtu": 1500}),
    (EXAMPLES[1], {"value": 0xE002}),
    (EXAMPLES[2], {"value": "0"}),
    (EXAMPLES[4], {"text": ""}),
    (EXAMPLES[5], {"mac": "02:00:00:00:00:02"}),
    (EXAMPLES[6], {"link": "eni2"}),
    (EXAMPLES[6], {"src": ip_address("10.0.0.4")}),
    (EXAMPLES[6], {"protocol": 197}),
    (EXAMPLES[8], {"value": "10.0.0.8 . 80"}),
    (EXAMPLES[8], {"value": ""}),
    (EXAMPLES[11], {"mtu": 1500}),
    *((EXAMPLES[12], {name: 9999}) for name in ("rate", "burst", "limit")),
    (EXAMPLES[13], {"to": "ifb2"}),
    (EXAMPLES[14], {"eni": "eni-2"}),
    (EXAMPLES[14], {"waited": True}),
    (EXAMPLES[14], {"tags": ()}),
)
OTHER_KEY: tuple[tuple[Object, dict[str, Any]], ...] = (
    (EXAMPLES[0], {"name": "eni2"}),
    (EXAMPLES[1], {"link": "eni2"}),
    (EXAMPLES[1], {"setting": "mtu"}),
    (EXAMPLES[1], {"side": POD}),
    (EXAMPLES[2], {"path": "net/ipv4/ip_default_ttl"}),
    (EXAMPLES[2], {"side": POD}),
    (EXAMPLES[3], {"address": ip_interface("10.0.0.7/24")}),
    (EXAMPLES[3], {"link": "eth1"}),
    (EXAMPLES[4], {"family": "ip"}),
    (EXAMPLES[4], {"name": "eniplug-snat"}),
    (EXAMPLES[5], {"address": ip_address("169.254.1.2")}),
    (EXAMPLES[6], {"destination": ip_network("10.0.0.8")}),
    (EXAMPLES[6], {"table": 512}),
    (EXAMPLES[6], {"metric": 1}),
    (EXAMPLES[6], {"tos": 8}),
    (EXAMPLES[6], {"side": POD}),
    *((EXAMPLES[7], {"priority": n}) for n in (0, 513)),
    (EXAMPLES[7], {"table": 254}),
    (EXAMPLES[7], {"src": NETWORK}),
    (EXAMPLES[7], {"dst": NETWORK}),
    (EXAMPLES[7], {"mark": 2}),
    (EXAMPLES[7], {"mask": 0x7F}),
    (EXAMPLES[7], {"iif": "eni1"}),
    (EXAMPLES[7], {"family": 6}),
    (EXAMPLES[7], {"protocol": 197}),
    (EXAMPLES[8], {"family": "ip"}),
    (EXAMPLES[8], {"table": "others"}),
    (EXAMPLES[8], {"set": "host"}),
    (EXAMPLES[8], {"element": "udp . 8080"}),
    (EXAMPLES[9], {"what": "host port 8081/tcp"}),
    (EXAMPLES[9], {"where": "10.0.0.4"}),
    (EXAMPLES[10], {"family": 6}),
    (EXAMPLES[10], {"port": 54}),
    (EXAMPLES[11], {"name": "ifb2"}),
    (EXAMPLES[12], {"link": "eni2"}),
    (EXAMPLES[12], {"discipline": "ingress", "rate": 0, "burst": 0, "limit": 0}),
    (EXAMPLES[13], {"link": "eni2"}),
    (EXAMPLES[13], {"priority": 2}),
    (EXAMPLES[14], {"private": ip_address("10.0.0.8")}),
)

WRONG: tuple[tuple[Object, dict[str, Any]], ...] = (
    *(
        (EXAMPLES[0], {"name": name})
        for name in ("", ".", "..", "a b", "a/b", "a:b", "sixteen-letters-", "a\n")
    ),
    *(
        (EXAMPLES[0], {"mac": mac})
        for mac in ("", "02:00:00:00:00", "01:00:00:00:00:01", "02:00:00:00:00:0A")
    ),
    *((EXAMPLES[0], {"mtu": mtu}) for mtu in (0, 67, 65536)),
    (EXAMPLES[0], {"side": POD}),
    (EXAMPLES[1], {"setting": "promisc"}),
    (EXAMPLES[1], {"value": -1}),
    (EXAMPLES[1], {"value": 1 << 32}),
    *(
        (EXAMPLES[2], {"path": path})
        for path in (
            "",
            "net",
            "net/",
            "/proc/sys/net/a",
            "kernel/a",
            "net/../kernel/a",
        )
    ),
    (EXAMPLES[4], {"family": "arp"}),
    (EXAMPLES[4], {"name": "a; flush ruleset"}),
    (EXAMPLES[4], {"name": ""}),
    (EXAMPLES[4], {"side": POD}),
    (EXAMPLES[6], {"tos": 256}),
    (EXAMPLES[6], {"protocol": 256}),
    (EXAMPLES[6], {"table": 1 << 32}),
    (EXAMPLES[7], {"src": ip_network("2001:db8::7")}),
    (EXAMPLES[7], {"dst": ip_network("2001:db8::7")}),
    (EXAMPLES[7], {"family": 6, "dst": NETWORK}),
    (EXAMPLES[7], {"priority": -1}),
    (EXAMPLES[8], {"element": ""}),
    *(
        (EXAMPLES[8], {field: value})
        for field in ("element", "value")
        for value in (
            "TCP . 80",
            "tcp.80",
            "tcp . 65536",
            "tcp . 080",
            "10.0.0.256",
            "2001:DB8::1",
            "fe80::1%eth0",
            "80 }; flush ruleset",
        )
    ),
    (EXAMPLES[8], {"set": "a; flush ruleset"}),
    (EXAMPLES[8], {"side": POD}),
    (EXAMPLES[9], {"what": ""}),
    (EXAMPLES[9], {"side": POD}),
    (EXAMPLES[10], {"family": 5}),
    (EXAMPLES[10], {"protocol": "tcp"}),
    (EXAMPLES[10], {"port": 0}),
    (EXAMPLES[10], {"port": 65536}),
    (EXAMPLES[10], {"side": POD}),
    (EXAMPLES[11], {"name": "sixteen-letters-"}),
    (EXAMPLES[11], {"side": POD}),
    *((EXAMPLES[12], {name: 0}) for name in ("rate", "burst", "limit")),
    *((EXAMPLES[12], {name: 1 << 32}) for name in ("burst", "limit")),
    (EXAMPLES[12], {"rate": 1 << 64}),
    (EXAMPLES[12], {"rate": 100}),  # a burst of 327 s
    (EXAMPLES[12], {"discipline": "ingress"}),
    (EXAMPLES[12], {"discipline": "htb"}),
    *((EXAMPLES[13], {"priority": priority}) for priority in (0, 1 << 16)),
    (EXAMPLES[14], {"eni": ""}),
    (EXAMPLES[14], {"side": HOST}),
    *(
        (EXAMPLES[14], {"tags": ((key, value),)})
        for key, value in (
            ("", "a"),
            ("aws:a", "a"),
            ("a" * 129, "a"),
            ("a", "b" * 257),
        )
    ),
)


def _name(case: object) -> str:
    return type(case).__name__ if isinstance(case, KINDS) else str(case)


def test_there_is_an_example_of_every_kind() -> None:
    assert [type(one) for one in EXAMPLES] == list(KINDS)


@pytest.mark.parametrize("one", EXAMPLES, ids=_name)
def test_objects_are_equal_by_value_and_can_be_members_of_sets(one: Object) -> None:
    twin = evolve(one)

    assert twin is not one
    assert {one, twin} == {one}


@pytest.mark.parametrize("one", EXAMPLES, ids=_name)
def test_objects_cannot_be_changed(one: Object) -> None:
    with pytest.raises(AttributeError):
        one.side = POD  # type: ignore[misc]


@pytest.mark.parametrize(("one", "change"), SAME_KEY, ids=_name)
def test_another_value_of_the_same_thing_has_the_same_key(
    one: Object, change: dict[str, Any]
) -> None:
    other = evolve(one, **change)

    assert other.key == one.key
    assert other != one


@pytest.mark.parametrize(("one", "change"), OTHER_KEY, ids=_name)
def test_what_the_kernel_tells_apart_has_keys_of_its_own(
    one: Object, change: dict[str, Any]
) -> None:
    assert evolve(one, **change).key != one.key


def test_every_field_of_a_rule_is_in_its_key() -> None:
    changed = {
        name for one, change in OTHER_KEY if one is EXAMPLES[7] for name in change
    }

    assert {field.name for field in fields(Rule)} - {"side"} == changed


def test_next_hops_tell_ipv6_routes_apart_and_ipv4_ones_not() -> None:
    four = Route(destination=ip_network("0.0.0.0/0"), link="eth0")
    six = Route(destination=ip_network("::/0"), link="eth0")

    assert evolve(four, via=ip_address("169.254.1.1")).key == four.key
    assert evolve(six, via=ip_address("fe80::1")).key != six.key
    assert evolve(six, link="eth1").key != six.key


def test_keys_of_different_kinds_never_meet() -> None:
    assert len({one.key for one in EXAMPLES}) == len(EXAMPLES)
    assert [one.key[0] for one in EXAMPLES] == [kind.__name__ for kind in KINDS]


@pytest.mark.parametrize(("one", "change"), WRONG, ids=_name)
def test_what_the_kernel_would_refuse_cannot_be_made(
    one: Object, change: dict[str, Any]
) -> None:
    with pytest.raises(ValueError, match=r"\S"):
        evolve(one, **change)


def test_links_come_before_what_stands_on_them_and_rules_last() -> None:
    order = [kind.__name__ for kind in sorted(KINDS, key=lambda kind: kind.rank)]

    assert order == [
        "Claim",
        "Veth",
        "Ifb",
        "LinkState",
        "Sysctl",
        "Address",
        "NftTable",
        "Neighbor",
        "Qdisc",
        "Route",
        "Redirect",
        "Rule",
        "NftElement",
        "StaleFlows",
        "ElasticIp",
    ]


def test_what_names_one_link_goes_with_it() -> None:
    for kind in KINDS:
        assert kind.with_link is ("link" in {field.name for field in fields(kind)})


@pytest.mark.parametrize("one", EXAMPLES, ids=_name)
def test_objects_can_be_kept_in_the_store(one: Object) -> None:
    kept = json.dumps(FROZEN.unstructure((one,), tuple[Object, ...]))

    assert FROZEN.structure(json.loads(kept), tuple[Object, ...]) == (one,)


@given(name=st.text(max_size=20))
def test_a_links_name_is_refused_or_one_that_the_kernel_takes(name: str) -> None:
    try:
        made = Veth(name=name, peer="eth0", mac=MAC, peer_mac=MAC)
    except ValueError:
        return

    assert 1 <= len(made.name.encode()) <= 15
    assert not set(made.name) & set("/: \t\n\r\0\x0b\x0c")
