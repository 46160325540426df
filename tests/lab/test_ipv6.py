"""Pods of one family, and their way out in the other, seen by packets."""

from __future__ import annotations

import json
import socket
import struct
from collections.abc import Generator, Iterator
from contextlib import ExitStack, closing, contextmanager
from ipaddress import ip_address, ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest
from attrs import define, field

from eniplug.lab import netns, probes, tools
from eniplug.lab.control import ask
from eniplug.lab.netns import Inside
from eniplug.lab.verify import Matrix
from kit.labs import LabHand, a_lab, entry
from kit.names import MINE
from kit.nodes import command

pytestmark = [pytest.mark.root, pytest.mark.lab]

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "conflists"
RANGE = ip_network("169.254.172.0/22")
RANGE6 = ip_network("fd00::ac:0/118")
INTERNET, INTERNET6 = "203.0.113.10", "2001:db8:ffff::10"


def example(name: str) -> dict[str, Any]:
    return dict(json.loads((EXAMPLES / f"{name}.conflist").read_text()))


@define(eq=False)
class Bed:
    """A lab, its namespaces from the inside, and the pods' results."""

    lab: LabHand
    conflist: dict[str, Any]
    undo: ExitStack
    results: dict[str, dict[str, Any]] = field(factory=dict)

    def add(self, *pods: str, node: int = 1) -> None:
        for answer in ask(self.lab.names, "pod-add", pods=pods, node=node):
            assert "result" in answer, answer
            self.results[answer["name"]] = answer["result"]

    def own(self, pod: str) -> str:
        """The address that the result tells."""
        (ip,) = self.results[pod]["ips"]
        return str(ip["address"]).partition("/")[0]

    def inside(self, namespace: str) -> Inside:
        entered = Inside(namespace)
        self.undo.callback(entered.close)
        return entered

    def pod(self, pod: str) -> Inside:
        return self.inside(self.lab.names.pod(pod))

    def node(self, number: int = 1) -> Inside:
        return self.inside(self.lab.names.node(number))

    def ip(self, pod: str, *words: str) -> Any:
        return json.loads(self.pod(pod).call(command, "ip", "-j", *words))

    def agent(self, do: str) -> None:
        """Kill or start the agent of node 1."""
        ask(self.lab.names, "agent", number=1, do=do)

    def address(self, pod: str, link: str) -> str:
        """The address of an interface of a pod."""
        (found,) = self.ip(pod, "addr", "show", "dev", link)
        (address,) = found["addr_info"]
        return str(address["local"])

    def public(self, node: int = 1) -> str:
        return str(self.lab.status()["nodes"][node - 1]["public"])

    @contextmanager
    def mirror(self, inside: Inside) -> Generator[int]:
        """Answer callers there; yields the port."""
        mirror = inside.call(probes.Mirror)
        try:
            yield mirror.port
        finally:
            mirror.close()

    def check(self, pod: str) -> Any:
        """Run CHECK as the runtime does; None when it is content."""
        (known,) = (p for p in self.lab.status()["pods"] if p["name"] == pod)
        config = {
            **self.conflist["plugins"][0],
            "cniVersion": "1.0.0",
            "name": self.conflist["name"],
            "prevResult": self.results[pod],
        }
        variables = {
            "CNI_CONTAINERID": known["id"],
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": f"/run/netns/{known['namespace']}",
        }
        return self.lab.call("CHECK", config, variables).said


@contextmanager
def a_bed(name: str, conflist: dict[str, Any], **fields: Any) -> Generator[Bed]:
    with ExitStack() as undo:
        lab = undo.enter_context(a_lab(f"{MINE}-{name}", conflist=conflist, **fields))
        yield Bed(lab, conflist, undo)


@pytest.fixture(scope="module")
def six() -> Iterator[Bed]:
    """Two nodes whose pods have IPv6, and egress-v4; two pods on node 1."""
    with a_bed("six", example("ipv6")) as bed:
        bed.add("here", "near")
        yield bed


@pytest.fixture(scope="module")
def four() -> Iterator[Bed]:
    """A node as the AWS VPC CNI leaves it, and egress-v6 with room for 13 pods."""
    plan = example("ipv4-egress-v6")
    plan["plugins"][0]["plugins"] = [
        *("secondary-ip", "pod-veth", "policy-routes", "snat"),
        {"name": "egress-v6", "subnet": "fd00::ac:0/124"},
    ]
    settings = {"IP_COOLDOWN_PERIOD": "0"}
    with a_bed("four", plan, nodes=1, environment=settings) as bed:
        bed.add(*(f"p{number}" for number in range(13)))
        yield bed


# -- pods with IPv6 --------------------------------------------------------------------


