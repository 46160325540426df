from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from eniplug.core.cli import group
from eniplug.hooks.errors import EniplugError

SHORT = ("simulate", "--days", "0.2", "--pods", "20")


def test_the_command_prints_json_of_each_policy_and_draws_a_plot(
    tmp_path: Path,
) -> None:
    plot = tmp_path / "out.png"

    done = CliRunner().invoke(group, [*SHORT, "--json", "--plot", str(plot)])

    assert done.exit_code == 0, done.output
    packing, by_chance = json.loads(done.output)
    assert (packing["policy"], by_chance["policy"]) == ("packing", "random")
    assert packing["ec2_calls"] == sum(packing["calls"].values()) > 0
    assert packing["addresses_held_max"] >= packing["addresses_held_mean"] > 0
    assert plot.read_bytes().startswith(b"\x89PNG")


def test_the_table_has_a_column_for_each_policy() -> None:
    run = CliRunner(env={"COLUMNS": "120"})

    done = run.invoke(group, [*SHORT, "--policy", "random"])

    assert done.exit_code == 0, done.output
    assert "random" in done.output
    assert "packing" not in done.output
    assert "addresses held mean" in done.output
    assert "AssignPrivateIpAddresses" in done.output


def test_a_trace_of_ones_own_is_replayed(tmp_path: Path) -> None:
    trace = tmp_path / "trace.csv"
    trace.write_text("60,3600,web\n70,90\n")

    done = CliRunner().invoke(group, [*SHORT, "--trace", str(trace), "--json"])

    assert [one["pods"] for one in json.loads(done.output)] == [2, 2]


def test_an_unknown_policy_says_which_there_are() -> None:
    done = CliRunner().invoke(group, [*SHORT, "--policy", "packing,best"])

    assert done.exit_code == 2
    assert "no policy 'best': there are packing, random" in done.output


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--trace", "absent.csv"], "absent.csv"),
        (["--plot", "out.bmp"], "out.bmp"),
        (["--plot", "absent/out.png"], "there is no folder absent"),
        (["--warm-prefix", "0"], "WARM_PREFIX_TARGET=0"),
    ],
)
def test_what_cannot_be_is_refused_with_a_remedy(options: list[str], said: str) -> None:
    done = CliRunner().invoke(group, [*SHORT, *options])

    assert isinstance(done.exception, EniplugError)
    assert said in done.exception.message
    assert done.exception.details


def test_only_a_plot_needs_matplotlib() -> None:
    code = (
        "import sys; sys.modules['matplotlib'] = None\n"
        "from eniplug.core.cli import main\n"
        "sys.argv = ['eniplug', *sys.argv[1:]]; main()"
    )
    run = [sys.executable, "-c", code, *SHORT, "--policy", "packing"]

    plain = subprocess.run(run, capture_output=True, text=True)
    plot = subprocess.run([*run, "--plot", "out.png"], capture_output=True, text=True)

    assert plain.returncode == 0, plain.stderr
    assert plot.returncode == 1
    assert "needs matplotlib" in plot.stderr
    assert "eniplug[simulate]" in plot.stderr
