from __future__ import annotations

import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from eniplug.cni.command import command

RESULT = {"cniVersion": "1.1.0", "ips": [{"address": "10.0.0.5/32"}]}
PLUGIN = """#!{python} -IS
import json, os, sys
config = json.load(sys.stdin)
told = {{k: v for k, v in os.environ.items() if k.startswith("CNI_")}}
with open({log!r}, "a") as log:
    log.write(json.dumps([told, config]) + "\\n")
command = told["CNI_COMMAND"]
if command in {refuses!r}:
    print(json.dumps({{"code": 11, "msg": "no address", "details": "wait"}}))
    sys.exit(1)
if command == "ADD":
    print(json.dumps({result!r}))
"""
POD = ("--id", "c1", "--netns", "/run/netns/none")

Cni = Callable[..., Result]


@pytest.fixture
def plugin(tmp_path: Path) -> Callable[..., None]:
    """Make the chain's one executable; what it refuses is named."""

    def make(*refuses: str) -> None:
        path = tmp_path / "one"
        log = str(tmp_path / "log")
        text = PLUGIN.format(
            python=sys.executable, log=log, refuses=refuses, result=RESULT
        )
        path.write_text(text)
        path.chmod(0o755)

    make()
    return make


@pytest.fixture
def cni(tmp_path: Path, plugin: Callable[..., None]) -> Cni:
    """Run `eniplug cni` on a chain of one executable."""
    del plugin
    conflist = tmp_path / "net.conflist"
    entry = {"type": "one", "capabilities": {"bandwidth": True}}
    conf = {"cniVersion": "1.1.0", "name": "net", "plugins": [entry]}
    conflist.write_text(json.dumps(conf))
    given = {
        "--conflist": str(conflist),
        "--path": str(tmp_path),
        "--cache": str(tmp_path / "cache"),
    }

    def call(verb: str, *words: str, **changed: str) -> Result:
        options = {**given, **{f"--{k}": v for k, v in changed.items()}}
        pairs = [word for pair in options.items() for word in pair]
        return CliRunner().invoke(command, [verb, *pairs, *words])

    return call


def told(tmp_path: Path) -> list[tuple[dict[str, str], dict[str, Any]]]:
    log = tmp_path / "log"
    lines = log.read_text().splitlines() if log.exists() else []
    return [(environ, config) for environ, config in map(json.loads, lines)]


def commands(tmp_path: Path) -> list[str]:
    return [environ["CNI_COMMAND"] for environ, _ in told(tmp_path)]


VERBS = ("add", "check", "del", "gc", "status")


def test_help_tells_of_every_command() -> None:
    done = CliRunner().invoke(command, ["--help"])

    assert done.exit_code == 0
    assert set(command.commands) == set(VERBS)
    for verb in VERBS:
        assert f"\n  {verb} " in done.stdout


@pytest.mark.parametrize("verb", VERBS)
def test_every_command_has_help(verb: str) -> None:
    done = CliRunner().invoke(command, [verb, "--help"])

    assert done.exit_code == 0
    assert "--conflist FILE" in done.stdout
    assert ("--id ID" in done.stdout) == (verb in {"add", "check", "del"})


def test_add_prints_the_result_and_nothing_else(cni: Cni) -> None:
    done = cni("add", *POD)

    assert done.exit_code == 0
    assert json.loads(done.stdout) == RESULT
    assert done.stderr == ""


def test_a_pods_whole_life_is_quiet_but_for_the_result(
    cni: Cni, tmp_path: Path
) -> None:
    cni("add", *POD)

    after = [cni("check", *POD), cni("status"), cni("gc")]
    after += [cni("del", *POD), cni("del", "--id", "c1")]

    assert [done.exit_code for done in after] == [0] * 5
    assert [done.output for done in after] == [""] * 5
    assert commands(tmp_path) == ["ADD", "CHECK", "STATUS", "GC", "DEL", "DEL"]


