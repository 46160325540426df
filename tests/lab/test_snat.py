"""Ways out of the VPC, and back: under every setting, beside foreign rules."""

from __future__ import annotations

import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from typing import Any

import boto3
import pytest
from attrs import define, frozen
from botocore.config import Config

from eniplug.lab import probes, tools
from eniplug.lab.control import ask
from eniplug.lab.fabric import EC2
from eniplug.lab.internet import ADDRESS, ADDRESS6
from eniplug.lab.netns import Inside
from kit.aws_rules import MARKS, snat
from kit.labs import LabHand, a_lab, conflist, entry
from kit.names import MINE
from kit.ways import WITHIN, Stream, stream, way_out

pytestmark = [pytest.mark.root, pytest.mark.lab]

INTERNET = str(ADDRESS)
OUTSIDE, INSIDE = "172.20.0.10", "172.20.0.11"
"""Cluster IPs: of the internet's host, and of a pod of the primary ENI."""

PATIENCE = 60.0
"""Seconds for a connection that stands still on the way, and TCP's pauses after it."""

MIGRATE = (sys.executable, "-m", "eniplug.core.cli", "migrate")
PORT = 8000


@frozen
class Pod:
    name: str
    four: str
    six: str
    namespace: str
    inside: Inside

    def asks(self, address: str, port: int = PORT) -> str:
        """The address that a server saw it with."""
        return self.inside.call(probes.ask, address, port)


@define
class Place:
    """One node with two ENIs: ``one`` is a pod of the primary, ``two`` of the other."""

    lab: LabHand
    node: Inside
    internet: Inside
    one: Pod
    two: Pod
    own: str
    own6: str
    public: str

    def way(self, pod: Pod, to: str) -> tuple[str, str]:
        return way_out(self.node, pod.inside, to)

    def tables(self) -> list[str]:
        """The agent's nftables tables, as `table` says them."""
        listed = self.node.call(command, ["nft", "list", "tables"])
        return re.findall(r"^table (\w+ eniplug-\S+)$", listed, re.M)

    def inbound(self, port: int, address: str = "") -> str:
        """Whom a pod saw when the internet's host asked a port of the node."""
        return self.internet.call(probes.ask, address or self.public, port)

    @contextmanager
    def streams(self, patience: float = WITHIN) -> Generator[tuple[Stream, Stream]]:
        with (
            stream(self.one.namespace, INTERNET, patience) as one,
            stream(self.two.namespace, INTERNET, patience) as two,
        ):
            for each in (one, two):
                goes_on(each)
            yield one, two
            for each in (one, two):
                goes_on(each)

    @contextmanager
    def having(
        self, settings: Mapping[str, str], patience: float = WITHIN
    ) -> Generator[None]:
        """Run the agent with other settings for a while; what goes on must go on.

        A connection may stand still for ``patience``.
        """
        with self.streams(patience):
            self._restart(settings)
            try:
                yield
            finally:
                self._restart(dict.fromkeys(settings, "") | USUAL)

    def _restart(self, settings: Mapping[str, str]) -> None:
        ask(self.lab.names, "agent", number=1, do="stop")
        ask(self.lab.names, "agent", number=1, do="start", environment=settings)


USUAL = {
    "AWS_VPC_K8S_CNI_EXTERNALSNAT": "false",
    "AWS_VPC_CNI_NODE_PORT_SUPPORT": "true",
    "AWS_VPC_K8S_CNI_CONNMARK": "0x80",
    "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "prng",
}


def until(done: Callable[[], bool], within: float = 30.0) -> None:
    end = time.monotonic() + within
    while not done():
        assert time.monotonic() < end, "it does not come to pass"
        time.sleep(0.02)


def goes_on(stream: Stream) -> None:
    """Wait for twenty rounds more, or for the end of a stream that broke."""
    before = stream.rounds
    until(lambda: stream.rounds > before + 20 or bool(stream.broken), PATIENCE)


