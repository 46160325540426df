"""A network namespace that plays the node, pods beside it, and what a pod declares."""

from __future__ import annotations

import json
import os
import re
import subprocess
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field
from pyroute2 import netns

from eniplug.hooks import (
    HOST,
    PROTOCOL,
    Address,
    Ifb,
    LinkState,
    Neighbor,
    Object,
    Qdisc,
    Redirect,
    Route,
    Rule,
    Veth,
)

GATEWAY = ip_address("169.254.1.1")
GATEWAY6 = ip_address("fe80::1")


_LATER = re.compile(r'"operstate":"\w+",|"NO-CARRIER",|,"LOWER_UP"|"linkdown"')
"""What follows a change of a link a moment later."""

_MULTICAST = r'\{"type":"multicast"[^}]*\}'
_KERNELS_OWN = re.compile(f"{_MULTICAST},|,?{_MULTICAST}")
"""IPv6 routes that come when the kernel has seen to a new carrier, sooner or later."""

_NUMBERED = re.compile(r"(?<=tbf )[0-9a-f]+:")
"""What the kernel counts up with each new qdisc."""


@define
class World:
    """One node; the thread that made it is in its namespace."""

    prefix: str
    pods: dict[str, int] = field(factory=dict)

    def pod(self, name: str) -> int:
        """Make a pod's namespace; returns a descriptor, closed at the end."""
        full = f"{self.prefix}-{name}"
        command("ip", "netns", "add", full)
        self.pods[name] = os.open(Path("/run/netns", full), os.O_RDONLY | os.O_CLOEXEC)
        return self.pods[name]

    def delete(self, name: str) -> None:
        """Remove a pod's namespace, as a runtime does after DEL."""
        os.close(self.pods.pop(name))
        command("ip", "netns", "del", f"{self.prefix}-{name}")

    def run(self, *words: str, pod: str = "") -> str:
        """Run a command on the node, or in a pod; returns its output."""
        if pod:
            words = ("ip", "netns", "exec", f"{self.prefix}-{pod}", *words)
        return command(*words)

    def ip(self, *words: str, pod: str = "") -> Any:
        """Run ``ip -j``; returns what its JSON says."""
        return json.loads(self.run("ip", "-j", *words, pod=pod) or "[]")

    def snapshot(self, pod: str = "") -> dict[str, str]:
        """Say everything about a namespace that an object can change."""
        seen = {
            words: _settled(self.run("ip", "-j", *words.split(), pod=pod))
            for words in (
                "-d link",
                "addr",
                "-4 route show table all",
                "-6 route show table all",
                "-4 rule",
                "-6 rule",
                "neigh show nud permanent",
            )
        }
        return seen | {"tc": _NUMBERED.sub("", self.run("tc", "qdisc", pod=pod))}


def _settled(shown: str) -> str:
    return _LATER.sub("", _KERNELS_OWN.sub("", shown))


def command(*words: str) -> str:
    """Run a command, which must succeed; returns its output."""
    done = subprocess.run(words, capture_output=True, text=True, timeout=20)
    assert done.returncode == 0, f"{' '.join(words)}: {done.stderr}"
    return done.stdout


@contextmanager
def a_world(prefix: str) -> Generator[World]:
    """Make a node and be in it; everything is gone afterwards."""
    if os.geteuid():
        pytest.fail("this test makes network namespaces: run it as root")
    world = World(f"{prefix}-{os.getpid()}")
    node = f"{world.prefix}-node"
    command("ip", "netns", "add", node)
    netns.pushns(node)
    try:
        command("ip", "link", "set", "lo", "up")
        yield world
    finally:
        netns.popns()
        for name in list(world.pods):
            world.delete(name)
        command("ip", "netns", "del", node)


def flat_pod(
    number: int = 1, *, ifname: str = "eth0"
) -> tuple[Veth, *tuple[Object, ...]]:
    """What pod-veth and flat-routes declare for 10.0.1.<number>."""
    address = ip_address(f"10.0.1.{number}")
    link = f"eni{number:011x}"
    mac = f"02:00:00:00:00:{number:02x}"
    return (
        Veth(
            name=link,
            peer=ifname,
            mac=mac,
            peer_mac=f"02:00:00:00:01:{number:02x}",
        ),
        LinkState(link=link, setting="group", value=0xE001),
        LinkState(link=link, setting="rp_filter", value=1),
        Address(link=ifname, address=ip_interface(address)),
        Neighbor(link=ifname, address=GATEWAY, mac=mac),
        Route(destination=ip_network(GATEWAY), link=ifname),
        Route(destination=ip_network("0.0.0.0/0"), link=ifname, via=GATEWAY),
        Route(
            destination=ip_network(address),
            link=link,
            table=512,
            protocol=PROTOCOL,
            side=HOST,
        ),
    )


def six_pod(number: int = 1) -> tuple[Object, ...]:
    """An IPv6 pod with 2001:db8::<number>."""
    address = ip_address(f"2001:db8::{number}")
    link = f"eni{number:011x}"
    mac = f"02:00:00:00:00:{number:02x}"
    peer_mac = f"02:00:00:00:01:{number:02x}"
    return (
        Veth(name=link, peer="eth0", mac=mac, peer_mac=peer_mac),
        Address(link="eth0", address=ip_interface(address)),
        Neighbor(link="eth0", address=GATEWAY6, mac=mac),
        Route(destination=ip_network(GATEWAY6), link="eth0"),
        Route(destination=ip_network("::/0"), link="eth0", via=GATEWAY6),
        Neighbor(link=link, address=address, mac=peer_mac, side=HOST),
        Route(destination=ip_network(address), link=link, table=512, side=HOST),
        Rule(priority=512, table=512, family=6, dst=ip_network(address)),
    )


def shaped(number: int = 1) -> tuple[Ifb, Qdisc, Qdisc, Qdisc, Redirect]:
    """What bandwidth declares for a pod of 8 Mbit/s in, 4 Mbit/s out."""
    link, ifb = f"eni{number:011x}", f"ifb{number:011x}"
    rate, burst = 1_000_000, 32768
    return (
        Ifb(name=ifb, mac=f"02:00:00:00:02:{number:02x}"),
        Qdisc(link=link, discipline="tbf", rate=rate, burst=burst, limit=57768),
        Qdisc(link=ifb, discipline="tbf", rate=rate // 2, burst=burst, limit=45268),
        Qdisc(link=link, discipline="ingress"),
        Redirect(link=link, to=ifb),
    )


def policy_pod(number: int = 5, table: int = 2) -> tuple[Object, ...]:
    """What pod-veth and policy-routes declare for 10.0.1.<number>."""
    flat: tuple[Object, ...] = flat_pod(number)
    address = ip_network(f"10.0.1.{number}")
    link = f"eni{number:011x}"
    return (
        *flat[:-1],
        Route(destination=address, link=link, side=HOST),
        Rule(priority=512, table=254, dst=address),
        Rule(priority=1536, table=table, src=address),
    )
