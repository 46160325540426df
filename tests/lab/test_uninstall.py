"""A node that others damage is put back, and one that is uninstalled is as before."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Iterator

import pytest

from eniplug.lab.node import AGENT
from kit.labs import LabHand, a_lab

pytestmark = [pytest.mark.root, pytest.mark.lab]

BEFORE = "/run/eniplug-before"
LOOKS = (
    "ip rule",
    "ip -6 rule",
    "ip -d route show table all",
    "ip -d -6 route show table all",
    "nft list ruleset",
    r"sysctl -a -r '^net\.(core|ipv4|ipv6)\.' 2>/dev/null | grep -v '\.ens6\.'",
)
OTHERS = (
    "sysctl -qw net.ipv4.conf.ens5.rp_filter=1",
    "ip link set ens5 mtu 4000",
    "ip rule add priority 700 to 192.0.2.7 lookup 70",
    "ip route add 192.0.2.7 via 10.0.0.1 table 70",
    "nft add table inet somebodys",
)
STILL = "while ip -6 -o addr show tentative | grep -q .; do sleep 0.05; done"
LOOK = "; ".join((STILL, *LOOKS))
ENIPLUG = (sys.executable, "-m", "eniplug.core.cli")


@pytest.fixture(scope="module")
def lab() -> Iterator[LabHand]:
    """One node that has state of others, looked at before the agent's first start.

    Its executable is the one in Python, which leaves a file.
    """
    first = f"{{ {'; '.join((*OTHERS, LOOK))}; }} > {BEFORE}"
    agent = f"test -e {BEFORE} || {first}; exec {' '.join(AGENT)}"
    command = ("sh", "-c", agent)
    with a_lab("undo", nodes=1, agent=command, executable="python") as hand:
        yield hand


def until(condition: Callable[[], bool], within: float = 10.0) -> None:
    end = time.monotonic() + within
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def eniplug(lab: LabHand, *words: str, status: int = 0) -> str:
    done = lab.run("exec", "node1", "--", *ENIPLUG, *words, check=False)
    assert done.returncode == status, done
    return (done.stdout + done.stderr).decode()


def eniplug_plan(lab: LabHand) -> int:
    words = ("exec", "node1", "--", *ENIPLUG, "plan")
    return lab.run(*words, check=False).returncode


def test_what_others_take_from_a_node_comes_back(lab: LabHand) -> None:
    address = lab.add("web")["web"]
    # Rules come last of what an ENI brings.
    until(lambda: "32765:" in lab.inside("node1", "ip", "rule"))
    until(lambda: eniplug_plan(lab) == 0)
    before = lab.picture()
    flush = "ip rule flush; ip rule add lookup main priority 32766; "
    flush += "ip rule add lookup default priority 32767; nft delete table inet "
    flush += "eniplug-routes; ip route flush table 512; ip link set ens6 down"

    lab.inside("node1", "sh", "-c", flush)

    rule = "700:\tfrom all to 192.0.2.7 lookup 70"
    wanted = [line for line in before if line != rule]
    until(lambda: lab.picture() == wanted, within=30.0)
    lab.inside("node1", "ping", "-c", "1", "-W", "5", address)
    assert eniplug(lab, "plan").startswith("nothing to do: the node and its pods (1)")
    assert json.loads(eniplug(lab, "status", "--json"))["repair"]["put_back"] > 0
    assert "the kernel's own rules are gone" in lab.log()
    lab.inside(
        "node1",
        *["ip", "rule", "add", "priority", "700", "to", "192.0.2.7", "lookup", "70"],
    )


def test_a_plan_says_what_is_otherwise_while_it_cannot_be_put_back(
    lab: LabHand,
) -> None:
    rename = "ip link set {} down; ip link set {} name {}"
    lab.inside("node1", "sh", "-c", rename.format("ens6", "ens6", "lost6"))

    said = json.loads(eniplug(lab, "plan", "--json", status=2))
    words = eniplug(lab, "plan", status=2)
    lab.inside("node1", "sh", "-c", rename.format("lost6", "lost6", "ens6"))

    (scope,) = said["scopes"]
    assert scope["scope"] == "node"
    assert {one["kind"] for one in scope["changes"]} == {
        "LinkState",
        "Address",
        "Route",
    }
    assert {one["found"] for one in scope["changes"]} == {None}
    assert "  + LinkState(link=ens6, setting=up, value=1), which is missing" in words
    until(lambda: eniplug_plan(lab) == 0, within=90.0)


def test_an_uninstalled_node_is_as_before_the_first_start(lab: LabHand) -> None:
    assert "the agent runs" in eniplug(lab, "uninstall", "--yes", status=1)
    lab.run("agent", "stop", "1")
    running = lab.picture()

    assert "1 pods run on this node" in eniplug(lab, "uninstall", "--yes", status=1)
    planned = eniplug(lab, "uninstall")
    assert "set back to 4000: LinkState(link=ens5, setting=mtu" in planned
    assert lab.picture() == running
    done = json.loads(eniplug(lab, "uninstall", "--yes", "--force", "--json"))

    assert done["done"]
    assert "/run/eniplug/executable.code" in done["files"]
    before = lab.inside("node1", "cat", BEFORE)
    assert "somebodys" in before
    assert lab.inside("node1", "sh", "-c", LOOK) == before
    assert "eni" not in lab.inside("node1", "ip", "-br", "link")
    assert lab.inside("node1", "ls", "-A", "/etc/cni/net.d") == ""
    assert lab.run("exec", "node1", "--", "ls", "/run/eniplug", check=False).returncode


APPEND = """
import json, pathlib
path = pathlib.Path("/etc/cni/net.d/10-eniplug.conflist")
conflist = json.loads(path.read_text())
conflist["plugins"].append({"type": "mesh-cni"})
path.write_text(json.dumps(conflist))
"""


def test_it_can_be_started_and_uninstalled_again(lab: LabHand) -> None:
    lab.run("agent", "start", "1")
    lab.add("again")
    lab.remove("again")
    lab.inside("node1", sys.executable, "-c", APPEND)
    lab.run("agent", "stop", "1")

    eniplug(lab, "uninstall", "--yes")

    kept = "10-eniplug.conflist.removed"
    assert lab.inside("node1", "ls", "-A", "/etc/cni/net.d").split() == [kept]
    assert '"mesh-cni"' in lab.inside("node1", "cat", f"/etc/cni/net.d/{kept}")

    assert lab.inside("node1", "sh", "-c", LOOK) == lab.inside("node1", "cat", BEFORE)
    assert eniplug(lab, "uninstall", "--yes").strip() == "done"