class Mirror:
    """Tells each caller the address and port that it is seen with, in both families."""

    def __init__(self, words: Callable[[str, int], str], port: int) -> None:
        self._words = words
        self._socket = socket.create_server(
            ("::", port), family=socket.AF_INET6, dualstack_ipv6=True
        )
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with suppress(OSError):
            while True:
                caller, (address, port, *_) = self._socket.accept()
                with caller:
                    seen = address.removeprefix("::ffff:")
                    caller.sendall(self._words(seen, port).encode())

    def close(self) -> None:
        self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()


@pytest.fixture(scope="module")
def place() -> Iterator[Place]:
    prefixes = {"name": "prefix-delegation", "family": "dual-stack"}
    # A prefix has 16 addresses: the 17th pod is the second ENI's.
    with a_place(prefixes, "flat-routes", pods=17) as place:
        yield place


@contextmanager
def a_place(addresses: Any, routes: str, *, pods: int) -> Generator[Place]:
    plugins = (addresses, "pod-veth", routes, "snat")
    with (
        a_lab(
            f"{MINE}-snat",
            nodes=1,
            instance_type="t3.nano",
            ipv6=True,
            conflist=conflist(entry(*plugins)),
        ) as lab,
        ExitStack() as undo,
    ):
        lab.add(*(f"p{number}" for number in range(pods - 1)))
        lab.add("last")
        status = lab.status()
        (node,), found = status["nodes"], {pod["name"]: pod for pod in status["pods"]}

        def enter(namespace: str) -> Inside:
            inside = Inside(namespace)
            undo.callback(inside.close)
            return inside

        def pod(name: str) -> Pod:
            four, six = (*found[name]["addresses"], "")[:2]
            space = found[name]["namespace"]
            return Pod(name, four, six, space, enter(space))

        internet = enter(lab.names.internet)
        one, two = pod("p0"), pod("last")
        for where in (one.inside, two.inside):
            undo.callback(where.call(Mirror, lambda seen, _: seen, PORT).close)
        teller = internet.call(Mirror, lambda _, port: str(port), PORT)
        undo.callback(teller.close)
        yield Place(
            lab=lab,
            node=enter(node["namespace"]),
            internet=internet,
            one=one,
            two=two,
            own=node["address"],
            own6=node["enis"][0]["addresses6"][0],
            public=node["public"],
        )


def port_seen(pod: Pod, source_port: int) -> int:
    """The source port that the internet's host sees of a connection."""

    def connect() -> int:
        with socket.socket() as sock:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            sock.settimeout(5.0)
            sock.bind(("", source_port))
            sock.connect((INTERNET, PORT))
            return int(sock.recv(100))

    return pod.inside.call(connect)


# -- as it is without any setting ------------------------------------------------------


def test_pods_of_each_eni_leave_the_vpc_as_the_node(place: Place) -> None:
    assert place.way(place.one, INTERNET) == ("ens5", place.own)
    assert place.way(place.two, INTERNET) == ("ens5", place.own)
    assert place.two.inside.call(probes.fetch, INTERNET) == place.public


def test_inside_the_vpc_each_leaves_by_its_own_eni_as_itself(place: Place) -> None:
    assert place.way(place.one, "10.0.200.9") == ("ens5", place.one.four)
    assert place.way(place.two, "10.0.200.9") == ("ens6", place.two.four)


def test_ipv6_is_never_translated(place: Place) -> None:
    assert place.way(place.two, ADDRESS6) == ("ens6", place.two.six)


# -- beside others' rules --------------------------------------------------------------


def kube_proxy(place: Place) -> str:
    """Write nat rules as kube-proxy's: two cluster IPs, and a node port of each pod."""
    ends = (
        (f"-d {OUTSIDE}/32 -p tcp --dport 80", f"{INTERNET}:80"),
        (f"-d {INSIDE}/32 -p tcp --dport {PORT}", f"{place.one.four}:{PORT}"),
    )
    ports = ((30001, place.one), (30002, place.two))
    lines = [
        "*nat",
        ":KUBE-SERVICES - [0:0]",
        ":KUBE-NODEPORTS - [0:0]",
        ":KUBE-POSTROUTING - [0:0]",
        "-I PREROUTING -j KUBE-SERVICES",
        "-A OUTPUT -j KUBE-SERVICES",
        "-I POSTROUTING -j KUBE-POSTROUTING",
        "-A KUBE-POSTROUTING -m mark ! --mark 0x4000/0x4000 -j RETURN",
        "-A KUBE-POSTROUTING -j MARK --xor-mark 0x4000",
        "-A KUBE-POSTROUTING -j MASQUERADE --random-fully",
        *(
            f"-A KUBE-SERVICES {what} -j DNAT --to-destination {end}"
            for what, end in ends
        ),
        "-A KUBE-SERVICES -m addrtype --dst-type LOCAL -j KUBE-NODEPORTS",
        *(
            f"-A KUBE-NODEPORTS -p tcp --dport {port} -j DNAT"
            f" --to-destination {pod.four}:{PORT}"
            for port, pod in ports
        ),
        "COMMIT",
    ]
    return "\n".join((*lines, ""))


