from __future__ import annotations

from collections.abc import Iterator
from contextlib import suppress
from ipaddress import ip_interface
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st

from eniplug.core.kernel import Kernel
from eniplug.hooks import Claim, LinkState, NftElement, NftTable, Object, StaleFlows
from eniplug.hooks.errors import DecodeError, EniplugError, UnsupportedError
from eniplug.plugins.host_ports import HostPorts
from eniplug.testing.builders import NODE, PRIMARY, a_pod, an_allocation
from kit.nodes import World, a_world

LINK = "eni0d7763386da"
"""eni and the first digits of `printf default.web-0 | sha1sum`."""

WEB = {"hostPort": 8080, "containerPort": 80, "protocol": "tcp", "hostIP": ""}


@pytest.fixture
def world() -> Iterator[World]:
    with a_world("hp") as world:
        yield world


def declared(*mappings: Any, addresses: tuple[str, ...] = ()) -> list[Object]:
    """What a pod with these port mappings gets."""
    pod = a_pod(runtime={"portMappings": list(mappings)})
    allocation = an_allocation(pod)
    if addresses:
        nic = evolve(allocation.nics[0], addresses=tuple(map(ip_interface, addresses)))
        allocation = evolve(allocation, nics=(nic,))
    return list(HostPorts().program_routes(pod, allocation))


def element(name: str, element: str, value: str = "") -> NftElement:
    return NftElement(
        family="inet", table="eniplug-ports", set=name, element=element, value=value
    )


LOOPBACK = LinkState(link=LINK, setting="route_localnet", value=1)
SELF = element("self", "10.0.0.10 . 10.0.0.10")


def test_a_port_is_claimed_and_leads_to_the_pod() -> None:
    assert declared(WEB) == [
        Claim(what="host port 8080/tcp"),
        element("any", "tcp . 8080", "10.0.0.10 . 80"),
        SELF,
        LOOPBACK,
    ]


@pytest.mark.parametrize(
    "written",
    [
        {"HostPort": 8080, "ContainerPort": 80, "Protocol": "TCP", "HostIP": ""},
        {"hostPort": 8080, "containerPort": 80},
        {"hostPort": 8080, "containerPort": 80, "protocol": "", "hostIP": None},
        {**WEB, "hostIP": "0.0.0.0"},
    ],
)
def test_runtimes_may_write_it_as_they_do(written: Any) -> None:
    assert declared(written) == declared(WEB)


@pytest.mark.parametrize("runtime", [{}, {"portMappings": None}, {"portMappings": []}])
def test_a_pod_that_asks_for_no_port_gets_nothing(runtime: dict[str, Any]) -> None:
    pod = a_pod(runtime=runtime)

    assert not list(HostPorts().program_routes(pod, an_allocation(pod)))
    assert not declared({"hostPort": 0, "containerPort": 80, "protocol": "tcp"})


def test_a_port_on_one_address_is_of_that_address_alone() -> None:
    assert declared({**WEB, "protocol": "udp", "hostIP": "10.0.0.4"}) == [
        Claim(what="host port 8080/udp", where="10.0.0.4"),
        element("host", "10.0.0.4 . udp . 8080", "10.0.0.10 . 80"),
        StaleFlows(family=4, protocol="udp", port=8080),
        SELF,
    ]
    assert LOOPBACK in declared({**WEB, "hostIP": "127.0.0.1"})


def test_a_pod_of_both_families_is_reached_by_both() -> None:
    both = ("10.0.0.10/32", "2001:db8::7/128")

    assert declared(WEB, addresses=both) == [
        Claim(what="host port 8080/tcp"),
        element("any", "tcp . 8080", "10.0.0.10 . 80"),
        Claim(what="host port 8080/tcp over IPv6"),
        element("any6", "tcp . 8080", "2001:db8::7 . 80"),
        SELF,
        element("self6", "2001:db8::7 . 2001:db8::7"),
        LOOPBACK,
    ]
    assert declared({**WEB, "hostIP": "::"}, addresses=both) == [
        Claim(what="host port 8080/tcp over IPv6"),
        element("any6", "tcp . 8080", "2001:db8::7 . 80"),
        element("self6", "2001:db8::7 . 2001:db8::7"),
    ]


