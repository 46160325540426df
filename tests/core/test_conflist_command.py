from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from click.testing import CliRunner, Result

from eniplug.core.cli import group


def check(tmp_path: Path, text: str, *words: str, **environ: str) -> Result:
    file = tmp_path / "mine.conflist"
    file.write_text(text)
    command = ["conflist", "check", str(file), *words]
    return CliRunner(env=environ).invoke(group, command)


def conflist(*entries: dict[str, Any]) -> str:
    return json.dumps({"cniVersion": "1.0.0", "name": "vpc", "plugins": list(entries)})


def entry(*plugins: object, **fields: object) -> dict[str, Any]:
    return {"type": "eniplug", "plugins": list(plugins), **fields}


def test_a_conflist_that_an_agent_takes_is_right(tmp_path: Path) -> None:
    done = check(tmp_path, conflist(entry("secondary-ip", "pod-veth", "flat-routes")))

    assert done.exit_code == 0
    assert "an agent would start with it" in done.output


def test_all_that_is_wrong_is_said_at_once_with_its_place(tmp_path: Path) -> None:
    wrong = conflist(
        entry("secondry-ip", {"name": "egress-v4", "subnt": "10.9.0.0/24"}),
        {"type": "portmap"},
        entry("snat", mtu=10),
        entry({"name": "secondary-ip", "on_error": "skip"}, vethprefix="eni"),
    )

    done = check(tmp_path, wrong)

    assert done.exit_code == 1
    lines = [line.partition("mine.conflist: ")[2] for line in done.output.splitlines()]
    begins = (
        "plugins[0].plugins[0]: no plugin 'secondry-ip' is installed; did you mean"
        " 'secondary-ip'?",
        "plugins[0].plugins[1]: plugin 'egress-v4' has no option 'subnt'; did you mean"
        " 'subnet'?",
        "plugins[2].mtu: wants ",
        "plugins[3]: has a field 'vethprefix', which nothing reads; did you mean"
        " 'vethPrefix'?",
        "plugins[3].plugins[0].on_error: plugin 'secondary-ip' cannot be skipped",
    )
    assert len(lines) == len(begins)
    assert all(map(str.startswith, lines, begins)), lines


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{", "JSON"),
        ("{}", "no cniVersion"),
        (conflist(entry()), "wants a list of plugin names"),
        (conflist(entry("snat", "snat")), "stands in this entry already"),
        (conflist(entry("snat")), "names an address plugin"),
        (conflist({"type": "portmap"}), "names an address plugin"),
    ],
)
def test_what_no_agent_starts_with_is_refused(
    tmp_path: Path, text: str, words: str
) -> None:
    done = check(tmp_path, text)

    assert done.exit_code == 1
    assert words in done.output


def test_the_environment_is_heeded_as_the_agent_heeds_it(tmp_path: Path) -> None:
    text = conflist(entry("secondary-ip"))

    done = check(tmp_path, text, ENABLE_PREFIX_DELEGATION="true")

    assert done.exit_code == 1
    assert "contradicts the conflist" in done.output


def test_json_has_message_and_remedy(tmp_path: Path) -> None:
    done = check(tmp_path, conflist(entry("secondry-ip")), "--json")

    [problem] = json.loads(done.output)
    assert "did you mean 'secondary-ip'" in problem["message"]
    assert "eniplug plugins" in problem["remedy"]
    right = check(tmp_path, conflist(entry("secondary-ip")), "--json")
    assert json.loads(right.output) == []


def test_a_file_that_is_not_there_is_said(tmp_path: Path) -> None:
    done = CliRunner().invoke(group, ["conflist", "check", str(tmp_path / "none")])

    assert done.exit_code == 1
    assert "cannot be read" in done.output


def test_the_schema_that_is_printed_is_one() -> None:
    done = CliRunner().invoke(group, ["conflist", "schema"])

    schema = json.loads(done.output)
    jsonschema.Draft202012Validator.check_schema(schema)
    assert "plugin-secondary-ip" in schema["$defs"]
