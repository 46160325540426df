"""Bad input, through the executable: its own error each, and nothing left behind."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import field, frozen

from kit.dists import install_plugins
from kit.labs import EXECUTABLE, LabHand, a_lab, entry
from kit.netns import namespace

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLUGINS = """
from attrs import field, frozen
from eniplug.hooks import LinkState, hookimpl


@frozen(eq=False, kw_only=True)
class Raises:
    @hookimpl
    def program_routes(self, pod):
        yield LinkState(link=pod.host_ifname, setting="mtu", value=1400)
        raise RuntimeError("no luck today")


@frozen(eq=False, kw_only=True)
class Group:
    group: int = 1

    @hookimpl
    def setup_netns(self, pod):
        yield LinkState(link=pod.host_ifname, setting="mtu", value=self.group)
"""
POINTS = {"raises": "Raises", "first": "Group", "second": "Group"}
GOOD = ("secondary-ip", "pod-veth", "flat-routes", "snat")


@pytest.fixture(scope="module")
def lab(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LabHand]:
    site = tmp_path_factory.mktemp("site")
    install_plugins(site, "odd-plugins", POINTS, PLUGINS)
    settings = {
        "PYTHONPATH": str(site),
        "WARM_IP_TARGET": "2",
        "IP_COOLDOWN_PERIOD": "0",
    }
    with a_lab("bi", nodes=1, environment=settings) as lab:
        yield lab


def test_the_node_has_the_native_executable(lab: LabHand) -> None:
    assert lab.inside("node1", "head", "-c", "4", EXECUTABLE) == "\x7fELF"


@pytest.fixture
def netns() -> Iterator[str]:
    with namespace() as name:
        yield f"/run/netns/{name}"


@frozen
class Case:
    code: int
    words: str
    config: Any = field(factory=lambda: entry(*GOOD))
    netns: str | None = None
    container_id: str = "c1"
    ifname: str = "eth0"
    extra: dict[str, str] = field(factory=dict)
    reason: str = ""


CASES = {
    "no JSON": Case(6, "not JSON", b"{nonsense", reason="bad-json"),
    "a list": Case(6, "object", b"[]"),
    "nothing": Case(6, "configuration", b""),
    "no plugins": Case(7, "wants a list", entry(), reason="bad-config"),
    "plugins of the wrong kind": Case(6, "plugins", {**entry(), "plugins": "snat"}),
    "unknown plugin": Case(
        7,
        "did you mean 'flat-routes'",
        entry("secondary-ip", "pod-veth", "flat-route"),
        reason="unknown-plugin",
    ),
    "unknown option": Case(
        7, "no option 'groop'", entry({"name": "first", "groop": 1}, *GOOD)
    ),
    "bad option value": Case(
        7,
        "wants int, not 'many'",
        entry({"name": "first", "group": "many"}, *GOOD),
        reason="bad-option",
    ),
    "no CNI_NETNS": Case(4, "CNI_NETNS", netns=""),
    "a netns that is none": Case(4, "namespace", netns="/etc/hostname"),
    "a netns that does not exist": Case(4, "CNI_NETNS", netns="/run/netns/none"),
    "the host's netns": Case(
        4, "the agent itself", netns="/proc/self/ns/net", reason="bad-netns"
    ),
    "an interface name that is too long": Case(
        4, "CNI_IFNAME", ifname="interface-sixteen"
    ),
    "an interface name with a slash": Case(4, "CNI_IFNAME", ifname="eth/0"),
    "a container id with a slash": Case(4, "CNI_CONTAINERID", container_id="a/b"),
    "no container id": Case(4, "CNI_CONTAINERID", container_id=""),
    "CNI_ARGS that are no pairs": Case(4, "CNI_ARGS", extra={"CNI_ARGS": "nonsense"}),
    "an unsupported version": Case(
        1, "'2.0.0'", entry(*GOOD, version="2.0.0"), reason="unsupported-version"
    ),
    "a mad mtu": Case(7, "mtu", entry(*GOOD, mtu=9)),
    "a plugin that raises": Case(
        104, "no luck today", entry(*GOOD, "raises"), reason="plugin-failed"
    ),
    "plugins that contradict each other": Case(
        7,
        "'first' and 'second'",
        entry(
            *GOOD, {"name": "first", "group": 1400}, {"name": "second", "group": 1500}
        ),
        reason="conflicting-objects",
    ),
    "an entry without addresses and prevResult": Case(
        7, "no address plugin", entry("snat")
    ),
}


@pytest.mark.parametrize("case", CASES.values(), ids=CASES)
def test_bad_input_is_refused_and_leaves_nothing(
    lab: LabHand, netns: str, case: Case
) -> None:
    variables = {
        "CNI_CONTAINERID": case.container_id,
        "CNI_IFNAME": case.ifname,
        "CNI_NETNS": netns if case.netns is None else case.netns,
        **case.extra,
    }
    before = lab.picture()

    answer = lab.call("ADD", case.config, variables)

    assert answer.status == 1
    assert answer.said["code"] == case.code
    assert case.words in answer.said["msg"]
    assert case.reason in answer.said["details"]
    assert answer.said["details"]
    assert lab.picture() == before


@pytest.mark.parametrize("version", ["0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0"])
def test_every_version_gets_its_own_result(
    lab: LabHand, netns: str, version: str
) -> None:
    variables = {
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": netns,
        "CNI_ARGS": "K8S_POD_NAME=a;IgnoreUnknown=1;K8S_POD_NAMESPACE=b",
    }
    config = entry(*GOOD, version=version)
    before = lab.picture()

    added = lab.call("ADD", config, variables)
    again = lab.call("ADD", config, variables)
    checked = lab.call("CHECK", {**config, "prevResult": added.said}, variables)
    deleted = lab.call("DEL", config, variables)
    twice = lab.call("DEL", config, {**variables, "CNI_NETNS": ""})

    assert added.status == 0, added
    assert added.said["cniVersion"] == version
    assert ("version" in added.said["ips"][0]) == (version < "1.0.0")
    assert again.said["code"] == 7
    assert "already" in again.said["msg"]
    assert [a.said for a in (checked, deleted, twice)] == [None] * 3
    assert lab.settles_to(before)


def test_a_foreign_interface_of_that_name_is_left_as_it_is(
    lab: LabHand, netns: str
) -> None:
    name = Path(netns).name
    lab.inside(
        "node1", "ip", "-n", name, "link", "add", "eth0", "type", "veth",
        "peer", "name", "eth9",
    )  # fmt: skip
    variables = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": netns}

    answer = lab.call("ADD", entry(*GOOD), variables)

    assert answer.said["code"] == 7
    assert "eth0" in answer.said["msg"]
    assert "eth0" in lab.inside("node1", "ip", "-n", name, "-br", "link")


def test_status_and_gc_answer(lab: LabHand) -> None:
    config = entry(*GOOD, version="1.1.0")

    assert lab.call("STATUS", config).status == 0
    assert lab.call("GC", config).said["code"] == 7
    assert lab.call("GC", {**config, "cni.dev/valid-attachments": []}).status == 0


def test_a_refused_pod_is_told_by_why_and_by_status(lab: LabHand, netns: str) -> None:
    def asked(*words: str) -> Any:
        command = (sys.executable, "-m", "eniplug.core.cli", *words, "--json")
        return json.loads(lab.inside("node1", *command))

    variables = {
        "CNI_CONTAINERID": "c1",
        "CNI_IFNAME": "eth0",
        "CNI_NETNS": netns,
        "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=lost",
    }
    lab.add("here")

    assert lab.call("ADD", entry("secondary-ip", "gone"), variables).status == 1

    (last,) = asked("why", "last")["found"]
    (here,) = asked("why", "here")["found"]
    status = asked("status")
    assert (last["pod"], last["refused"]["reason"]) == (
        "default/lost",
        "unknown-plugin",
    )
    chain = ["pod", "node", "addresses", "ENI", "address", "subnet", "EC2:"]
    assert [fact.partition(" ")[0] for fact in here["facts"]] == chain
    assert status["not_ready"] is None
    assert status["refusals"][0]["name"] == "lost"
    assert status["enis"][0]["link"]
    assert status["enis"][0]["subnet"] == status["subnets"][0]["id"]
    lab.remove("here")


def test_without_the_agent_each_command_does_what_it_can(
    lab: LabHand, netns: str
) -> None:
    variables = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": netns}
    config = entry(*GOOD, version="1.1.0")
    lab.run("agent", "stop", "1")
    try:
        assert lab.call("STATUS", config).said["code"] == 50
        assert lab.call("CHECK", config, variables).said["code"] == 11
        assert lab.call("GC", config).said["code"] == 11
        assert lab.call("VERSION", config).status == 0
        assert lab.call("DEL", config, variables).status == 0
        added = lab.call("ADD", config, variables)
        assert added.said["code"] == 11
        assert "agent-away" in added.said["details"]
    finally:
        lab.run("agent", "start", "1")
    assert lab.call("ADD", config, variables).status == 0
    assert lab.call("DEL", config, variables).status == 0


def test_a_delete_works_although_a_setting_has_become_unusable(
    lab: LabHand, netns: str
) -> None:
    variables = {"CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0", "CNI_NETNS": netns}
    before = lab.picture()
    assert lab.call("ADD", entry(*GOOD), variables).status == 0

    spoilt = lab.call("DEL", b"{nonsense", variables)
    gone = entry("secondary-ip", "gone-plugin", mtu=9)
    deleted = lab.call("DEL", gone, {**variables, "CNI_NETNS": "/proc/self/ns/net"})

    assert spoilt.said["code"] == 6
    assert (deleted.status, deleted.said) == (0, None)
    assert lab.settles_to(before)
