"""`eniplug simulate`: what a node's warm targets cost, before there is a cluster."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from statistics import fmean
from typing import Any, Final, cast, get_args

import click
from rich.console import Console
from rich.table import Table

from eniplug.core.ec2 import Limits
from eniplug.core.settings import Settings
from eniplug.hooks import Kind
from eniplug.hooks.errors import ConfigError
from eniplug.plugins.prefix_delegation import PrefixDelegation
from eniplug.plugins.secondary_ip import SecondaryIp
from eniplug.simulate import trace
from eniplug.simulate.node import POLICIES, Outcome, Planner, Policy, Simulation

SAMPLES: Final = 2000
"""Samples of a run, over its whole length."""

MODES: Final[dict[str, tuple[Planner, Kind]]] = {
    "secondary-ip": (SecondaryIp(), "address"),
    "prefix-delegation": (PrefixDelegation(), "prefix"),
}


def _policies(_: object, __: object, text: str) -> tuple[Policy, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    wrong = [name for name in names if name not in get_args(Policy)]
    if wrong:
        msg = f"{wrong[0]!r} is none of {', '.join(POLICIES)}"
        raise click.BadParameter(msg)
    return cast("tuple[Policy, ...]", names)


@click.command("simulate")
@click.option(
    "--days",
    type=click.FloatRange(0.01, 3660),
    default=30.0,
    show_default=True,
    help="Length of a trace that is made.",
)
@click.option(
    "--pods",
    type=click.IntRange(1, 5000),
    default=60,
    show_default=True,
    help="Pods at a time, on average, in a trace that is made.",
)
@click.option(
    "--stay",
    type=click.FloatRange(0.01),
    default=2.0,
    show_default=True,
    help="Hours that such a pod lives, on average.",
)
@click.option(
    "--seed",
    type=int,
    default=1,
    show_default=True,
    help="Another number makes another trace.",
)
@click.option(
    "--trace",
    "file",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Replay this CSV file instead: start,end in seconds.",
)
@click.option(
    "--policy",
    "policies",
    default=",".join(POLICIES),
    show_default=True,
    callback=_policies,
    help="How addresses are chosen; `random` is the AWS VPC CNI's way.",
)
@click.option(
    "--mode",
    type=click.Choice(list(MODES)),
    default="prefix-delegation",
    show_default=True,
    help="The address plugin.",
)
@click.option(
    "--enis",
    type=click.IntRange(1, 64),
    default=8,
    show_default=True,
    help="ENIs that the instance type allows.",
)
@click.option(
    "--addresses",
    type=click.IntRange(2, 64),
    default=30,
    show_default=True,
    help="IPv4 addresses that it allows on each.",
)
@click.option(
    "--max-pods",
    type=click.IntRange(1),
    default=250,
    show_default=True,
    help="Pods for which the node prepares.",
)
@click.option(
    "--set",
    "given",
    metavar="NAME=VALUE",
    multiple=True,
    help="A setting of the agent, such as WARM_IP_TARGET=5; may be repeated.",
)
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Write a picture here (PNG, SVG or PDF).",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(**options: Any) -> None:
    """Replay a pod trace on one node and tell what it took.

    The pool, the planner and the cloud worker are the agent's own; EC2 is in memory
    and answers at once.  So numbers of addresses, prefixes, ENIs and calls are those
    of a node, and waits are not.
    """
    lives = (
        trace.read(options["file"])
        if options["file"]
        else trace.make(
            days=options["days"],
            pods=options["pods"],
            stay=options["stay"] * trace.HOUR,
            seed=options["seed"],
        )
    )
    progress = Console(stderr=True)
    outcomes: list[Outcome] = []
    for policy in options["policies"]:
        with progress.status(f"{policy}: {len(lives)} pods"):
            outcomes.append(_run(policy, lives, options))
    if options["plot"] is not None:
        _plot(outcomes, options["plot"])
    rows = [summary(one) for one in outcomes]
    if options["as_json"]:
        click.echo(json.dumps(rows, indent=2))
    else:
        _show(rows)


def _run(policy: Policy, lives: Sequence[trace.Life], options: Any) -> Outcome:
    environ = dict(_pair(text) for text in options["given"])
    planner, prefer = MODES[options["mode"]]
    simulation = Simulation(
        planner,
        Settings.from_environ(environ),
        Limits(max_enis=options["enis"], ipv4_per_eni=options["addresses"]),
        policy,
        max_pods=options["max_pods"],
        prefer=prefer,
        seed=options["seed"],
    )
    length = max(life.end for life in lives)
    return simulation.run(lives, max(length / SAMPLES, 1.0))


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (name and equals):
        msg = f"--set {text}: not of the form NAME=VALUE"
        raise ConfigError(msg, "for example --set WARM_IP_TARGET=5")
    return name, value


def summary(outcome: Outcome) -> dict[str, Any]:
    """Put an outcome into figures; means are over time."""
    samples = outcome.samples
    return {
        "policy": outcome.policy,
        "pods": outcome.pods,
        "used_mean": round(fmean(s.used for s in samples), 1),
        "addresses_mean": round(fmean(s.held for s in samples), 1),
        "addresses_max": max(s.held for s in samples),
        "prefixes_mean": round(fmean(s.prefixes for s in samples), 1),
        "prefixes_max": max(s.prefixes for s in samples),
        "enis_mean": round(fmean(s.enis for s in samples), 2),
        "enis_max": max(s.enis for s in samples),
        "calls": sum(outcome.calls.values()),
        "calls_by_name": dict(sorted(outcome.calls.items())),
        "waited": outcome.waited,
        "longest_wait_s": round(outcome.longest_wait, 1),
    }


def _show(rows: list[dict[str, Any]]) -> None:
    table = Table("", *(row["policy"] for row in rows))
    for key in rows[0]:
        if key not in {"policy", "calls_by_name"}:
            table.add_row(key.replace("_", " "), *(f"{row[key]}" for row in rows))
    names = dict.fromkeys(name for row in rows for name in row["calls_by_name"])
    for name in names:
        found = (f"{row['calls_by_name'].get(name, 0)}" for row in rows)
        table.add_row(f"  {name.replace('_', ' ')}", *found)
    Console().print(table)


def _plot(outcomes: Sequence[Outcome], path: Path) -> None:
    try:
        from matplotlib.figure import Figure  # noqa: PLC0415 - 300 ms, for a picture
    except ImportError as error:
        msg = "--plot needs matplotlib"
        raise ConfigError(msg, "pip install 'eniplug[simulate]'") from error
    figure = Figure(figsize=(10, 9), layout="constrained")
    axes = figure.subplots(4, 1, sharex=True)
    for outcome in outcomes:
        days = [sample.at / trace.DAY for sample in outcome.samples]
        for axis, name in zip(axes, ("held", "prefixes", "enis", "calls"), strict=True):
            values = [getattr(sample, name) for sample in outcome.samples]
            axis.plot(days, values, label=outcome.policy, linewidth=0.8)
            axis.set_ylabel({"held": "addresses", "enis": "ENIs"}.get(name, name))
    used = [sample.used for sample in outcomes[0].samples]
    days = [sample.at / trace.DAY for sample in outcomes[0].samples]
    axes[0].plot(days, used, label="in use", linewidth=0.8, color="grey")
    axes[0].legend()
    axes[-1].set_xlabel("days")
    try:
        figure.savefig(path)
    except (OSError, ValueError) as error:
        msg = f"the plot {path} cannot be written: {error}"
        raise ConfigError(msg, "choose a name that ends with .png") from error
