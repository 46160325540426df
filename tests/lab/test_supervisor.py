from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
from attrs import asdict, evolve

from eniplug.lab import launch, netns
from eniplug.lab.control import ask
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.plan import Plan
from eniplug.lab.sweep import claim, clear, end_holder, processes, release
from kit.names import MINE

pytestmark = [
    pytest.mark.root,
    pytest.mark.lab,
    pytest.mark.usefixtures("unmeasured"),
]

NAMES = Names(f"{MINE}-super")

AGENT = """
import pathlib, socket, sys
sock = socket.socket(socket.AF_UNIX)
pathlib.Path("/run/eniplug/agent.sock").unlink(missing_ok=True)
sock.bind("/run/eniplug/agent.sock")
sock.listen()
print(*sys.argv[1:], flush=True)
pathlib.Path("/etc/cni/net.d/10-eniplug.conflist").write_text("{}")
while True:
    sock.accept()[0].close()
"""

STAND_IN = (sys.executable, "-c", AGENT)


def plan(lab: str = NAMES.lab, **more: Any) -> Plan:
    return evolve(Plan(lab=lab, agent=STAND_IN), **more)


def silent(step: str) -> None:
    del step


def traces(names: Names = NAMES) -> dict[str, list[str]]:
    """Whatever a lab of that name has on this machine."""
    mounts = Path("/proc/self/mountinfo").read_text().splitlines()
    spaces = [space for space in netns.names() if names.owns(space)]
    return {
        "namespaces": spaces,
        "processes": [str(pid) for space in spaces for pid, _ in processes(space)],
        "run": [str(path) for path in Path("/run").glob(f"{names.lab}*")],
        "mounts": [line for line in mounts if names.lab in line],
        "labs": running(names.lab),
    }


def running(lab: str) -> list[str]:
    """Supervisors of that lab, told by their open socket."""
    sockets = Path("/proc/net/unix").read_text().splitlines()
    return [line for line in sockets if f"/run/{lab}-lab/" in line]


NOTHING: dict[str, list[str]] = {
    "namespaces": [],
    "processes": [],
    "run": [],
    "mounts": [],
    "labs": [],
}


@pytest.fixture(autouse=True)
def _clean() -> Iterator[None]:
    names = [NAMES, Names(f"{MINE}-super-two")]
    for each in names:
        launch.down(each)
    yield
    for each in names:
        launch.down(each)


def test_a_lab_comes_up_with_its_nodes_and_leaves_nothing() -> None:
    steps: list[str] = []

    found = launch.up(plan(nodes=2), steps.append)

    assert [node["namespace"] for node in found["nodes"]] == [
        f"{MINE}-super-node1",
        f"{MINE}-super-node2",
    ]
    assert {node["agent"]["condition"] for node in found["nodes"]} == {"running"}
    assert steps
    assert launch.down(NAMES) == (True, [])
    assert traces() == NOTHING


def test_a_second_lab_of_one_name_is_refused_and_the_first_lives_on() -> None:
    first = launch.up(plan(nodes=1), silent)

    with pytest.raises(LabError, match="is up"):
        launch.up(plan(nodes=1), silent)

    assert ask(NAMES, "status")["pid"] == first["pid"]


def test_two_labs_are_up_side_by_side() -> None:
    first = launch.up(plan(nodes=1), silent)
    second = launch.up(plan(f"{MINE}-super-two", nodes=1), silent)

    launch.down(Names(f"{MINE}-super-two"))

    assert first["nodes"][0]["address"] == second["nodes"][0]["address"]
    assert ask(NAMES, "status")["nodes"][0]["agent"]["pid"]
    assert traces(Names(f"{MINE}-super-two")) == NOTHING


def test_a_signal_that_another_thread_receives_ends_the_lab_all_the_same() -> None:
    pid = launch.up(plan(nodes=1), silent)["pid"]
    other = next(t for t in os.listdir(f"/proc/{pid}/task") if int(t) != pid)
    fd = os.pidfd_open(pid)

    os.kill(int(other), signal.SIGTERM)  # Linux hands it to that thread if it can

    assert select.select([fd], [], [], 20)[0]
    os.close(fd)
    assert traces() == NOTHING


LOST = """
import os, signal
from contextlib import suppress
from eniplug.lab.supervisor import _Interrupts
interrupts = _Interrupts()
interrupts.begin()
with suppress(KeyboardInterrupt):
    os.kill(os.getpid(), signal.SIGTERM)
interrupts.wait()
print("went on")
"""


def test_an_interrupt_that_was_lost_on_the_way_is_not_waited_for() -> None:
    """Such as one that is raised while an object is finalized."""
    command = [sys.executable, "-c", LOST]
    done = subprocess.run(command, capture_output=True, text=True, timeout=20)

    assert done.stdout == "went on\n", done.stderr


def kill(pid: int) -> None:
    fd = os.pidfd_open(pid)
    signal.pidfd_send_signal(fd, signal.SIGKILL)
    select.select([fd], [], [], 5)
    os.close(fd)


@pytest.mark.parametrize("after", ["down", "up"])
def test_after_a_kill_the_next_command_sweeps_what_is_left(after: str) -> None:
    found = launch.up(plan(nodes=2), silent)
    agents = [os.pidfd_open(node["agent"]["pid"]) for node in found["nodes"]]
    netns.create(NAMES.pod("web"))

    kill(found["pid"])
    for agent in agents:
        assert select.select([agent], [], [], 5)[0] == [agent]
        os.close(agent)
    if after == "up":
        launch.up(plan(nodes=1), silent)
    was_up, _ = launch.down(NAMES)

    assert was_up == (after == "up")
    assert traces() == NOTHING


