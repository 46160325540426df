from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from ipaddress import IPv4Address, IPv4Network
from pathlib import Path

import pytest

from eniplug.lab import netns, tools
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.node import BIN, CONFLIST, Node
from eniplug.lab.sweep import claim, clear, release, sweep
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-node")

AGENT = """
import os, pathlib, socket, sys, time
sock = socket.socket(socket.AF_UNIX)
pathlib.Path("/run/eniplug/agent.sock").unlink(missing_ok=True)
sock.bind("/run/eniplug/agent.sock")
sock.listen()
print("args", *sys.argv[1:], flush=True)
print("links", *sorted(os.listdir("/sys/class/net")), flush=True)
print("environ", *sorted(os.environ), flush=True)
pathlib.Path("/etc/cni/net.d/10-eniplug.conflist").write_text("{}")
while True:
    sock.accept()[0].close()
"""
"""Looks like an agent from outside: it installs a conflist and listens."""

COMMAND = (sys.executable, "-c", AGENT)


@pytest.fixture
def node() -> Iterator[Node]:
    clear(NAMES)
    held = claim(NAMES)
    netns.create(NAMES.node(1))
    made = Node(1, NAMES.node(1), NAMES.run / "node1")
    try:
        yield made
    finally:
        made.close()
        sweep(NAMES)
        release(NAMES, held)


def logged(node: Node) -> dict[str, list[str]]:
    lines = node.log.read_text().splitlines()
    return {line.split()[0]: line.split()[1:] for line in lines}


def test_an_agent_runs_in_its_nodes_network_and_files(node: Node) -> None:
    node.prepare((*COMMAND, "--flag"), {"WARM_IP_TARGET": "5"})

    node.start()
    node.wait()

    assert node.condition == "running"
    assert logged(node)["args"] == ["--flag"]
    assert logged(node)["links"] == ["lo"]
    assert not CONFLIST.exists()
    assert node.inside.call(CONFLIST.read_text) == "{}"


def test_an_agent_gets_settings_and_an_endpoint_and_nothing_of_ours(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "mine")
    monkeypatch.setenv("http_proxy", "http://proxy")
    node.prepare(COMMAND, {"WARM_IP_TARGET": "5"})

    node.start()
    node.wait()

    names = set(logged(node)["environ"])
    assert names >= {"PATH", "AWS_ENDPOINT_URL_EC2", "WARM_IP_TARGET"}
    assert not names & {"AWS_ACCESS_KEY_ID", "http_proxy"}


def test_an_agent_that_ends_is_reported_with_its_last_words(node: Node) -> None:
    node.prepare((sys.executable, "-c", "print('no subnet'); exit(3)"), {})
    node.start()

    with pytest.raises(LabError, match=r"(?s)exited with 3.*no subnet"):
        node.wait()


def test_an_agent_that_never_gets_ready_is_given_up(node: Node) -> None:
    node.prepare((sys.executable, "-c", "import time; time.sleep(60)"), {})
    node.start()

    with pytest.raises(LabError, match=r"not ready in 0\.2 s"):
        node.wait(within=0.2)


def test_a_killed_agent_is_started_again(node: Node) -> None:
    node.prepare(COMMAND, {})
    node.start()
    node.wait()

    node.signal(signal.SIGKILL)
    killed = node.condition
    node.start()
    node.wait()

    assert killed == "killed by signal 9"
    assert node.condition == "running"


def test_a_running_agent_is_not_started_twice(node: Node) -> None:
    node.prepare(COMMAND, {})
    node.start()

    with pytest.raises(LabError, match="runs already"):
        node.start()


def test_an_agent_that_ignores_sigterm_is_killed(node: Node) -> None:
    stubborn = "import signal; signal.signal(15, signal.SIG_IGN)\n" + AGENT
    node.prepare((sys.executable, "-c", stubborn), {})
    node.start()
    node.wait()

    node.signal(signal.SIGTERM, within=0.2)

    assert node.condition == "killed by signal 9"


def test_a_closed_node_leaves_no_process(node: Node) -> None:
    netns.create(NAMES.node(2))
    other = Node(2, NAMES.node(2), NAMES.run / "node2")
    other.prepare(COMMAND, {})
    other.start()
    other.wait()

    other.close()

    assert other.condition == "killed by signal 9"


def test_agents_die_with_the_process_that_started_them() -> None:
    code = f"""
        import sys
        from eniplug.lab import netns
        from eniplug.lab.names import Names
        from eniplug.lab.node import Node
        names = Names(f"{MINE}-node-orphan")
        netns.create(names.node(1))
        node = Node(1, names.node(1), names.run / "node1")
        node.prepare(tuple({COMMAND!r}), {{}})
        node.start()
        node.wait()
        print(node.agent, flush=True)
        sys.stdin.read()
    """
    names = Names(f"{MINE}-node-orphan")
    clear(names)
    command = [sys.executable, "-c", textwrap.dedent(code)]
    pipe = subprocess.PIPE
    try:
        with subprocess.Popen(command, stdin=pipe, stdout=pipe) as parent:
            assert parent.stdout is not None
            agent = os.pidfd_open(int(parent.stdout.readline()))

            parent.kill()

        assert select.select([agent], [], [], 2)[0] == [agent]
        os.close(agent)
    finally:
        clear(names)


def test_the_executable_and_the_machines_plugins_are_installed(node: Node) -> None:
    node.install(b"#!/bin/true\n")

    assert node.inside.call((BIN / "eniplug").read_text) == "#!/bin/true\n"
    assert node.inside.call(os.access, BIN / "eniplug", os.X_OK)
    assert node.inside.call(os.access, BIN / "bandwidth", os.X_OK)
    assert not (BIN / "eniplug").exists()


def test_the_executable_has_the_names_that_are_asked_for_and_nobody_has(
    node: Node,
) -> None:
    node.install(
        b"#!/bin/true\n", {"aws-cni", "egress-cni", "bandwidth", "linkerd-cni"}
    )

    for name in ("aws-cni", "egress-cni"):
        assert node.inside.call((BIN / name).samefile, BIN / "eniplug")
    theirs = Path("/usr/lib/cni/bandwidth")
    assert node.inside.call((BIN / "bandwidth").samefile, theirs)
    assert not node.inside.call((BIN / "linkerd-cni").exists)


def test_a_node_boots_with_address_and_gateway(node: Node) -> None:
    node.inside.call(tools.ip, ["link add ens5 type veth peer name far"])

    node.boot(IPv4Address("10.0.1.9"), IPv4Network("10.0.1.0/24"), None)

    shown = node.inside.call(subprocess.check_output, ["ip", "route"]).decode()
    assert "default via 10.0.1.1 dev ens5" in shown
    assert "10.0.1.0/24 dev ens5 proto kernel scope link src 10.0.1.9" in shown
