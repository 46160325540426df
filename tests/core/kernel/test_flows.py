from __future__ import annotations

import socket
from typing import Any

import pytest
from pyroute2.netlink.nfnetlink.nfctsocket import nfct_msg

from eniplug.core.kernel import Kernel, flows
from eniplug.hooks import NftTable, StaleFlows
from kit.nodes import World

DNS = StaleFlows(family=4, protocol="udp", port=5353)
DNS6 = StaleFlows(family=6, protocol="udp", port=5353)
TRACK = NftTable(
    family="inet",
    name="track",
    text="chain out { type filter hook output priority 0; ct state new accept; }",
)


def test_the_kernel_is_asked_for_one_port_as_pyroute2_reads_it() -> None:
    message = flows.look(DNS)
    header = (16 + len(message.body)).to_bytes(4, "little") + bytes(12)
    read: Any = nfct_msg(header + message.body)
    read.decode()

    proto = read.get_attr("CTA_TUPLE_ORIG").get_attr("CTA_TUPLE_PROTO")

    assert read["nfgen_family"] == socket.AF_INET
    assert proto.get_attr("CTA_PROTO_NUM") == 17
    assert proto.get_attr("CTA_PROTO_DST_PORT") == 5353
    assert read.get_attr("CTA_FILTER") is not None


def entries(world: World) -> list[str]:
    """The ports that flows of the node were sent to."""
    said = world.run("cat", "/proc/net/nf_conntrack")
    found = {
        f"{line.split()[0]} {line.split('dport=')[1].split()[0]}"
        for line in said.splitlines()
        if " udp " in line
    }
    return sorted(found)


@pytest.mark.root
def test_flows_to_the_port_are_forgotten_and_no_others(
    kernel: Kernel, world: World
) -> None:
    kernel.settle((), (TRACK,), {})

    def send() -> None:
        for family, address in (
            (socket.AF_INET, "127.0.0.1"),
            (socket.AF_INET6, "::1"),
        ):
            for port in (5353, 5354):
                with socket.socket(family, socket.SOCK_DGRAM) as sock:
                    sock.sendto(b"?", (address, port))

    send()
    assert entries(world) == ["ipv4 5353", "ipv4 5354", "ipv6 5353", "ipv6 5354"]

    kernel.apply((DNS,), None)
    kernel.forget((DNS,))
    assert entries(world) == ["ipv4 5354", "ipv6 5353", "ipv6 5354"]

    send()
    kernel.remove((DNS, DNS6), None)
    kernel.forget((DNS, DNS6))
    assert entries(world) == ["ipv4 5354", "ipv6 5354"]
    assert kernel.check((DNS,), None) == ()
