from __future__ import annotations

import json
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from eniplug.cni.wire import encode_answer
from eniplug.core import asks
from eniplug.core.cli import group
from eniplug.core.report import Reporter
from eniplug.core.settings import Settings
from eniplug.core.subnets import SubnetState
from eniplug.hooks.errors import (
    AgentAwayError,
    DeniedError,
    EniplugError,
    SubnetFullError,
)
from eniplug.testing.builders import ADDRESSES
from kit.agents import Heard, Script, answers, fake_agent, says
from kit.reports import Reported
from kit.stores import stores


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Reported]:
    with stores(tmp_path) as made:
        yield Reported(made)


def reports(one: Reported) -> Script:
    """Answer as the agent of that node does."""

    def script(connection: socket.socket, heard: Heard) -> None:
        told = asks.answer(one.reporter, heard.request.environ)
        connection.sendall(encode_answer(0, json.dumps(told).encode()))

    return script


def call(folder: Path, *words: str) -> Result:
    words = (*words, "--socket", str(folder / "agent.sock"))
    return CliRunner(env={"COLUMNS": "200"}).invoke(group, words)


def test_a_status_in_words_has_what_json_has(one: Reported, tmp_path: Path) -> None:
    one.attach(0)
    one.ec2.known = (SubnetState(id="subnet-1", free=200, lacks=("prefix",)),)
    one.ec2.trouble, one.ec2.trouble_at = DeniedError("[red]no[/red]"), one.clock()
    one.ec2.pause = 3.0
    one.state.quarantine("eni-1", ADDRESSES[1], "EC2 does not show it")
    one.refuse(7, SubnetFullError("subnet-1 [bold]is full"))

    with fake_agent(tmp_path, reports(one)):
        done = call(tmp_path, "status")
        as_json = call(tmp_path, "status", "--json")

    assert (done.exit_code, as_json.exit_code) == (0, 0)
    assert json.loads(as_json.output) == one.reporter.status()
    lines = done.output.splitlines()
    assert "ready" in lines
    assert 'aws-cni: secondary-ip, {"name": "pod-veth"}' in lines
    assert "egress-cni: off" in lines
    assert "ipv4: 3 total, 1 assigned, 0 cooling, 1 idle, 1 held" in lines
    assert f"EC2: 0.0 s ago: denied: [red]no[/red]; {DeniedError.remedy}" in lines
    assert "EC2: is asked again in 3.0 s" in lines
    for told in ("ens5", "200", "EC2 does not show it", "default/web-7"):
        assert told in done.output
    assert "subnet-1 [bold]is full" in done.output


def test_a_node_that_is_not_ready_says_why(one: Reported, tmp_path: Path) -> None:
    one.state.blocked(SubnetFullError("subnet-1 is full"))
    for number in range(3):
        one.attach(number)

    with fake_agent(tmp_path, reports(one)):
        done = call(tmp_path, "status")

    said = f"not ready: subnet-full: subnet-1 is full; {SubnetFullError.remedy}"
    assert said in done.output.splitlines()


def test_how_plugins_behaved_is_shown_once_one_has_failed(
    one: Reported, tmp_path: Path
) -> None:
    one.guard.conduct("snat").ended("egress", 0.001)

    with fake_agent(tmp_path, reports(one)):
        before = call(tmp_path, "status")
        one.guard.conduct("acme").failed("plugin 'acme': egress raised OSError()")
        after = call(tmp_path, "status")
        as_json = call(tmp_path, "status", "--json")

    assert "worst ms" not in before.output
    assert "plugin 'acme': egress raised OSError()" in after.output
    assert "snat" in after.output
    rows = json.loads(as_json.output)["plugins"]
    assert [(row["plugin"], row["errors"]) for row in rows] == [
        ("acme", 1),
        ("snat", 0),
    ]


def test_why_prints_the_pods_chain(one: Reported, tmp_path: Path) -> None:
    part = one.attach(0)

    with fake_agent(tmp_path, reports(one)):
        done = call(tmp_path, "why", "web-0")

    assert done.output.splitlines() == [
        "default/web-0 (c0)",
        *(f"  {line}" for line in one.reporter.chain(part)),
    ]


def test_why_last_prints_when_and_why(one: Reported, tmp_path: Path) -> None:
    one.refuse(7, SubnetFullError("subnet-1 is full"))

    with fake_agent(tmp_path, reports(one)) as agent:
        done = call(tmp_path, "why", "last")
        as_json = call(tmp_path, "why", "last", "--json")

    assert agent.heard[0].request.environ == {
        "ENIPLUG_ASK": "why",
        "ENIPLUG_ABOUT": "last",
    }
    assert done.output.splitlines()[:2] == [
        "default/web-7 (c7)",
        "  refused 2025-11-24 16:00:00Z: subnet-full: subnet-1 is full;"
        f" {SubnetFullError.remedy}",
    ]
    assert json.loads(as_json.output)["found"][0]["pod"] == "default/web-7"