def test_options_become_variables_and_values(cni: Cni, tmp_path: Path) -> None:
    pairs = ("--args", "K8S_POD_NAME=web", "--args", "A=b=c")
    values = ("--capability", 'bandwidth={"ingressRate": 1000}')

    cni("add", *POD, "--ifname", "net1", *pairs, *values)

    [(environ, config)] = told(tmp_path)
    assert environ == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/none",
        "CNI_IFNAME": "net1",
        "CNI_ARGS": "K8S_POD_NAME=web;A=b=c",
        "CNI_PATH": str(tmp_path),
    }
    assert config["runtimeConfig"] == {"bandwidth": {"ingressRate": 1000}}


def test_a_refusal_is_the_error_of_the_specification_and_exit_status_1(
    cni: Cni, plugin: Callable[..., None]
) -> None:
    plugin("ADD")

    done = cni("add", *POD)

    assert done.exit_code == 1
    assert json.loads(done.stdout) == {
        "cniVersion": "1.1.0",
        "code": 11,
        "msg": "no address",
        "details": "wait",
    }
    assert done.stderr == "eniplug cni: one refused: no address; wait\n"


def test_a_delete_that_fails_after_a_failed_add_is_told_too(
    cni: Cni, plugin: Callable[..., None]
) -> None:
    plugin("ADD", "DEL")

    done = cni("add", *POD)

    assert len(done.stderr.splitlines()) == 2
    assert "one refused the DEL that followed" in done.stderr


@pytest.mark.parametrize("verb", ["status", "gc"])
def test_a_refused_status_or_gc_has_exit_status_1(
    cni: Cni, plugin: Callable[..., None], verb: str
) -> None:
    plugin(verb.upper())

    done = cni(verb)

    assert done.exit_code == 1
    assert json.loads(done.stdout)["code"] == 11


@pytest.mark.parametrize(
    ("changed", "code", "words"),
    [
        ({"conflist": "/nonexistent/x.conflist"}, 5, "/nonexistent/x.conflist"),
        ({"path": "/nonexistent"}, 7, "no executable 'one' in /nonexistent"),
        ({"path": ""}, 7, "no executable 'one'"),
        ({"id": "../c1"}, 4, "CNI_CONTAINERID"),
        ({"ifname": "a/b"}, 4, "CNI_IFNAME"),
        ({"args": "A=1;B"}, 4, "CNI_ARGS"),
    ],
)
def test_what_cannot_be_is_an_error_that_a_program_can_read(
    cni: Cni, tmp_path: Path, changed: dict[str, str], code: int, words: str
) -> None:
    done = cni("add", **{"id": "c1", "netns": "/run/netns/none", **changed})

    assert done.exit_code == 1
    error = json.loads(done.stdout)
    assert error["code"] == code
    assert words in error["msg"]
    assert words in done.stderr
    assert told(tmp_path) == []


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (("--netns", "/x"), "Missing option '--id'"),
        (("--id", "c1"), "Missing option '--netns'"),
        ((*POD, "--args", "A"), "wants K=V"),
        ((*POD, "--args", "=1"), "wants K=V"),
        ((*POD, "--capability", "bandwidth"), "wants NAME=JSON"),
        ((*POD, "--capability", "bandwidth={"), "wants NAME=JSON"),
        ((*POD, "--nonsense"), "No such option"),
    ],
)
def test_a_wrong_command_line_is_a_usage_error(
    cni: Cni, tmp_path: Path, words: tuple[str, ...], why: str
) -> None:
    done = cni("add", *words)

    assert done.exit_code == 2
    assert why in done.stderr
    assert done.stdout == ""
    assert told(tmp_path) == []


def test_a_version_without_gc_says_so(cni: Cni, tmp_path: Path) -> None:
    conflist = tmp_path / "old.conflist"
    entry = {"type": "one"}
    conf = {"cniVersion": "1.0.0", "name": "net", "plugins": [entry]}
    conflist.write_text(json.dumps(conf))

    done = cni("gc", conflist=str(conflist))

    assert done.exit_code == 1
    assert json.loads(done.stdout)["code"] == 1
    assert json.loads(done.stdout)["cniVersion"] == "1.0.0"
    assert told(tmp_path) == []