def test_pods_with_ipv6_reach_all_that_they_should_in_both_families(six: Bed) -> None:
    with Matrix(six.lab.names) as matrix:
        found = list(matrix.findings())

    assert [each for each in found if not each.holds] == []
    out = [each for each in found if each.cell == "pod → internet"]
    assert len([each for each in out if each.note.startswith("verify-a ")]) == 2


def test_the_result_tells_the_pods_own_address_and_both_interfaces(six: Bed) -> None:
    result = six.results["here"]

    names = [(one["name"], "sandbox" in one) for one in result["interfaces"]]
    assert [name for name, inside in names if inside] == ["eth0", "v4if0"]
    assert [inside for _, inside in names] == [False, True, False, True]
    (ip,) = result["ips"]
    assert ip_address(six.own("here")).version == 6
    assert (ip["interface"], ip["gateway"]) == (1, "fe80::1")
    assert result["routes"] == [
        {"dst": "fe80::1/128"},
        {"dst": "::/0", "gw": "fe80::1"},
    ]


def test_a_pods_addresses_are_usable_at_once_and_need_no_discovery(six: Bed) -> None:
    own, out = six.ip("here", "addr", "show", "scope", "global")
    (neighbour,) = six.ip("here", "-6", "neigh")

    assert [a["local"] for a in own["addr_info"]] == [six.own("here")]
    assert not {"tentative", "dadfailed"} & set(own["addr_info"][0])
    assert own["addr_info"][0]["nodad"]
    assert (out["ifname"], out["mtu"]) == ("v4if0", own["mtu"])
    assert (neighbour["dst"], neighbour["state"]) == ("fe80::1", ["PERMANENT"])


def test_nobody_but_the_node_reaches_a_pod_by_its_way_out(six: Bed) -> None:
    target = six.address("near", "v4if0")
    (node,) = {n["address"] for n in six.lab.status()["nodes"] if n["number"] == 1}
    router = six.inside(six.lab.names.vpc)
    (way,) = json.loads(router.call(command, "ip", "-j", "route", "get", node))
    router.call(
        tools.ip, [f"route add {RANGE} via {node} dev {way['dev']} onlink src 10.0.0.2"]
    )

    with six.mirror(six.pod("near")) as port:
        from_node = six.node().call(probes.ask, target, port)
        from_pod = six.pod("here").call(probes.ask, target, port)
        from_vpc = router.call(probes.ask, target, port)

    assert from_node == node
    assert "refused" in from_pod
    assert "No route to host" in from_vpc
    assert not six.pod("here").call(probes.ping, target, tries=1)
    assert six.node().call(probes.ping, target)


def test_a_pod_cannot_go_out_with_another_pods_address(six: Bed) -> None:
    outside = six.inside(six.lab.names.internet)
    for forged in (six.address("near", "v4if0"), "10.0.0.77"):
        catcher = outside.call(probes.Catcher)
        with closing(catcher):
            six.pod("here").call(
                probes.forge_and_send, forged, INTERNET, catcher.port, "v4if0"
            )

            assert catcher.first() == b"honest"


WATCH = f"""
table ip watch {{
  counter leaked {{ }}
  counter translated {{ }}
  chain seen {{
    type filter hook prerouting priority -400;
    ip saddr {RANGE} counter name leaked
    ip saddr 10.0.0.0/16 counter name translated
  }}
}}
"""


def test_no_packet_leaves_the_node_with_an_address_of_the_range(six: Bed) -> None:
    router, here = six.inside(six.lab.names.vpc), six.pod("here")
    router.call(tools.nft, WATCH)

    assert here.call(probes.fetch, INTERNET) == six.public()
    assert here.call(probes.ping, INTERNET)
    here.call(_send_what_conntrack_refuses, six.address("here", "v4if0"), INTERNET)
    here.call(_send_to_many, "v4if0")

    counted = router.call(tools.counters)
    assert counted["translated"] > 0
    assert counted["leaked"] == 0


def _send_what_conntrack_refuses(source: str, address: str) -> None:
    """Send a segment with SYN and FIN, which no nat chain sees."""
    segment = struct.pack("!HHIIBBHHH", 9, 80, 1, 0, 0x50, 0x03, 1024, 0, 0)
    with socket.socket(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_TCP) as raw:
        raw.bind((source, 0))
        for _ in range(3):
            raw.sendto(segment, (address, 0))


def _send_to_many(link: str) -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, link.encode())
        sock.setsockopt(socket.IPPROTO_IP, socket.IP_MULTICAST_TTL, 8)
        sock.sendto(b"x", ("239.1.2.3", 9))


@pytest.mark.parametrize("link", ["eth0", "v4if0"])
def test_check_tells_of_an_address_that_is_gone(six: Bed, link: str) -> None:
    six.add("checked")
    try:
        address = ip_interface(six.address("checked", link))
        assert six.check("checked") is None

        six.pod("checked").call(tools.ip, [f"addr del {address} dev {link}"])

        told = six.check("checked")
        assert told["code"] == 103
        assert str(address) in told["msg"]
    finally:
        six.lab.remove("checked")