def test_the_same_port_twice_is_once() -> None:
    assert declared(WEB, {**WEB, "hostIP": "0.0.0.0"}) == declared(WEB)


@pytest.mark.parametrize(
    ("mappings", "code", "words"),
    [
        ("8080:80", 6, "portMappings: wants a list, not '8080:80'"),
        (["8080:80"], 6, r"portMappings\[0\]: wants an object, not '8080:80'"),
        ([{**WEB, "hostPort": 70000}], 6, "hostPort: wants a number from 0 to 65535"),
        ([WEB, {**WEB, "hostPort": "81"}], 6, r"\[1\].hostPort: .* not '81'"),
        ([{**WEB, "hostPort": True}], 6, "not True"),
        ([{**WEB, "containerPort": 0}], 6, "containerPort: .* 1 to 65535, not 0"),
        ([{**WEB, "protocol": "icmp"}], 2, "'icmp': known are tcp, udp, sctp"),
        ([{**WEB, "hostIP": "node1"}], 6, "hostIP: wants an address, not 'node1'"),
        ([{**WEB, "hostIP": 7}], 6, "hostIP: wants an address, not 7"),
        ([{**WEB, "hostIP": "fe80::1%ens5"}], 6, "hostIP: wants an address"),
        ([{**WEB, "hostIP": "::1"}], 2, "::1"),
        ([{**WEB, "hostIP": "::"}], 7, "asked for on ::: the pod has no IPv6 address"),
        ([WEB, {**WEB, "containerPort": 81}], 7, "8080/tcp leads to two .* 80 and 81"),
    ],
)
def test_what_cannot_be_is_refused_by_its_place(
    mappings: Any, code: int, words: str
) -> None:
    pod = a_pod(runtime={"portMappings": mappings})

    with pytest.raises(EniplugError, match=words) as caught:
        list(HostPorts().program_routes(pod, an_allocation(pod)))

    assert caught.value.code == code
    assert caught.value.details


@given(
    fields=st.dictionaries(
        st.sampled_from(["hostPort", "containerPort", "protocol", "hostIP", "x"]),
        st.one_of(
            st.none(),
            st.booleans(),
            st.integers(-1, 70000),
            st.floats(),
            st.text(max_size=5),
            st.sampled_from(["tcp", "UDP", "::1", "10.0.0.4", "0.0.0.0", "fe80::1%1"]),
            st.lists(st.integers(), max_size=1),
        ),
    )
)
def test_any_mapping_is_taken_or_refused(fields: dict[str, Any]) -> None:
    pod = a_pod(runtime={"portMappings": [fields]})
    both = (ip_interface("10.0.0.10/32"), ip_interface("2001:db8::7/128"))
    nic = evolve(an_allocation(pod).nics[0], addresses=both)

    with suppress(UnsupportedError, DecodeError):
        list(HostPorts().program_routes(pod, evolve(an_allocation(pod), nics=(nic,))))


@pytest.mark.root
@pytest.mark.parametrize(
    "addresses",
    [("10.0.0.4/24",), ("2001:db8::4/64",), ("10.0.0.4/24", "2001:db8::4/64")],
)
def test_every_variant_of_the_table_is_taken_with_all_elements(
    world: World, addresses: tuple[str, ...]
) -> None:
    own = evolve(PRIMARY, addresses=tuple(map(ip_interface, addresses)))
    (table,) = HostPorts().node_objects(evolve(NODE, enis=(own,)))
    assert isinstance(table, NftTable)
    kernel = Kernel()
    kernel.settle((), (table,), {})
    every = declared(
        WEB,
        {**WEB, "protocol": "sctp"},
        {**WEB, "hostPort": 8081, "hostIP": "10.0.0.4"},
        {**WEB, "hostPort": 8081, "hostIP": "2001:db8::4"},
        addresses=("10.0.0.10/32", "2001:db8::7/128"),
    )
    made = [one for one in every if isinstance(one, Claim | NftElement)]

    kernel.apply(made, None)

    assert kernel.check((table, *made), None) == ()
    listed = world.run("nft", "list", "table", "inet", "eniplug-ports")
    for address in addresses:
        assert f"to {address.partition('/')[0]}\n" in listed
