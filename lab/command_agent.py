"""`eniplug lab agent`: what a service manager, or a crash, does to an agent."""

from __future__ import annotations

import subprocess
import sys
from typing import Any

import click

from eniplug.lab.control import ask
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.options import (
    console,
    for_lab,
    print_json,
    settings_of,
    with_json,
    with_settings,
)


@click.group()
def agent() -> None:
    """Start, stop or kill a node's agent, or read its log."""


def _agent(do: str, help_: str) -> None:
    @agent.command(do, help=help_)
    @click.argument("node", type=int, metavar="N")
    @with_json
    @for_lab
    def act(names: Names, node: int, as_json: bool) -> None:
        _tell(node, ask(names, "agent", number=node, do=do), as_json)


def _tell(node: int, found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
    else:
        console().print(f"node {node}: the agent is {found['condition']}")


@agent.command()
@click.argument("node", type=int, metavar="N")
@with_settings
@with_json
@for_lab
def start(names: Names, node: int, environment: tuple[str, ...], as_json: bool) -> None:
    """Start node N's agent and wait until it is ready.

    What --env sets holds for its later starts, too.
    """
    settings = settings_of(environment)
    _tell(
        node,
        ask(names, "agent", number=node, do="start", environment=settings),
        as_json,
    )


_agent("stop", "Stop node N's agent as a service manager does (SIGTERM).")
_agent("kill", "Kill node N's agent as a crash does (SIGKILL).")


@agent.command()
@click.argument("node", type=int, metavar="N")
@click.option("-f", "--follow", is_flag=True, help="Go on as the log grows.")
@for_lab
def log(names: Names, node: int, follow: bool) -> None:
    """Print the log of node N's agent."""
    nodes = ask(names, "status")["nodes"]
    path = next((n["log"] for n in nodes if n["number"] == node), None)
    if path is None:
        msg = f"there is no node {node}"
        raise LabError(msg)
    tail = ["tail", "-n", "+1", *(["-F"] if follow else []), path]
    sys.exit(subprocess.run(tail, check=False).returncode)
