from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from ipaddress import ip_interface, ip_network
from pathlib import Path
from typing import Any

import pytest

from eniplug.lab import launch
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from kit.names import MINE

NAMES = Names(f"{MINE}-cmd")

Done = subprocess.CompletedProcess[str]


def eniplug(*words: str, **environ: str) -> Done:
    command = [sys.executable, "-m", "eniplug.core.cli", *words]
    env = {**os.environ, "ENIPLUG_LAB": NAMES.lab, **environ}
    return subprocess.run(command, env=env, capture_output=True, text=True, timeout=60)


def answered(*words: str) -> Any:
    done = eniplug(*words, "--json")
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


# -- without a lab ---------------------------------------------------------------------


@pytest.mark.parametrize("words", [["lab"], ["lab", "up"], ["lab", "pod", "add"]])
def test_help_costs_neither_moto_nor_pyroute2(words: list[str]) -> None:
    code = (
        "import sys; from eniplug.core.cli import group\n"
        f"group({[*words, '--help']!r}, standalone_mode=False)\n"
        "print(sorted({'moto', 'pyroute2', 'boto3'} & set(sys.modules)))"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert "Usage:" in done.stdout
    assert done.stdout.endswith("[]\n"), done.stderr


@pytest.mark.root
def test_without_a_lab_every_command_says_how_to_get_one() -> None:
    for words in (["status"], ["pod", "rm", "web"], ["exec", "web", "--", "true"]):
        done = eniplug("lab", *words, ENIPLUG_LAB=f"{MINE}-cmd-none")

        assert done.returncode == 1
        assert f"no lab named '{MINE}-cmd-none' is up" in done.stderr
        assert "eniplug lab up" in done.stderr


@pytest.mark.root
def test_a_lab_that_is_not_up_is_quietly_taken_down() -> None:
    done = eniplug("lab", "down", "--json", ENIPLUG_LAB=f"{MINE}-cmd-none")

    assert json.loads(done.stdout) == {"was_up": False, "swept": []}


@pytest.mark.root
@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["up", "--env", "NOVALUE"], "NAME=VALUE"),
        (["up", "--nodes", "0"], "0 is not in the range"),
        (["up", "--subnets", "4"], "4 is not in the range"),
        (["up", "--conflist", "/nowhere"], "/nowhere"),
        (["up", "--fault", "/dev/null"], "/dev/null"),
        (["up", "--lab", "Upper"], "lower-case"),
        (["ec2", "fault", "=3"], "NAME=VALUE"),
        (["ec2", "fault", "dwn"], "did you mean down"),
        (["pod", "add", "web", "--bandwidth", "10M"], "IN/OUT"),
        (["pod", "add", "web", "--bandwidth", "10Q/1"], "IN/OUT"),
        (["pod", "add", "web", "--port", "80"], "HOST:CONTAINER"),
        (["pod", "add", "web", "--port", "1:x"], "HOST:CONTAINER"),
        (["exec", "web"], "COMMAND"),
    ],
)
def test_wrong_words_are_refused_with_what_is_wanted(
    words: list[str], said: str
) -> None:
    done = eniplug("lab", *words, ENIPLUG_LAB=f"{MINE}-cmd-none")

    assert done.returncode in {1, 2}
    assert said in done.stderr


def test_the_help_of_faults_keeps_its_lines() -> None:
    done = eniplug("lab", "ec2", "fault", "--help")

    assert "\n    throttle  latency  full-subnet" in done.stdout
    assert "\\b" not in done.stdout


@pytest.mark.root
def test_without_root_the_remedy_is_sudo() -> None:
    os.seteuid(65534)
    try:
        with pytest.raises(LabError) as caught:
            launch.check_machine()
    finally:
        os.seteuid(0)

    assert "sudo" in caught.value.remedy


