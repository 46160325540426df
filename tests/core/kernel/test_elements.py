from __future__ import annotations

import errno
from typing import Any

import pytest
from attrs import evolve
from hypothesis import given
from hypothesis import strategies as st
from pyroute2.netlink.nfnetlink.nftsocket import nft_set_elem_list_msg

from eniplug.core.kernel import Kernel, elements, uapi
from eniplug.core.kernel.elements import Elements
from eniplug.core.kernel.netlink import Message, NetlinkError, Socket
from eniplug.hooks import NftElement, NftTable, Object, Rule
from eniplug.hooks.errors import KernelError
from kit.nodes import World

TABLE = NftTable(
    family="inet",
    name="ports",
    text="""
    map any { type inet_proto . inet_service : ipv4_addr . inet_service; }
    map any6 { type inet_proto . inet_service : ipv6_addr . inet_service; }
    set self { type ipv4_addr . ipv4_addr; }
    set names { type inet_service; }
    """,
)
WEB = NftElement(
    family="inet",
    table="ports",
    set="any",
    element="tcp . 8080",
    value="10.0.1.7 . 80",
)
DNS = evolve(WEB, element="udp . 53", value="10.0.1.7 . 5353")
SIX = evolve(WEB, set="any6", value="2001:db8::7 . 80")
SELF = evolve(WEB, set="self", element="10.0.1.7 . 10.0.1.7", value="")
PORT = evolve(WEB, set="names", element="443", value="")
ALL = (WEB, DNS, SIX, SELF, PORT)

KEY = b"\x06\0\0\0\x1f\x90\0\0"
DATA = b"\x0a\0\x01\x07\0\x50\0\0"


def tree(message: Message) -> tuple[int, str, str, dict[str, bytes]]:
    """What pyroute2 reads in a message: table, set and the element's attributes."""
    header = (16 + len(message.body)).to_bytes(4, "little") + bytes(12)
    read: Any = nft_set_elem_list_msg(header + message.body)
    read.decode()
    (element,) = read.get_attr("NFTA_SET_ELEM_LIST_ELEMENTS")
    return (
        read["nfgen_family"],
        read.get_attr("NFTA_SET_ELEM_LIST_TABLE"),
        read.get_attr("NFTA_SET_ELEM_LIST_SET"),
        {name: value.get_attr("NFTA_DATA_VALUE") for name, value in element["attrs"]},
    )


def test_an_element_is_packed_as_pyroute2_reads_it() -> None:
    *_, new = elements.create(WEB)

    assert tree(new) == (
        1,
        "ports",
        "any",
        {"NFTA_SET_ELEM_KEY": KEY, "NFTA_SET_ELEM_DATA": DATA},
    )
    assert new[:2] == (0xA0C, 0x400)


def test_a_deletion_is_of_whatever_has_the_key() -> None:
    gone = elements.delete(WEB)

    assert tree(gone) == (1, "ports", "any", {"NFTA_SET_ELEM_KEY": KEY})
    assert gone.type in {0xA0E, 0xA1E}


@given(
    parts=st.lists(
        st.one_of(
            st.ip_addresses().map(str).filter(lambda text: "%" not in text),
            st.sampled_from(["tcp", "udp", "sctp"]),
            st.integers(0, 65535).map(str),
        ),
        min_size=1,
        max_size=4,
    )
)
def test_what_was_packed_is_read_back(parts: list[str]) -> None:
    text = " . ".join(parts)

    assert elements.unpack(elements.pack(text), like=text) == text


@pytest.mark.parametrize(
    ("release", "can"),
    [
        ("6.1.112-122.189.amzn2023.x86_64", False),
        ("5.10.0", False),
        ("6.3.0-rc1", True),
        ("6.18.44", True),
        ("10.0", True),
        ("unknown", False),
    ],
)
def test_only_newer_kernels_can_destroy(release: str, can: bool) -> None:
    assert elements.can_destroy(release) is can


def listed(world: World, name: str) -> str:
    """The elements of a set or map as nft prints them, sorted."""
    kind = "map" if name.startswith("any") else "set"
    text = world.run("nft", "list", kind, "inet", "ports", name)
    found = " ".join(text.partition("elements = {")[2].partition("}")[0].split())
    return ", ".join(sorted(found.split(", ")))


@pytest.fixture
def ready(kernel: Kernel, world: World) -> World:
    kernel.settle((), (TABLE,), {})
    return world


@pytest.mark.root
def test_elements_are_made_found_and_deleted(kernel: Kernel, ready: World) -> None:
    assert [d.found for d in kernel.check(ALL, None)] == [None] * len(ALL)

    kernel.apply(ALL, None)

    assert kernel.check(ALL, None) == ()
    assert listed(ready, "any") == (
        "tcp . 8080 : 10.0.1.7 . 80, udp . 53 : 10.0.1.7 . 5353"
    )
    assert listed(ready, "any6") == "tcp . 8080 : 2001:db8::7 . 80"
    assert listed(ready, "self") == "10.0.1.7 . 10.0.1.7"
    assert listed(ready, "names") == "443"

    assert kernel.remove(ALL[:2], None) == ()
    assert kernel.remove(ALL, None) == ()
    assert [d.found for d in kernel.check(ALL, None)] == [None] * len(ALL)


