"""Our packing, held against pyroute2's message classes: compared as they decode it."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from ipaddress import ip_address, ip_interface, ip_network
from typing import Any

import pytest
from attrs import evolve
from pyroute2.netlink.rtnl.fibmsg import fibmsg
from pyroute2.netlink.rtnl.ifaddrmsg import ifaddrmsg
from pyroute2.netlink.rtnl.ifinfmsg import ifinfmsg
from pyroute2.netlink.rtnl.ndmsg import ndmsg
from pyroute2.netlink.rtnl.rtmsg import rtmsg
from pyroute2.netlink.rtnl.tcmsg import tcmsg

from eniplug.core.kernel import decode, encode, encode_links
from eniplug.core.kernel.attributes import attribute, text, u32
from eniplug.core.kernel.netlink import Message
from eniplug.hooks import (
    HOST,
    POD,
    PROTOCOL,
    Address,
    Ifb,
    Neighbor,
    Object,
    Qdisc,
    Redirect,
    Route,
    Rule,
    Veth,
)

INDEX = 1234567
Attributes = list[tuple[str, Any]]


def index_of(name: str) -> int:
    return {"eth0": INDEX}[name]


def name_of(index: int) -> str | None:
    return {INDEX: "eth0"}.get(index)


def theirs(kind: Any, fields: Mapping[str, int], attributes: Attributes) -> Any:
    """What pyroute2 packs, as it decodes it."""
    message = kind()
    for name, value in fields.items():
        message[name] = value
    message["attrs"] = attributes
    message.encode()
    return tree(kind, bytes(message.data[16:]))


def tree(kind: Any, body: bytes) -> Any:
    message = kind((16 + len(body)).to_bytes(4, "little") + bytes(12) + body)
    message.decode()
    return plain(message)


def plain(value: Any) -> Any:
    """Strip what differs without a meaning: flags of nesting, order, headers."""
    if isinstance(value, Mapping):
        fields = {
            name: plain(content)
            for name, content in value.items()
            if name not in {"attrs", "header", "event"}
        }
        attributes = sorted(
            ((name, plain(content)) for name, content in value.get("attrs", ())),
            key=repr,
        )
        return fields, attributes
    if isinstance(value, tuple) and hasattr(value, "name"):
        return value[0], plain(value[1])
    return value


VETH = Veth(
    name="eni0a1b2c3d4e5",
    peer="eth0",
    mac="02:00:00:00:00:01",
    peer_mac="02:00:00:00:00:02",
    mtu=1500,
)


def test_a_pair_is_packed_as_pyroute2_reads_it() -> None:
    message = encode_links.create_veth(VETH, INDEX, 7, 0xE001)

    peer = {
        "index": INDEX,
        "attrs": [
            ("IFLA_IFNAME", "eth0"),
            ("IFLA_ADDRESS", "02:00:00:00:00:02"),
            ("IFLA_MTU", 1500),
            ("IFLA_NUM_TX_QUEUES", 1),
            ("IFLA_NUM_RX_QUEUES", 1),
            ("IFLA_NET_NS_FD", 7),
        ],
    }
    info = [
        ("IFLA_INFO_KIND", "veth"),
        ("IFLA_INFO_DATA", {"attrs": [("VETH_INFO_PEER", peer)]}),
    ]
    assert tree(ifinfmsg, message.body) == theirs(
        ifinfmsg,
        {"index": INDEX},
        [
            ("IFLA_IFNAME", "eni0a1b2c3d4e5"),
            ("IFLA_ADDRESS", "02:00:00:00:00:01"),
            ("IFLA_MTU", 1500),
            ("IFLA_NUM_TX_QUEUES", 1),
            ("IFLA_NUM_RX_QUEUES", 1),
            ("IFLA_GROUP", 0xE001),
            ("IFLA_LINKINFO", {"attrs": info}),
        ],
    )
    assert message[:2] == (16, 0x600)


@pytest.mark.parametrize(
    ("message", "fields", "attributes"),
    [
        (
            encode_links.set_link(INDEX, "up", 1),
            {"index": INDEX, "flags": 1, "change": 1},
            [],
        ),
        (
            encode_links.set_link(INDEX, "up", 0),
            {"index": INDEX, "flags": 0, "change": 1},
            [],
        ),
        (
            encode_links.set_link(INDEX, "mtu", 1400),
            {"index": INDEX},
            [("IFLA_MTU", 1400)],
        ),
        (
            encode_links.bury(INDEX, 0x6B7800),
            {"index": INDEX, "flags": 0, "change": 1},
            [("IFLA_GROUP", 0x6B7800)],
        ),
        (
            encode_links.step_aside(INDEX)[1],
            {"index": INDEX},
            [("IFLA_IFNAME", "x1234567")],
        ),
        (encode_links.delete_group(5), {}, [("IFLA_GROUP", 5)]),
        (
            encode_links.look_link("eth0"),
            {},
            [("IFLA_IFNAME", "eth0"), ("IFLA_EXT_MASK", 8)],
        ),
        (
            encode_links.raise_link(INDEX, {}, alias="x", no_link_local=False)[0],
            {"index": INDEX},
            [("IFLA_IFALIAS", "x")],
        ),
    ],
)
def test_changes_of_links_are_packed_as_pyroute2_reads_them(
    message: Message, fields: Mapping[str, int], attributes: Attributes
) -> None:
    assert tree(ifinfmsg, message.body) == theirs(ifinfmsg, fields, attributes)


ROUTE_FIELDS = {"family": 2, "dst_len": 32, "table": 254, "proto": 3, "type": 1}
RULE_FIELDS = {"family": 2, "action": 1}
CASES: list[tuple[Object, Any, Mapping[str, int], Attributes]] = [
    (
        Address(link="eth0", address=ip_interface("10.0.1.5/32")),
        ifaddrmsg,
        {"family": 2, "prefixlen": 32, "index": INDEX},
        [
            ("IFA_LOCAL", "10.0.1.5"),
            ("IFA_ADDRESS", "10.0.1.5"),
            ("IFA_FLAGS", 0x280),
        ],
    ),
    (
        Address(link="eth0", address=ip_interface("2001:db8::5/64"), side=HOST),
        ifaddrmsg,
        {"family": 10, "prefixlen": 64, "index": INDEX},
        [
            ("IFA_LOCAL", "2001:db8::5"),
            ("IFA_ADDRESS", "2001:db8::5"),
            ("IFA_FLAGS", 0x282),
        ],
    ),
    (
        Neighbor(
            link="eth0", address=ip_address("169.254.1.1"), mac="02:00:00:00:00:01"
        ),
        ndmsg,
        {"family": 2, "ifindex": INDEX, "state": 0x80},
        [("NDA_DST", "169.254.1.1"), ("NDA_LLADDR", "02:00:00:00:00:01")],
    ),
    (
        Neighbor(link="eth0", address=ip_address("fe80::1"), mac="02:00:00:00:00:01"),
        ndmsg,
        {"family": 10, "ifindex": INDEX, "state": 0x80},
        [("NDA_DST", "fe80::1"), ("NDA_LLADDR", "02:00:00:00:00:01")],
    ),
    (
        Route(destination=ip_network("10.0.1.5"), link="eth0"),
        rtmsg,
        {**ROUTE_FIELDS, "scope": 253},
        [("RTA_DST", "10.0.1.5"), ("RTA_OIF", INDEX), ("RTA_TABLE", 254)],
    ),
    (
        Route(
            destination=ip_network("0.0.0.0/0"),
            link="eth0",
            via=ip_address("10.0.0.1"),
            src=ip_address("10.0.0.9"),
            table=1002,
            metric=7,
            tos=16,
            onlink=True,
            protocol=PROTOCOL,
            side=HOST,
        ),
        rtmsg,
        {
            "family": 2,
            "table": 252,
            "proto": 197,
            "type": 1,
            "tos": 16,
            "flags": 4,
        },
        [
            ("RTA_GATEWAY", "10.0.0.1"),
            ("RTA_PREFSRC", "10.0.0.9"),
            ("RTA_PRIORITY", 7),
            ("RTA_OIF", INDEX),
            ("RTA_TABLE", 1002),
        ],
    ),
    (
        Route(
            destination=ip_network("2001:db8::/32"),
            link="eth0",
            via=ip_address("fe80::1"),
        ),
        rtmsg,
        {"family": 10, "dst_len": 32, "table": 254, "proto": 3, "type": 1},
        [
            ("RTA_DST", "2001:db8::"),
            ("RTA_GATEWAY", "fe80::1"),
            ("RTA_OIF", INDEX),
            ("RTA_TABLE", 254),
        ],
    ),
    (
        Rule(priority=512, table=254, dst=ip_network("10.0.1.5")),
        fibmsg,
        {**RULE_FIELDS, "dst_len": 32, "table": 254},
        [("FRA_DST", "10.0.1.5"), ("FRA_PRIORITY", 512), ("FRA_TABLE", 254)],
    ),
    (
        Rule(
            priority=1536,
            table=1002,
            family=6,
            src=ip_network("2001:db8::/80"),
            mark=2,
            mask=0x7F,
            iif="eth0",
            protocol=PROTOCOL,
            side=POD,
        ),
        fibmsg,
        {"family": 10, "action": 1, "src_len": 80, "table": 252},
        [
            ("FRA_SRC", "2001:db8::"),
            ("FRA_FWMARK", 2),
            ("FRA_FWMASK", 0x7F),
            ("FRA_IIFNAME", "eth0"),
            ("FRA_PROTOCOL", 197),
            ("FRA_PRIORITY", 1536),
            ("FRA_TABLE", 1002),
        ],
    ),
]


@pytest.mark.parametrize(("one", "kind", "fields", "attributes"), CASES)
def test_an_object_is_packed_as_pyroute2_reads_it(
    one: Object, kind: Any, fields: Mapping[str, int], attributes: Attributes
) -> None:
    message = encode.create(one, index_of)

    assert tree(kind, message.body) == theirs(kind, fields, attributes)
    assert encode.delete(one, index_of) == (message.type + 1, 0, message.body)


@pytest.mark.parametrize("one", [case[0] for case in CASES])
def test_what_is_packed_is_read_as_the_same_object(one: Object) -> None:
    message = encode.create(one, index_of)

    assert decode.one(message.type + 2, message.body, one.side, name_of) == one


def changed(position: int, value: int) -> Callable[[bytes], bytes]:
    return lambda body: body[:position] + bytes((value,)) + body[position + 1 :]


@pytest.mark.parametrize(
    ("one", "change"),
    [
        (CASES[4][0], changed(7, 6)),  # a blackhole
        (CASES[4][0], lambda body: body + attribute(9, b"")),  # multipath
        (CASES[4][0], changed(9, 2)),  # cached
        (CASES[7][0], changed(7, 6)),  # a rule that drops
        (CASES[7][0], changed(8, 2)),  # an inverted rule
        (CASES[7][0], lambda body: body + text(17, "eth0")),  # oif
        (CASES[7][0], lambda body: body + u32(14, 0)),  # suppress_prefixlength
        (CASES[2][0], changed(8, 2)),  # a dynamic neighbour
    ],
)
def test_what_no_object_can_say_is_none(
    one: Object, change: Callable[[bytes], bytes]
) -> None:
    message = encode.create(one, index_of)
    body = change(message.body)

    assert decode.one(message.type + 2, body, one.side, name_of) is None


def test_an_ifb_is_packed_as_pyroute2_reads_it() -> None:
    ifb = Ifb(name="ifb1", mac="02:00:00:00:00:03", mtu=1500)

    message = encode_links.create_ifb(ifb, INDEX)

    assert tree(ifinfmsg, message.body) == theirs(
        ifinfmsg,
        {"index": INDEX},
        [
            ("IFLA_IFNAME", "ifb1"),
            ("IFLA_ADDRESS", "02:00:00:00:00:03"),
            ("IFLA_MTU", 1500),
            ("IFLA_NUM_TX_QUEUES", 1),
            ("IFLA_NUM_RX_QUEUES", 1),
            ("IFLA_LINKINFO", {"attrs": [("IFLA_INFO_KIND", "ifb")]}),
        ],
    )
    assert message[:2] == (16, 0x600)


TBF = Qdisc(link="eth0", discipline="tbf", rate=1_250_000, burst=32768, limit=64018)
INGRESS = Qdisc(link="eth0", discipline="ingress")
REDIRECT = Redirect(link="eth0", to="ifb1", priority=7)
LINKS = {"eth0": INDEX, "ifb1": 77}
NAMES = {index: name for name, index in LINKS.items()}


def test_a_token_bucket_is_packed_as_pyroute2_reads_it() -> None:
    message = encode.create(TBF, index_of)

    fields, attributes = tree(tcmsg, message.body)
    options = dict(dict(attributes)["TCA_OPTIONS"][1])
    parms, _ = options["TCA_TBF_PARMS"]
    assert (fields["index"], fields["parent"]) == (INDEX, 0xFFFFFFFF)
    assert dict(attributes)["TCA_KIND"] == "tbf"
    # 32768 bytes at 1.25 MB/s take 26.2144 ms, in ticks of 64 ns.
    wanted = {"rate": 1_250_000, "limit": 64018, "buffer": 409_600, "peak": 0}
    assert {name: parms[name] for name in wanted} == wanted
    assert message[:2] == (36, 0x600)


def test_an_ingress_qdisc_is_packed_as_pyroute2_reads_it() -> None:
    message = encode.create(INGRESS, index_of)

    fields, attributes = tree(tcmsg, message.body)
    assert (fields["index"], fields["parent"]) == (INDEX, 0xFFFFFFF1)
    assert dict(attributes)["TCA_KIND"] == "ingress"


def test_a_redirect_is_packed_as_pyroute2_reads_it() -> None:
    message = encode.create(REDIRECT, LINKS.__getitem__)

    fields, attributes = tree(tcmsg, message.body)
    options = dict(dict(attributes)["TCA_OPTIONS"][1])
    selector = options["TCA_U32_SEL"][0]
    ((_, action),) = options["TCA_U32_ACT"][1]
    ((_, (parms, _)),) = dict(action[1])["TCA_ACT_OPTIONS"][1]
    assert (fields["index"], fields["parent"]) == (INDEX, 0xFFFF0000)
    assert (fields["handle"], fields["info"]) == (0x80000800, 7 << 16 | 0x0300)
    assert dict(attributes)["TCA_KIND"] == "u32"
    assert (selector["flags"], selector["nkeys"]) == (1, 1)
    assert dict(action[1])["TCA_ACT_KIND"] == "mirred"
    assert (parms["action"], parms["eaction"], parms["ifindex"]) == (4, 1, 77)
    assert message[:2] == (44, 0x600)


@pytest.mark.parametrize(
    "one",
    [
        TBF,
        INGRESS,
        REDIRECT,
        evolve(TBF, rate=2**33, burst=2**32 - 1, limit=2**32 - 1, side=POD),
        evolve(TBF, rate=1000, burst=274_000),
    ],
)
def test_shaping_is_read_as_it_was_packed(one: Object) -> None:
    message = encode.create(one, LINKS.__getitem__)
    kind = message.type + 2

    found = decode.one(kind, message.body, one.side, NAMES.get)

    assert found == decode.canonical(one)
    assert decode.one(kind, message.body, one.side, lambda _: None) is None
    assert encode.delete(one, LINKS.__getitem__)[::2] == (kind - 1, message.body)


@pytest.mark.parametrize(
    ("one", "change"),
    [
        (TBF, lambda body: body.replace(b"tbf", b"red")),
        (TBF, changed(12, 1)),  # of a class, not of the link
        (TBF, lambda body: body[:36]),  # no values
        (TBF, changed(38, 1)),  # an overhead
        (TBF, changed(56, 1)),  # a peak rate
        (REDIRECT, lambda body: body.replace(b"u32", b"bpf")),
        (REDIRECT, changed(8, 1)),  # another filter
        (REDIRECT, changed(17, 8)),  # of one protocol
        (REDIRECT, lambda body: body.replace(b"mirred", b"police")),
        (REDIRECT, lambda body: body[:-4] + bytes(4)),  # to a link that is gone
        (REDIRECT, lambda body: body[:-8] + b"\2" + body[-7:]),  # a mirror
    ],
)
def test_shaping_that_no_object_can_say_is_none(
    one: Object, change: Callable[[bytes], bytes]
) -> None:
    message = encode.create(one, LINKS.__getitem__)
    body = change(message.body)

    assert body != message.body
    assert decode.one(message.type + 2, body, one.side, NAMES.get) is None


def test_what_is_the_same_to_the_kernel_has_one_form() -> None:
    any_source = Rule(priority=1, table=2, src=ip_network("0.0.0.0/0"), mask=0)
    metric = Route(destination=ip_network("2001:db8::/64"), link="eth0", metric=1024)

    assert decode.canonical(any_source) == Rule(priority=1, table=2)
    assert decode.canonical(metric) == Route(
        destination=ip_network("2001:db8::/64"), link="eth0"
    )
    assert decode.canonical(CASES[5][0]) == CASES[5][0]