def test_sigterm_takes_a_lab_down() -> None:
    found = launch.up(plan(nodes=1), silent)

    os.kill(found["pid"], signal.SIGTERM)

    assert ended(found["pid"])
    assert traces() == NOTHING


def ended(pid: int) -> bool:
    with suppress(ProcessLookupError):
        fd = os.pidfd_open(pid)
        found = select.select([fd], [], [], 10)[0]
        os.close(fd)
        return bool(found)
    return True


@pytest.mark.parametrize("moment", ["router and internet", "EC2 and IMDS", "agents"])
def test_an_interrupt_while_a_lab_comes_up_leaves_nothing(moment: str) -> None:
    def interrupt(step: str) -> None:
        if step == moment:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        launch.up(plan(nodes=2), interrupt)

    assert traces() == NOTHING


def test_a_lab_goes_down_when_whoever_waits_for_it_is_gone() -> None:
    command = [sys.executable, "-m", "eniplug.lab.supervisor"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, stdin=pipe, stdout=pipe) as supervisor:
        assert supervisor.stdin is not None
        assert supervisor.stdout is not None
        supervisor.stdin.write(json.dumps(asdict(plan(nodes=1))).encode())
        supervisor.stdin.close()
        supervisor.stdout.readline()

        supervisor.stdout.close()
        supervisor.wait(10)

    assert traces() == NOTHING


def test_an_agent_that_fails_fails_the_lab_with_its_last_words() -> None:
    broken = (sys.executable, "-c", "print('no such setting'); exit(1)")

    with pytest.raises(LabError, match=r"(?s)exited with 1.*no such setting"):
        launch.up(plan(nodes=2, agent=broken), silent)

    assert traces() == NOTHING


def test_an_unknown_instance_type_is_refused_with_the_nearest() -> None:
    with pytest.raises(LabError, match=r"m5\.lagre") as caught:
        launch.up(plan(instance_type="m5.lagre"), silent)

    assert "m5.large" in caught.value.remedy
    assert traces() == NOTHING


def test_unknown_faults_are_refused() -> None:
    with pytest.raises(LabError, match="there is no fault"):
        launch.up(plan(faults={"atach_s": 3}), silent)


def test_nodes_reach_the_api_and_each_other() -> None:
    found = launch.up(plan(nodes=2), silent)
    one, two = found["nodes"]
    inside = netns.Inside(one["namespace"])
    try:
        run: Callable[..., Any] = subprocess.run
        urls = ["http://10.0.0.2/", "http://169.254.169.254/", "http://203.0.113.10/"]
        curl = ["curl", "-s", "-m2", "-o", "/dev/null", "--noproxy", "*"]
        asked = [inside.call(run, [*curl, url]).returncode for url in urls]
        ping = ["ping", "-c1", "-W1", two["address"]]
        pinged = inside.call(run, ping, capture_output=True).returncode
    finally:
        inside.close()

    assert (asked, pinged) == ([0, 0, 0], 0)


def test_a_vpc_with_ipv6_has_nodes_with_ipv6() -> None:
    found = launch.up(plan(nodes=2, ipv6=True), silent)
    (address,) = found["nodes"][1]["enis"][0]["addresses6"]
    inside = netns.Inside(found["nodes"][0]["namespace"])
    run: Callable[..., Any] = subprocess.run
    try:
        ping = ["ping", "-c1", "-W1", address]
        pinged = inside.call(run, ping, capture_output=True).returncode
        internet = ["ping", "-c1", "-W1", "2001:db8:ffff::10"]
        outward = inside.call(run, internet, capture_output=True).returncode
    finally:
        inside.close()

    assert (pinged, outward) == (0, 0)


def test_a_killed_agent_is_started_again() -> None:
    launch.up(plan(nodes=1), silent)

    killed = ask(NAMES, "agent", number=1, do="kill")
    started = ask(NAMES, "agent", number=1, do="start")

    assert killed == {"pid": None, "condition": "killed by signal 9"}
    assert started["condition"] == "running"


BUSY = """
import json, pathlib, socket
sock = socket.socket(socket.AF_UNIX)
sock.bind("/run/eniplug/agent.sock")
sock.listen()
entry = {"type": "eniplug", "plugins": ["secondary-ip"]}
conflist = {"cniVersion": "1.0.0", "name": "vpc", "plugins": [entry]}
path = pathlib.Path("/etc/cni/net.d/10-eniplug.conflist")
path.write_text(json.dumps(conflist))
path.chmod(0o644)
callers = []
while True:
    callers.append(sock.accept())
"""
"""Takes every request and answers none."""


def test_a_lab_goes_down_at_once_while_a_pod_waits_for_its_address() -> None:
    launch.up(plan(nodes=1, agent=(sys.executable, "-c", BUSY)), silent)
    waiting = threading.Thread(target=ignore_end)
    waiting.start()
    while len(list(processes(NAMES.node(1)))) < 2:
        assert waiting.is_alive()

    began = time.monotonic()
    launch.down(NAMES)
    took = time.monotonic() - began
    waiting.join()

    assert took < 5
    assert traces() == NOTHING


def ignore_end() -> None:
    with suppress(LabError, OSError):
        ask(NAMES, "pod-add", pods=["web"])


def test_faults_are_added_and_cleared() -> None:
    launch.up(plan(nodes=1, faults={"attach_s": 1}), silent)

    added = ask(NAMES, "fault", faults={"down": True})
    cleared = ask(NAMES, "clear")

    assert (added, cleared) == ({"attach_s": 1.0, "down": True}, {})


def test_a_held_name_without_a_supervisor_is_not_taken_by_force() -> None:
    held = claim(NAMES)
    try:
        assert not end_holder(NAMES)
        with pytest.raises(LabError, match="is up"):
            clear(NAMES)
    finally:
        release(NAMES, held)