@pytest.mark.root
def test_a_leftover_in_an_elements_place_is_replaced(
    kernel: Kernel, ready: World
) -> None:
    kernel.apply((evolve(WEB, value="10.0.1.99 . 81"), DNS), None)
    (difference,) = kernel.check((WEB, DNS), None)
    assert difference.found == "10.0.1.99 . 81"

    kernel.apply((WEB, DNS), None)

    assert kernel.check((WEB, DNS), None) == ()
    assert "10.0.1.99" not in listed(ready, "any")


@pytest.mark.root
def test_one_bad_element_undoes_all_and_is_the_one_that_is_named(
    kernel: Kernel, ready: World
) -> None:
    before = ready.snapshot(), ready.run("nft", "list", "ruleset")
    bad = evolve(WEB, set="nothing")
    rule = Rule(priority=700, table=254)

    with pytest.raises(KernelError, match=r"inet ports nothing .*No such file") as why:
        kernel.apply((rule, DNS, bad, SELF), None)

    assert (ready.snapshot(), ready.run("nft", "list", "ruleset")) == before
    assert why.value.details == "restart the agent: it makes the table again"


@pytest.mark.root
def test_a_transaction_is_carried_out_whole_or_not_at_all(ready: World) -> None:
    bad = evolve(WEB, table="nowhere")
    messages = [m for one in (WEB, bad, DNS) for m in elements.create(one)[-1:]]

    with Socket(uapi.NETLINK_NETFILTER) as socket:
        refused = socket.transact(messages)
        assert {at: e.errno for at, e in refused.items()} == {
            0: errno.ECANCELED,
            1: errno.ENOENT,
            2: errno.ECANCELED,
        }
        assert listed(ready, "any") == ""
        assert socket.transact(messages[::2]) == {}

    assert "8080" in listed(ready, "any")


@pytest.mark.root
def test_where_the_kernel_cannot_destroy_each_is_deleted_by_itself(
    kernel: Kernel, ready: World
) -> None:
    kernel.apply((WEB, DNS), None)
    missing = evolve(WEB, element="tcp . 9")
    old = [
        elements.delete(one)._replace(type=uapi.NFT_MSG_DELSETELEM)
        for one in (WEB, missing, DNS)
    ]

    refused = Elements(Socket).transact(old)

    assert {at: e.errno for at, e in refused.items()} == {1: errno.ENOENT}
    assert listed(ready, "any") == ""


@pytest.mark.root
def test_a_refusal_of_the_transaction_as_such_is_each_messages(world: World) -> None:
    del world

    class Spoiled(Socket):
        def _write(self, messages: Any, acked: int = -1) -> int:
            first, *rest = messages
            wrong = first._replace(body=bytes((0, 0, 0xFF, 0xFF)))
            return super()._write((wrong, *rest), acked)

    with Spoiled(uapi.NETLINK_NETFILTER) as socket:
        refused = socket.transact([m for one in ALL for m in elements.create(one)])

    assert len(refused) >= len(ALL)
    assert all(isinstance(error, NetlinkError) for error in refused.values())


@pytest.mark.root
def test_a_table_that_is_made_anew_has_the_elements_from_its_first_moment(
    kernel: Kernel, ready: World
) -> None:
    kernel.apply(ALL, None)
    other = evolve(WEB, table="others")
    new = evolve(TABLE, text=f"{TABLE.text} chain more {{ }}")

    kernel.settle((TABLE,), (new,), {}, elements=(*ALL, other))

    assert kernel.check((new, *ALL), None) == ()
    assert "chain more" in ready.run("nft", "list", "table", "inet", "ports")


@pytest.mark.root
def test_a_table_that_stays_keeps_its_elements(kernel: Kernel, ready: World) -> None:
    kernel.apply((WEB,), None)

    kernel.settle((TABLE,), (TABLE,), {}, elements=(DNS,))

    assert listed(ready, "any") == "tcp . 8080 : 10.0.1.7 . 80"


@pytest.mark.root
@pytest.mark.parametrize(
    "damage",
    [
        "nft flush ruleset",
        "nft delete element inet ports any { tcp . 8080 }",
        "nft flush map inet ports any",
    ],
)
def test_elements_of_the_node_come_with_their_table_and_are_put_back(
    kernel: Kernel, world: World, damage: str
) -> None:
    wanted: tuple[Object, ...] = (TABLE, WEB, SELF)
    kernel.settle((), wanted, {})
    assert kernel.check(wanted, None) == ()
    world.run(*damage.split())
    assert kernel.check(wanted, None)

    kernel.settle(wanted, wanted, {})
    assert kernel.check(wanted, None) == ()

    kernel.settle(wanted, wanted[:2], {})
    assert [d.object for d in kernel.check(wanted, None)] == [SELF]
    kernel.settle(wanted[:2], (), {})
    assert world.run("nft", "list", "ruleset") == ""


@pytest.mark.root
def test_to_delete_elements_does_not_wait_for_the_kernel(
    kernel: Kernel, ready: World
) -> None:
    """A socket that is closed after a deletion waits for a grace period."""
    del ready
    opened: list[int] = []

    def connect(protocol: int) -> Socket:
        opened.append(protocol)
        return Socket(protocol)

    kernel = Kernel(connect=connect)
    for _ in range(3):
        kernel.apply((WEB,), None)
        kernel.remove((WEB,), None)

    assert opened.count(uapi.NETLINK_NETFILTER) == 1