@contextmanager
def foreign_rules(place: Place, kind: str) -> Generator[None]:
    """Have kube-proxy's rules on the node, by one of the two kinds of iptables."""
    program = f"iptables-{kind}"
    place.node.call(command, [f"{program}-restore", "-n"], kube_proxy(place))
    try:
        yield
    finally:
        place.node.call(command, [program, "-t", "nat", "-F"])
        place.node.call(command, [program, "-t", "nat", "-X"])


def command(words: Sequence[str], text: str = "") -> str:
    done = subprocess.run(words, input=text, capture_output=True, text=True)
    assert done.returncode == 0, (words, done.stderr)
    return done.stdout


def services_answer(place: Place) -> None:
    """Try the cluster IPs from pods of both ENIs, and node ports from outside."""
    for pod in (place.one, place.two):
        fetched = pod.inside.call(probes.fetch, OUTSIDE)
        assert fetched == place.public, pod.name
    assert place.two.asks(INSIDE) == place.two.four
    assert place.inbound(30001) == INTERNET
    assert place.inbound(30002) == INTERNET


@pytest.mark.parametrize("kind", ["nft", "legacy"])
def test_services_work_with_rules_made_after_ours(place: Place, kind: str) -> None:
    with foreign_rules(place, kind):
        services_answer(place)


def test_the_same_holds_with_the_routes_of_the_aws_vpc_cni() -> None:
    with a_place("secondary-ip", "policy-routes", pods=2) as place:
        test_pods_of_each_eni_leave_the_vpc_as_the_node(place)
        test_inside_the_vpc_each_leaves_by_its_own_eni_as_itself(place)
        for kind in ("nft", "legacy"):
            with foreign_rules(place, kind):
                services_answer(place)


def test_services_work_with_rules_made_before_ours(place: Place) -> None:
    with foreign_rules(place, "nft"):
        ask(place.lab.names, "agent", number=1, do="stop")
        for table in place.tables():
            place.node.call(tools.nft, f"delete table {table}")
        place.lab.run("agent", "start", "1", "--env", "WARM_PREFIX_TARGET=1")

        services_answer(place)


def test_the_rules_of_the_aws_vpc_cni_change_nothing_and_migrate_removes_them(
    place: Place,
) -> None:
    with foreign_rules(place, "nft"), foreign_rules(place, "legacy"):
        for kind in ("nft", "legacy"):
            words = [f"iptables-{kind}-restore", "--noflush"]
            place.node.call(command, words, snat(place.own))
        place.node.call(tools.nft, MARKS)

        services_answer(place)
        within = place.way(place.two, "10.0.200.10")
        with place.streams():
            place.lab.run("exec", "node1", "--", *MIGRATE, "--yes")
            services_answer(place)

        left = [
            place.node.call(command, [f"iptables-{kind}-save"])
            for kind in ("nft", "legacy")
        ]
    assert within == ("ens6", place.two.four)
    assert [("AWS" in rules, "KUBE-SERVICES" in rules) for rules in left] == [
        (False, True),
        (False, True),
    ]


def test_a_node_port_of_the_other_enis_pod_answers_in_ipv6(place: Place) -> None:
    table = f"""table ip6 kube-proxy {{
      chain ports {{
        type nat hook prerouting priority dstnat;
        tcp dport 30002 dnat to [{place.two.six}]:{PORT}
      }}
    }}"""
    place.node.call(tools.nft, table)

    seen = place.inbound(30002, place.own6)

    place.node.call(tools.nft, "delete table ip6 kube-proxy")
    assert seen == ADDRESS6