def test_an_agent_that_is_killed_keeps_slots_and_addresses(six: Bed) -> None:
    six.add("one", "two")
    before = {pod: six.address(pod, "v4if0") for pod in ("here", "near", "one", "two")}
    six.agent("kill")
    assert six.pod("one").call(probes.fetch, INTERNET) == six.public()
    six.agent("start")

    assert {pod: six.address(pod, "v4if0") for pod in before} == before
    assert six.check("one") is None
    six.add("three")
    after = six.address("three", "v4if0")
    assert after not in before.values()
    six.lab.remove("one")
    six.add("four")
    assert six.address("four", "v4if0") == before["one"]
    for pod in ("two", "three", "four"):
        assert six.pod(pod).call(probes.fetch, INTERNET) == six.public()
        assert six.pod(pod).call(probes.fetch, INTERNET6) == six.own(pod)
    six.lab.remove("two", "three", "four")


def test_a_store_that_is_lost_costs_no_pod_its_slot(six: Bed) -> None:
    six.add("before")
    six.add("kept")
    kept = six.address("kept", "v4if0")
    six.lab.remove("before")
    six.agent("kill")
    six.lab.inside("node1", "sh", "-c", "rm /run/eniplug/state.db*")
    six.agent("start")

    new = ["new1", "new2", "new3"]
    six.add(*new)

    addresses = [six.address(pod, "v4if0") for pod in ("here", "near", "kept", *new)]
    assert kept in addresses
    assert len(set(addresses)) == len(addresses)
    for pod in ("kept", *new):
        assert six.pod(pod).call(probes.fetch, INTERNET) == six.public()
    six.lab.remove("kept", *new)
    left = six.lab.inside("node1", "ip", "route", "show", "table", "512")
    assert len(left.splitlines()) == 2


# -- pods with IPv4 --------------------------------------------------------------------


def test_pods_with_ipv4_reach_ipv6_as_their_node_by_either_eni(four: Bed) -> None:
    node = four.lab.status()["nodes"][0]
    first, second = node["enis"][:2]
    (own6,) = first["addresses6"]
    of_second = [p for p in four.results if four.own(p) in second["addresses"]]
    assert of_second

    for pod in ("p0", of_second[0]):
        assert four.pod(pod).call(probes.fetch, INTERNET) == node["public"]
        assert four.pod(pod).call(probes.fetch, INTERNET6) == own6
        assert ip_address(four.address(pod, "v6if0")) in RANGE6


def test_beyond_the_range_a_pod_is_refused_until_another_one_is_gone(four: Bed) -> None:
    (answer,) = ask(four.lab.names, "pod-add", pods=["more"], node=1)
    assert answer["error"]["code"] == 11
    assert answer["error"]["details"].startswith("range-full: ")
    assert "fd00::ac:0/124 has addresses for 13 pods" in answer["error"]["msg"]

    freed = four.address("p7", "v6if0")
    four.lab.remove("p7")
    four.add("more")

    assert four.address("more", "v6if0") == freed
    assert four.pod("more").call(probes.fetch, INTERNET6).startswith("2001:db8:")


def test_nobody_but_the_node_reaches_a_pod_with_ipv4_by_its_way_out(four: Bed) -> None:
    target = four.address("p1", "v6if0")
    with four.mirror(four.pod("p1")) as port:
        from_node = four.node().call(probes.ask, target, port)
        from_pod = four.pod("p0").call(probes.ask, target, port)

    assert from_node.startswith("2001:db8:")
    assert "refused" in from_pod
    assert not four.pod("p0").call(probes.ping, target, tries=1)


def test_a_pod_of_another_projects_plugin_gets_a_way_out_as_well(four: Bed) -> None:
    plugins = four.conflist["plugins"][0]["plugins"]
    four.lab.remove("p12")
    namespace = four.lab.names.pod("foreign")
    path = str(netns.create(namespace))
    prev = {
        "cniVersion": "1.0.0",
        "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": path}],
        "ips": [{"interface": 1, "address": "10.1.0.2/24"}],
    }
    config = {**entry(plugins[-1]), "prevResult": prev}
    variables = {
        "CNI_CONTAINERID": "foreign",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": path,
    }
    try:
        added = four.lab.call("ADD", config, variables).said

        assert added["ips"] == prev["ips"]
        assert [one["name"] for one in added["interfaces"]][-1] == "v6if0"
        outside = four.inside(namespace).call(probes.fetch, INTERNET6)
        assert outside.startswith("2001:db8:")
        assert four.lab.call("DEL", config, variables).status == 0
    finally:
        netns.remove(namespace)
    four.add("p12")