@pytest.mark.root
def test_missing_tools_are_named_with_their_packages(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    with pytest.raises(LabError, match="ip, nft") as caught:
        launch.check_machine()

    assert "apt-get install iproute2 nftables" in caught.value.remedy


# -- with a lab ------------------------------------------------------------------------


@pytest.fixture(scope="module")
def lab() -> Iterator[None]:
    launch.down(NAMES)
    done = eniplug("lab", "up", "--nodes", "2", "--env", "WARM_IP_TARGET=3")
    assert done.returncode == 0, done.stderr
    yield
    eniplug("lab", "down")
    assert not NAMES.run.exists()


with_lab = [pytest.mark.root, pytest.mark.lab, pytest.mark.usefixtures("lab")]


class TestWithALab:
    pytestmark = with_lab

    @pytest.fixture(autouse=True)
    def _pods_go(self) -> Iterator[None]:
        yield
        pods = [pod["name"] for pod in answered("lab", "status")["pods"]]
        if pods:
            answered("lab", "pod", "rm", *pods)

    def test_a_pod_gets_an_address_of_the_vpc_and_the_result_is_printed(self) -> None:
        result = answered("lab", "pod", "add", "web")

        (ip,) = result["ips"]
        assert result["cniVersion"] == "1.0.0"
        assert ip_interface(ip["address"]).ip in ip_network("10.0.0.0/16")
        (pod,) = answered("lab", "status")["pods"]
        assert (pod["name"], pod["node"], pod["result"]) == ("web", 1, result)

    def test_several_pods_are_answered_by_name(self) -> None:
        results = answered("lab", "pod", "add", "one", "two", "--node", "2")

        assert sorted(results) == ["one", "two"]
        assert eniplug("lab", "pod", "rm", "one", "two").stdout.count("removed") == 2

    def test_a_second_pod_of_one_name_is_refused(self) -> None:
        answered("lab", "pod", "add", "web")

        done = eniplug("lab", "pod", "add", "web")

        assert done.returncode == 1
        assert "web: there is a pod of that name" in done.stderr

    def test_a_pod_on_a_node_that_is_not_there_is_refused(self) -> None:
        done = eniplug("lab", "pod", "add", "web", "--node", "9")

        assert done.returncode == 1
        assert "there is no node 9" in done.stderr
        assert "1, 2" in done.stderr

    def test_exec_is_inside_and_passes_the_exit_status(self) -> None:
        answered("lab", "pod", "add", "web")

        inside = eniplug("lab", "exec", "web", "--", "ls", "/sys/class/net")
        status = eniplug("lab", "exec", "web", "--", "sh", "-c", "exit 7")

        assert sorted(inside.stdout.split()) == ["eth0", "lo"]
        assert status.returncode == 7

    def test_exec_of_a_node_sees_the_nodes_own_files(self) -> None:
        listed = eniplug("lab", "exec", "node2", "--", "ls", "/etc/cni/net.d")
        keeps = eniplug("lab", "exec", "node2", "--", "pwd")

        assert listed.stdout == "10-eniplug.conflist\n"
        assert keeps.stdout.strip() == os.getcwd()

    def test_exec_keeps_proxies_and_accounts_out(self) -> None:
        words = ["lab", "exec", "internet", "--", "env"]

        done = eniplug(*words, http_proxy="http://p", AWS_ACCESS_KEY_ID="mine")

        assert "http_proxy" not in done.stdout
        assert "AWS_ACCESS_KEY_ID" not in done.stdout
        assert "AWS_ENDPOINT_URL_EC2=http://10.0.0.2" in done.stdout

    def test_exec_of_what_is_not_there_is_refused(self) -> None:
        nobody = eniplug("lab", "exec", "nobody", "--", "true")
        command = eniplug("lab", "exec", "node1", "--", "no-such-command")

        assert "there is no pod 'nobody'" in nobody.stderr
        assert "no-such-command: No such file" in command.stderr
        assert (nobody.returncode, command.returncode) == (1, 1)

    def test_bandwidth_reaches_the_chain(self) -> None:
        result = answered("lab", "pod", "add", "slow", "--bandwidth", "10M/5M")
        shaped = eniplug("lab", "exec", "node1", "--", "tc", "qdisc").stdout
        page = eniplug("lab", "exec", "slow", "--", "curl", "-s", "203.0.113.10").stdout
        eniplug("lab", "pod", "rm", "slow")

        host, ifb = (i["name"] for i in result["interfaces"] if "sandbox" not in i)
        assert f"dev {host} root refcnt 2 rate 10Mbit burst 32Kb" in shaped
        assert f"dev {ifb} root refcnt 2 rate 5Mbit burst 32Kb" in shaped
        assert page.strip()

    def test_the_matrix_holds(self) -> None:
        findings = answered("lab", "verify")

        assert len(findings) >= 15
        assert [f["cell"] for f in findings if not f["holds"]] == []
        assert answered("lab", "status")["pods"] == []

    def test_the_matrix_fails_where_something_is_broken(self) -> None:
        drop = "add table inet broken; add chain inet broken f { type filter hook "
        drop += "forward priority 0; ip protocol icmp drop; }"
        node = ["lab", "exec", "node2", "--", "nft"]
        eniplug(*node, drop)

        done = eniplug("lab", "verify")
        eniplug(*node, "delete table inet broken")

        assert done.returncode == 1
        assert "FAILS  pod → pod, other node" in done.stdout
        assert "holds  pod → pod, same node" in done.stdout

    def test_faults_are_shown_set_and_cleared(self) -> None:
        assert answered("lab", "ec2", "fault", "attach_s=3") == {"attach_s": 3.0}
        assert eniplug("lab", "ec2", "fault").stdout == "attach_s=3.0\n"
        assert answered("lab", "ec2", "clear") == {}
        assert sum(answered("lab", "ec2", "calls").values()) > 0

    def test_an_agent_is_stopped_and_started(self) -> None:
        stopped = answered("lab", "agent", "stop", "2")
        started = answered("lab", "agent", "start", "2")
        log = eniplug("lab", "agent", "log", "2").stdout

        assert stopped == {"pid": None, "condition": "exited with 0"}
        assert started["condition"] == "running"
        assert log.count('"ready"') == 2

    def test_status_is_readable(self) -> None:
        answered("lab", "pod", "add", "web")

        text = eniplug("lab", "status").stdout

        assert "node2" in text
        assert "ens5" in text
        assert "198.51.100." in text
        assert "web" in text

    def test_a_second_up_is_refused(self) -> None:
        done = eniplug("lab", "up")

        assert done.returncode == 1
        assert f"a lab named '{MINE}-cmd' is up" in done.stderr
        assert "eniplug lab down" in done.stderr