# -- settings --------------------------------------------------------------------------


def test_ranges_are_left_for_as_the_settings_say_and_node_ports_let_be(
    place: Place,
) -> None:
    settings = {
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "203.0.113.0/24",
        "AWS_EXTERNAL_SERVICE_CIDRS": "203.0.113.11/32",
        "AWS_VPC_CNI_NODE_PORT_SUPPORT": "false",
    }
    with foreign_rules(place, "nft"), place.having(settings):
        excluded = [place.way(pod, INTERNET) for pod in (place.one, place.two)]
        service = place.way(place.two, "203.0.113.11")
        elsewhere = place.way(place.two, "198.18.0.1")
        answer = place.inbound(30002)

    assert excluded == [("ens5", place.one.four), ("ens6", place.two.four)]
    assert service == ("ens5", place.two.four)
    assert elsewhere == ("ens5", place.own)
    assert answer == "(timed out)"


def test_with_external_snat_pods_leave_as_themselves_and_node_ports_answer(
    place: Place,
) -> None:
    with (
        foreign_rules(place, "nft"),
        place.having({"AWS_VPC_K8S_CNI_EXTERNALSNAT": "true"}),
    ):
        assert place.way(place.one, INTERNET) == ("ens5", place.one.four)
        assert place.way(place.two, INTERNET) == ("ens6", place.two.four)
        assert place.inbound(30002) == INTERNET


def test_another_mark_serves_as_well_and_source_ports_are_kept_on_request(
    place: Place,
) -> None:
    settings = {
        "AWS_VPC_K8S_CNI_CONNMARK": "0x100",
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "none",
    }
    usual = [port_seen(place.two, port) == port for port in (20001, 20002)]

    # A connection of the other ENI's pod bears the old mark: it stands still until that
    # is the agent's again, and goes on when TCP tries once more.
    with foreign_rules(place, "nft"), place.having(settings, PATIENCE):
        services_answer(place)
        kept = [port_seen(place.two, port) == port for port in (20003, 20004)]
        rules = place.node.call(command, ["ip", "rule"])

    assert "1024:\tfrom all fwmark 0x100/0x100 lookup main" in rules
    assert "0x80/0x80" not in rules
    assert usual == [False, False]
    assert kept == [True, True]


# -- a change of the VPC ---------------------------------------------------------------


def another_group(eni: str) -> str:
    """Give an ENI another security group, by a call of EC2; returns its id."""
    ec2: Any = boto3.client(
        "ec2",
        endpoint_url=f"http://{EC2}",
        region_name="us-east-1",
        aws_access_key_id="a",
        aws_secret_access_key="b",
        config=Config(proxies={}),
    )
    vpc = ec2.describe_vpcs()["Vpcs"][0]["VpcId"]
    group = ec2.create_security_group(GroupName="g", Description="g", VpcId=vpc)
    ec2.modify_network_interface_attribute(
        NetworkInterfaceId=eni, Groups=[group["GroupId"]]
    )
    ec2.close()
    return str(group["GroupId"])


def groups(place: Place) -> list[list[str]]:
    """Each ENI's security groups, as EC2 has them."""
    enis = place.lab.status()["nodes"][0]["enis"]
    return [[id_ for id_, _ in eni["groups"]] for eni in enis]


def test_a_new_range_and_new_groups_are_taken_over_and_no_stream_breaks(
    place: Place,
) -> None:
    there = "172.31.0.5"
    before = place.way(place.two, there)
    primary = place.lab.status()["nodes"][0]["enis"][0]["id"]

    with place.streams() as (one, two):
        group = place.node.call(another_group, primary)
        place.lab.run("ec2", "associate-cidr", "172.31.0.0/16")
        until(lambda: place.way(place.two, there) != before)
        until(lambda: groups(place) == [[group], [group]])

    assert before == ("ens5", place.own)
    assert place.way(place.one, there) == ("ens5", place.one.four)
    assert place.way(place.two, there) == ("ens6", place.two.four)
    assert max(one.slowest, two.slowest) < WITHIN
