"""`eniplug status`, `why` and `plan`: what the running agent says of its node."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from eniplug.core.asking import SOCKET, ask

Command = Callable[..., None]

DIFFERENT: Final = 2
"""The exit status of a plan that is not empty."""


def _options(command: Command) -> Command:
    command = click.option(
        "--socket",
        "path",
        type=click.Path(path_type=Path),
        default=SOCKET,
        show_default=True,
        help="The agent's socket.",
    )(command)
    return click.option("--json", "as_json", is_flag=True, help="Print JSON.")(command)


@click.command("status")
@_options
def status(as_json: bool, path: Path) -> None:
    """Say how this node's agent and its addresses are."""
    said = ask(path, "status")
    if as_json:
        click.echo(json.dumps(said, indent=2))
    else:
        _print_status(said)


@click.command("why")
@click.argument("pod")
@_options
def why(pod: str, as_json: bool, path: Path) -> None:
    """Say what a pod's network hangs on, or why its ADD was refused.

    POD is namespace/name, a name, a container id or its beginning; or `last`, for the
    last pod that was refused.
    """
    said = ask(path, "why", pod)
    if as_json:
        click.echo(json.dumps(said, indent=2))
        return
    if not said["found"]:
        click.echo("no ADD was refused since the agent's start")
    for one in said["found"]:
        _print_why(one)


@click.command("plan")
@_options
def plan(as_json: bool, path: Path) -> None:
    """Say what this node has otherwise than declared; change nothing.

    The exit status is 0 when there is nothing, 2 when there is something, and 1 when
    the agent does not answer.
    """
    said = ask(path, "plan")
    if as_json:
        click.echo(json.dumps(said, indent=2))
    else:
        for line in _plan(said):
            click.echo(line)
    if said["scopes"] or said["dead"]:
        sys.exit(DIFFERENT)


def _plan(said: dict[str, Any]) -> Iterator[str]:
    for scope in said["scopes"]:
        yield _scope(scope)
        for one in scope["changes"]:
            found = one["found"]
            yield (
                f"  + {one['wanted']}, which is missing"
                if found is None
                else f"  ~ {one['wanted']}, which is {found}"
            )
    for scope in said["dead"]:
        yield f"{_scope(scope)}: its host link is gone; it is swept before long"
    if not said["scopes"] and not said["dead"]:
        yield f"nothing to do: the node and its pods ({said['pods']}) are as declared"


def _scope(scope: dict[str, Any]) -> str:
    if scope["scope"] == "node":
        return "node"
    return f"pod {scope['pod']} ({scope['container']} {scope['ifname']})"


def _print_why(one: dict[str, Any]) -> None:
    click.echo(f"{one['pod']} ({one['container']})")
    refused = one["refused"]
    if refused is not None:
        click.echo(f"  refused {_time(refused['when'])}: {_reason(refused)}")
    for line in one["facts"]:
        click.echo(f"  {line}")


def _print_status(said: dict[str, Any]) -> None:
    for line in (*_head(said), *_ec2(said["ec2"])):
        click.echo(line)
    # What EC2 says may hold brackets: nothing is markup.
    console = Console(markup=False, highlight=False)
    for table in _tables(said):
        if table.row_count:
            console.print(table)


def _head(said: dict[str, Any]) -> Iterator[str]:
    node, addresses, not_ready = said["node"], said["addresses"], said["not_ready"]
    yield (
        f"eniplug {said['version']} on {node['instance']}"
        f" ({node['type']}, {node['zone']})"
    )
    yield f"not ready: {_reason(not_ready)}" if not_ready else "ready"
    for entry in said["entries"]:
        yield f"{entry['type']}: {_plugins(entry['plugins'])}"
    for family in ("ipv4", "ipv6"):
        counts = addresses[family]
        if counts["total"] or family == "ipv4":
            told = ", ".join(f"{count} {state}" for state, count in counts.items())
            yield f"{family}: {told}"
    yield f"waiting pods: {addresses['waiting']}"
    told = ", ".join(f"{name} {value}" for name, value in said["targets"].items())
    yield f"targets: {told}"
    yield from _repair(said["repair"])


def _repair(told: dict[str, Any]) -> Iterator[str]:
    if told.get("put_back"):
        yield f"repair: {told['put_back']} put back, {told['seconds_ago']} s ago"
    for one in told.get("fought_over", ()):
        yield f"repair: somebody else keeps changing {one}"


def _plugins(plugins: Sequence[Any]) -> str:
    """Write an entry's plugins; those with options as the conflist would."""
    written = (p if isinstance(p, str) else json.dumps(p) for p in plugins)
    return ", ".join(written) or "off"


def _ec2(told: dict[str, Any] | None) -> Iterator[str]:
    if told is None:
        yield "EC2: no call has failed"
        return
    yield f"EC2: {told['seconds_ago']} s ago: {_reason(told)}"
    if told["pause"]:
        yield f"EC2: is asked again in {told['pause']} s"


def _tables(said: dict[str, Any]) -> list[Table]:
    enis = Table(
        "ENI", "link", "subnet", "assigned", "cooling", "idle", "prefixes", "places"
    )
    for one in said["enis"]:
        numbers = (str(one[key]) for key in ("assigned", "cooling", "idle"))
        prefixes = f"{one['prefixes_used']}/{one['prefixes']}"
        places = str(one["places_left"]["ipv4"])
        enis.add_row(one["id"], one["link"], one["subnet"], *numbers, prefixes, places)
    subnets = Table("subnet", "free when listed", "had none left of")
    for one in said["subnets"]:
        free = "?" if one["free"] is None else str(one["free"])
        subnets.add_row(one["id"], free, ", ".join(one["lacks"]))
    held = Table("in quarantine", "ENI", "pods", "why")
    for one in said["quarantined"]:
        held.add_row(one["block"], one["eni"], str(one["assigned"]), one["reason"])
    refusals = Table("refused", "pod", "reason", "message")
    for one in said["refusals"]:
        pod = f"{one['namespace']}/{one['name']}" if one["name"] else ""
        row = (pod or one["container_id"], one["reason"], one["message"])
        refusals.add_row(_time(one["when"]), *row)
    return [enis, subnets, held, refusals, _conduct(said["plugins"])]


def _conduct(plugins: Sequence[dict[str, Any]]) -> Table:
    """How the plugins behaved, when any of them failed."""
    table = Table(
        "plugin", "calls", "errors", "hung", "mean ms", "worst ms", "last error"
    )
    keys = ("calls", "errors", "timeouts", "mean_ms", "worst_ms", "last_error")
    if any(one["errors"] or one["timeouts"] for one in plugins):
        for one in plugins:
            shut = f" (not called for {one['shut_for']} s)" if one["shut_for"] else ""
            table.add_row(one["plugin"] + shut, *(str(one[key]) for key in keys))
    return table


def _reason(told: dict[str, Any]) -> str:
    return f"{told['reason']}: {told['message']}; {told['remedy']}"


def _time(when: float) -> str:
    return datetime.fromtimestamp(when, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
