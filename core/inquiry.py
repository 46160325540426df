"""`eniplug status` and `eniplug why`: questions to the node's agent."""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from eniplug.cni.wire import ASK, WireError, decode_answer, encode_request
from eniplug.hooks.errors import AgentAwayError

SOCKET: Final = Path("/run/eniplug/agent.sock")
_COLUMNS: Final = (
    "id",
    "link",
    "subnet",
    "assigned",
    "cooling",
    "free",
    "prefixes",
    "places_left",
)

PATIENCE: Final = 5.0
"""Seconds for an answer."""

with_socket = click.option(
    "--socket",
    "path",
    type=click.Path(path_type=Path),
    default=SOCKET,
    show_default=True,
    help="Where the agent listens.",
)
with_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


def ask(path: Path, question: Mapping[str, str]) -> dict[str, Any]:
    """Ask the agent one question.  Raises AgentAwayError."""
    request = encode_request(
        os.urandom(16), {"CNI_COMMAND": ASK}, json.dumps(question).encode()
    )
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as sock:
            sock.settimeout(PATIENCE)
            sock.connect(str(path))
            sock.sendall(request)
            data = b"".join(iter(lambda: sock.recv(1 << 16), b""))
        answer = decode_answer(data)
        if answer is None:
            msg = "it hung up"
            raise WireError(msg)
        return dict(json.loads(answer[1]))
    except (OSError, WireError, ValueError) as error:
        msg = f"no answer from the agent at {path}: {error}"
        raise AgentAwayError(msg) from error


@click.command("status")
@with_json
@with_socket
def status(path: Path, as_json: bool) -> None:
    """Show how this node's pool, ENIs and EC2 are.

    Run it on the node, as root. What blocks new pods stands first, with its remedy.
    """
    found = ask(path, {"ask": "status"})
    if as_json:
        click.echo(json.dumps(found, indent=2))
        return
    _show_status(Console(highlight=False), found)


@click.command("why")
@click.argument("pod")
@with_json
@with_socket
def why(pod: str, path: Path, as_json: bool) -> None:
    """Tell why POD has no address, from the pod to the cause.

    POD is namespace/name, a name, a container id or its beginning, or `last`: the pod
    that was refused last. The reasons are those of docs/errors.md.
    """
    found = ask(path, {"ask": "why", "about": pod})
    if as_json:
        click.echo(json.dumps(found, indent=2))
    else:
        _show_why(Console(highlight=False, soft_wrap=True), pod, found)
    sys.exit(found["pod"] is None)


def _show_status(out: Console, found: Mapping[str, Any]) -> None:
    node, blocked, ec2 = found["node"], found["blocked"], found["ec2"]
    out.print(f"{node['instance']}  {node['type']}  {node['zone']}", markup=False)
    if blocked:
        out.print(f"[red]{blocked['reason']}[/]: ", end="")
        out.print(f"{blocked['message']}\n  {blocked['remedy']}", markup=False)
    for family, counts in found["addresses"].items():
        said = ", ".join(f"{number} {state}" for state, number in counts.items())
        out.print(f"{family}: {said}; {found['waiting']} pods wait", markup=False)
    enis = Table("ENI", "link", "subnet", "assigned", "cooling", "free", "/28", "room")
    for eni in found["enis"]:
        enis.add_row(*(str(eni[column]) for column in _COLUMNS))
    out.print(enis)
    for one in found["quarantined"]:
        text = f"in quarantine: {one['block']} of {one['eni']}: {one['reason']}"
        out.print(text, markup=False)
    for subnet in found["subnets"]:
        if subnet["lacks"]:
            said = ", ".join(subnet["lacks"])
            out.print(f"{subnet['id']} had no free {said} when asked last")
    if ec2["trouble"]:
        text = f"EC2, {ec2['seconds_ago']} s ago: {ec2['trouble']['message']}"
        out.print(text, markup=False)
    for one in found["refused"]:
        ago = time.time() - one["at"]
        text = f"refused {ago:.0f} s ago: {one['namespace']}/{one['name']}"
        out.print(f"{text}: {one['reason']}", markup=False)


def _show_why(out: Console, pod: str, found: Mapping[str, Any]) -> None:
    if found["pod"] is None:
        out.print(f"nothing is known of pod {pod!r}", markup=False)
        if found["near"]:
            out.print(f"known are {', '.join(found['near'])}", markup=False)
        return
    if found.get("reason"):
        out.print(f"[red]{found['reason']}[/]: ", end="")
    if found.get("message"):
        out.print(found["message"], markup=False)
    for fact in found["facts"]:
        out.print(f"  {fact}", markup=False)
    if found.get("remedy"):
        out.print(f"remedy: {found['remedy']}", markup=False)
