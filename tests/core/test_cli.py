from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from eniplug.core.cli import group


def test_help_lists_every_command_with_a_summary() -> None:
    done = CliRunner().invoke(group, ["--help"])

    assert done.exit_code == 0
    commands = (
        "agent cni conflist install lab migrate plan plugins simulate status uninstall"
    )
    for name in (*commands.split(), "why"):
        assert f"  {name}" in done.output
    assert "see `eniplug" not in done.output


def test_an_unknown_command_is_refused() -> None:
    done = CliRunner().invoke(group, ["agnet"])

    assert done.exit_code == 2
    assert "agnet" in done.output


def test_help_imports_neither_boto3_nor_pyroute2_nor_moto() -> None:
    code = (
        "import sys; from eniplug.core.cli import group;"
        "group(['--help'], standalone_mode=False);"
        "print({'boto3', 'pyroute2', 'moto'} & set(sys.modules), file=sys.stderr)"
    )

    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True)

    assert done.stderr.strip() == "set()"


def test_plugins_tells_package_hooks_and_options() -> None:
    done = CliRunner().invoke(group, ["plugins", "--json"])

    (row,) = [r for r in json.loads(done.output) if r["name"] == "secondary-ip"]
    assert row["package"] == "eniplug"
    assert row["hooks"] == ["plan_capacity", "allocate_ip"]
    assert row["summary"]
    assert row["entries"] == ["plugins[0].plugins[0]"]


def test_plugins_tells_types_and_defaults_of_options_and_who_names_them(
    tmp_path: Path,
) -> None:
    file = tmp_path / "mine.conflist"
    entries = [
        {"type": "eniplug", "plugins": ["secondary-ip"]},
        {"type": "eniplug", "plugins": ["snat", {"name": "egress-v4"}]},
    ]
    conf = {"cniVersion": "1.0.0", "name": "n", "plugins": entries}
    file.write_text(json.dumps(conf))

    done = CliRunner().invoke(group, ["plugins", "--json", "--conflist", str(file)])

    (row,) = [r for r in json.loads(done.output) if r["name"] == "egress-v4"]
    assert row["entries"] == ["plugins[1].plugins[1]"]
    assert row["options"]["subnet"] == {
        "type": "IPv4 network",
        "default": "169.254.172.0/22",
        "required": False,
    }


def test_the_table_of_plugins_has_them_all() -> None:
    done = CliRunner(env={"COLUMNS": "200"}).invoke(group, ["plugins"])

    assert done.exit_code == 0
    assert "secondary-ip" in done.output


def test_a_wrong_option_says_what_there_is() -> None:
    done = CliRunner().invoke(group, ["plugins", "--jsno"])

    assert done.exit_code == 2
    assert "--json" in done.output


@pytest.mark.parametrize("module", ["eniplug.core.cli"])
def test_the_module_runs_as_a_command(module: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", module, "--version"], capture_output=True, text=True
    )

    assert done.returncode == 0
    assert "eniplug" in done.stdout