def test_why_last_without_refusals_says_so(one: Reported, tmp_path: Path) -> None:
    with fake_agent(tmp_path, reports(one)):
        done = call(tmp_path, "why", "last")

    assert done.exit_code == 0
    assert done.output == "no ADD was refused since the agent's start\n"


def test_what_the_agent_refuses_is_told_in_its_words(tmp_path: Path) -> None:
    refused = json.dumps({"code": 3, "msg": "no pod 'x'", "details": "is it y?"})

    with fake_agent(tmp_path, answers(1, refused.encode())):
        done = call(tmp_path, "why", "x")

    assert done.exit_code == 1
    assert isinstance(done.exception, EniplugError)
    assert (done.exception.message, done.exception.details) == (
        "no pod 'x'",
        "is it y?",
    )


@pytest.mark.parametrize(
    "script", [says(b""), says(b"\x07nonsense"), answers(0, b"{"), answers(0, b"[]")]
)
def test_an_answer_that_is_none_means_no_agent(tmp_path: Path, script: Script) -> None:
    with fake_agent(tmp_path, script):
        done = call(tmp_path, "status")

    assert isinstance(done.exception, AgentAwayError)


def test_a_name_that_no_request_can_hold_is_refused_here(tmp_path: Path) -> None:
    done = call(tmp_path, "why", "x" * (1 << 16))

    assert isinstance(done.exception, EniplugError)
    assert "too long" in done.exception.message


def test_without_an_agent_it_exits_with_1_and_a_remedy(tmp_path: Path) -> None:
    words = ["status", "--socket", str(tmp_path / "agent.sock")]

    done = subprocess.run(
        [sys.executable, "-m", "eniplug.core.cli", *words],
        capture_output=True,
        text=True,
    )

    assert done.returncode == 1
    assert "no answer from the agent" in done.stderr
    assert AgentAwayError.remedy in done.stderr


def test_a_status_says_what_was_put_back_and_what_is_fought_over(
    one: Reported, tmp_path: Path
) -> None:
    told = {"put_back": 7, "seconds_ago": 1.5, "fought_over": ["Rule(priority=512)"]}
    one.reporter = Reporter(
        one.state, lambda: one.node, one.ec2, Settings(), repaired=lambda: told
    )

    with fake_agent(tmp_path, reports(one)):
        done = call(tmp_path, "status")

    assert "repair: 7 put back, 1.5 s ago" in done.output
    assert "repair: somebody else keeps changing Rule(priority=512)" in done.output


def plans(one: Reported, told: dict[str, Any]) -> Script:
    one.reporter.planned = lambda: told
    return reports(one)


def test_a_plan_of_a_node_that_is_as_declared_is_empty(
    one: Reported, tmp_path: Path
) -> None:
    told: dict[str, Any] = {"pods": 3, "scopes": [], "dead": []}

    with fake_agent(tmp_path, plans(one, told)):
        done = call(tmp_path, "plan")
        as_json = call(tmp_path, "plan", "--json")

    assert (done.exit_code, as_json.exit_code) == (0, 0)
    assert done.output == "nothing to do: the node and its pods (3) are as declared\n"
    assert json.loads(as_json.output) == told


def test_a_plan_names_what_is_missing_or_different(
    one: Reported, tmp_path: Path
) -> None:
    pod = {"scope": "pod", "pod": "default/web", "container": "c0", "ifname": "eth0"}
    changes = [
        {"kind": "Rule", "wanted": "Rule(priority=512)", "found": None},
        {"kind": "Sysctl", "wanted": "Sysctl(path=net/a)", "found": "0"},
    ]
    told = {
        "pods": 1,
        "scopes": [
            {"scope": "node", "changes": changes},
            pod | {"changes": changes[:1]},
        ],
        "dead": [pod],
    }

    with fake_agent(tmp_path, plans(one, told)):
        done = call(tmp_path, "plan")

    assert done.exit_code == 2
    assert done.output.splitlines() == [
        "node",
        "  + Rule(priority=512), which is missing",
        "  ~ Sysctl(path=net/a), which is 0",
        "pod default/web (c0 eth0)",
        "  + Rule(priority=512), which is missing",
        "pod default/web (c0 eth0): its host link is gone; it is swept before long",
    ]
