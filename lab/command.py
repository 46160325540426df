"""`eniplug lab`: a whole VPC on this machine."""

from __future__ import annotations

import json
import time
from typing import Any

import click

from eniplug.lab import launch, show, visit
from eniplug.lab.command_agent import agent
from eniplug.lab.command_ec2 import ec2
from eniplug.lab.command_pod import pod
from eniplug.lab.command_verify import verify
from eniplug.lab.control import ask
from eniplug.lab.names import Names
from eniplug.lab.options import (
    console,
    for_lab,
    print_json,
    settings_of,
    with_json,
    with_settings,
)
from eniplug.lab.plan import Plan

_EXAMPLE = """\b
Example:
  eniplug lab up --nodes 2 --instance-type m5.large
  eniplug lab pod add web --node 1
  eniplug lab pod add cli --node 2
  eniplug lab exec cli -- ping -c 3 ADDRESS_OF_WEB
  eniplug lab exec web -- curl -s http://203.0.113.10/
  eniplug lab down
"""

_EXEC_EXAMPLES = """\b
Examples:
  eniplug lab exec web -- ip route
  eniplug lab exec node1 -- nft list ruleset
  eniplug lab exec internet -- ping -c 1 198.51.100.10
"""


@click.group(epilog=_EXAMPLE)
def command() -> None:
    """Run a whole VPC on this machine: EC2, IMDS, router, nodes, the internet.

    No AWS account is needed. The nodes are network namespaces; their agents are the
    ones that run on EC2.
    """


@command.command()
@click.option("--nodes", default=2, type=click.IntRange(1, 50), show_default=True)
@click.option("--instance-type", default="m5.large", metavar="T", show_default=True)
@click.option(
    "--subnets",
    default=0,
    type=click.IntRange(0, 3),
    show_default=True,
    help="More subnets for ENIs, with the tag kubernetes.io/role/cni=1.",
)
@click.option(
    "--ipv6/--no-ipv6",
    default=None,
    help="The VPC and its nodes have IPv6, too; unless said, if the conflist wants it.",
)
@click.option(
    "--conflist",
    type=click.File(),
    metavar="FILE",
    help="The agents' conflist; else the one that is shipped.",
)
@click.option(
    "--executable",
    type=click.Choice(("native", "python")),
    default="native",
    show_default=True,
    help="Which one the nodes get; Python's where there is no native one.",
)
@with_settings
@click.option(
    "--fault",
    type=click.File(),
    metavar="FILE",
    help="How EC2 and IMDS misbehave from the start (see `eniplug lab ec2 fault`).",
)
@with_json
@for_lab
def up(
    names: Names,
    *,
    nodes: int,
    instance_type: str,
    subnets: int,
    ipv6: bool | None,
    conflist: Any,
    executable: str,
    environment: tuple[str, ...],
    fault: Any,
    as_json: bool,
) -> None:
    """Bring a lab up; returns when every agent is ready."""
    plan = Plan(
        lab=names.lab,
        nodes=nodes,
        instance_type=instance_type,
        subnets=subnets,
        ipv6=ipv6,
        conflist=conflist and conflist.read(),
        executable=executable,
        environment=settings_of(environment),
        faults=_object(fault) if fault else {},
    )
    began = time.monotonic()
    aside = console(stderr=True)
    with aside.status(f"lab {names.lab}: starting") as spinner:

        def step(text: str) -> None:
            spinner.update(f"lab {names.lab}: {text}")
            if not aside.is_terminal:
                aside.print(f"{time.monotonic() - began:5.1f} s  {text}")

        found = launch.up(plan, step)
    if as_json:
        print_json(found)
        return
    show.status(console(), found)
    console().print(f"lab {names.lab} is up in {time.monotonic() - began:.1f} s")


def _object(file: Any) -> dict[str, Any]:
    try:
        found = json.load(file)
    except ValueError as error:
        msg = f"{file.name}: {error}"
        raise click.UsageError(msg) from error
    if not isinstance(found, dict):
        msg = f"{file.name}: not a JSON object"
        raise click.UsageError(msg)
    return dict(found)


@command.command()
@with_json
@for_lab
def down(names: Names, as_json: bool) -> None:
    """Take the lab down; nothing is left behind."""
    was_up, swept = launch.down(names)
    if as_json:
        print_json({"was_up": was_up, "swept": swept})
        return
    for what in swept:
        console().print(f"removed what was left: {what}")
    end = f"lab {names.lab} is down" if was_up else f"no lab {names.lab} was up"
    console().print(end)


@command.command()
@with_json
@for_lab
def status(names: Names, as_json: bool) -> None:
    """Show nodes, ENIs, addresses and pods."""
    found = ask(names, "status")
    if as_json:
        print_json(found)
    else:
        show.status(console(), found)


@command.command(
    "exec",
    epilog=_EXEC_EXAMPLES,
    context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False},
)
@click.argument("target", metavar="NAME|nodeN|internet")
@click.argument("words", metavar="-- COMMAND...", nargs=-1, required=True)
@for_lab
def exec_(names: Names, target: str, words: tuple[str, ...]) -> None:
    """Run a command in a pod, a node, or on the internet's host.

    A node has its own network and its own /opt/cni/bin, /etc/cni/net.d, /run/eniplug,
    /var/lib/eniplug and /var/lib/cni. `vpc` is the VPC's router.
    """
    command = words[1:] if words[0] == "--" else words
    if not command:
        msg = "say which command"
        raise click.UsageError(msg)
    visit.become(ask(names, "where", target=target), command)


command.add_command(pod)
command.add_command(agent)
command.add_command(ec2)
command.add_command(verify)
