"""`eniplug simulate`: a month of pods on one node, under each policy."""

from __future__ import annotations

import json
import logging
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from pathlib import Path

import click
import structlog
from rich.console import Console

from eniplug.core.ec2 import Limits
from eniplug.core.modes import check_modes
from eniplug.core.settings import Settings
from eniplug.simulate.plot import check_plot, save_plot
from eniplug.simulate.policies import POLICIES
from eniplug.simulate.replay import MODES, Setup, replay
from eniplug.simulate.report import as_json, as_table
from eniplug.simulate.trace import make_trace, read_trace

_EXAMPLE = """\b
Examples:
  eniplug simulate --days 30 --policy packing,random --plot out.png
  eniplug simulate --mode secondary-ip --warm-ip 5 --minimum-ip 20 --json
"""

_FILE = click.Path(path_type=Path, dir_okay=False)
_COUNT = click.IntRange(0)


def _policies(
    context: click.Context, option: click.Parameter, text: str
) -> tuple[str, ...]:
    names = tuple(dict.fromkeys(name.strip() for name in text.split(",")))
    if unknown := [name for name in names if name not in POLICIES]:
        msg = f"no policy {unknown[0]!r}: there are {', '.join(POLICIES)}"
        raise click.BadParameter(msg, context, option)
    return names


@contextmanager
def _quiet() -> Generator[None]:
    """Keep the agent's log of each call to ourselves."""
    before = structlog.get_config()
    level = structlog.make_filtering_bound_logger(logging.CRITICAL)
    structlog.configure(wrapper_class=level)
    try:
        yield
    finally:
        structlog.configure(**before)


def _settings(mode: str, given: Mapping[str, int | None]) -> Settings:
    environ = {name: str(value) for name, value in given.items() if value is not None}
    settings = Settings.from_environ(environ)
    check_modes(settings, [[mode]])
    return settings


@click.command("simulate", epilog=_EXAMPLE)
@click.option(
    "--days",
    default=30.0,
    type=click.FloatRange(0, 3650, min_open=True),
    show_default=True,
)
@click.option(
    "--policy",
    "policies",
    default="packing,random",
    callback=_policies,
    metavar="NAMES",
    show_default=True,
    help="packing is eniplug's, random that of the AWS VPC CNI.",
)
@click.option(
    "--mode",
    default="prefix-delegation",
    type=click.Choice(list(MODES)),
    show_default=True,
    help="The plugin that plans.",
)
@click.option("--trace", type=_FILE, help="A CSV file of start,end[,name] in seconds.")
@click.option("--seed", default=1, show_default=True, help="Of all that is random.")
@click.option(
    "--pods",
    default=60.0,
    type=click.FloatRange(0, 10_000, min_open=True),
    show_default=True,
    help="Pods that run on the mean of a made trace.",
)
@click.option("--enis", default=8, type=click.IntRange(1, 100), show_default=True)
@click.option(
    "--addresses",
    default=30,
    type=click.IntRange(2, 100),
    show_default=True,
    help="IPv4 addresses of an ENI, its own among them.",
)
@click.option("--warm-eni", type=_COUNT, help="WARM_ENI_TARGET")
@click.option("--warm-ip", type=_COUNT, help="WARM_IP_TARGET")
@click.option("--minimum-ip", type=_COUNT, help="MINIMUM_IP_TARGET")
@click.option("--warm-prefix", type=_COUNT, help="WARM_PREFIX_TARGET")
@click.option("--cooldown", type=_COUNT, help="IP_COOLDOWN_PERIOD, seconds")
@click.option("--plot", type=_FILE, help="Draw addresses over days into this file.")
@click.option("--json", "with_json", is_flag=True, help="Print JSON.")
def command(
    *,
    days: float,
    policies: tuple[str, ...],
    mode: str,
    trace: Path | None,
    seed: int,
    pods: float,
    enis: int,
    addresses: int,
    warm_eni: int | None,
    warm_ip: int | None,
    minimum_ip: int | None,
    warm_prefix: int | None,
    cooldown: int | None,
    plot: Path | None,
    with_json: bool,
) -> None:
    """Replay pods on one node, and compare what each policy holds and asks of EC2."""
    settings = _settings(
        mode,
        {
            "WARM_ENI_TARGET": warm_eni,
            "WARM_IP_TARGET": warm_ip,
            "MINIMUM_IP_TARGET": minimum_ip,
            "WARM_PREFIX_TARGET": warm_prefix,
            "IP_COOLDOWN_PERIOD": cooldown,
        },
    )
    if plot is not None:
        check_plot(plot)
    lives = make_trace(days, pods, seed) if trace is None else read_trace(trace)
    limits = Limits(max_enis=enis, ipv4_per_eni=addresses)
    setup = Setup(mode=mode, limits=limits, settings=settings, seed=seed, days=days)
    with _quiet():
        outcomes = [replay(lives, policy, setup) for policy in policies]
    if plot is not None:
        save_plot(outcomes, plot)
    if with_json:
        click.echo(json.dumps(as_json(outcomes), indent=2))
    else:
        Console().print(as_table(outcomes))
