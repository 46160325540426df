"""`eniplug lab pod`: pods, as a container runtime adds and removes them."""

from __future__ import annotations

import sys
from typing import Any

import click

from eniplug.lab import show
from eniplug.lab.control import ask
from eniplug.lab.names import Names
from eniplug.lab.options import console, for_lab, print_json, with_json

_UNITS = {"": 1, "k": 10**3, "K": 10**3, "M": 10**6, "G": 10**9}


@click.group()
def pod() -> None:
    """Add and remove pods, as a container runtime would."""


@pod.command("add")
@click.argument("pods", metavar="NAME...", nargs=-1, required=True)
@click.option("--node", default=1, show_default=True, metavar="N")
@click.option(
    "--bandwidth",
    metavar="IN/OUT",
    help="Bits per second to and from the pod, such as 10M/5M.",
)
@click.option(
    "--port",
    "ports",
    multiple=True,
    metavar="HOST:CONTAINER[/PROTOCOL]",
    help="Ask for a port of the node, such as 8080:80, 5353:53/udp or"
    " 127.0.0.1:8080:80; may be repeated.",
)
@click.option(
    "--annotation",
    "annotations",
    metavar="KEY=VALUE",
    multiple=True,
    help="An annotation of the pods, for entries that ask for them; may be repeated.",
)
@with_json
@for_lab
def add(
    names: Names,
    *,
    pods: tuple[str, ...],
    node: int,
    bandwidth: str | None,
    ports: tuple[str, ...],
    annotations: tuple[str, ...],
    as_json: bool,
) -> None:
    """Run the conflist's whole chain for each pod and print the CNI result.

    Several names are added side by side; --json then answers with an object of
    results by name.
    """
    answers = ask(
        names,
        "pod-add",
        pods=pods,
        node=node,
        bandwidth=_rates(bandwidth),
        ports=[_port(text) for text in ports],
        annotations=_pairs(annotations),
    )
    if as_json:
        results = {a["name"]: a.get("result") or a["error"] for a in answers}
        print_json(results if len(pods) > 1 else next(iter(results.values())))
    else:
        show.added(console(), answers)
    _end(answers)


def _pairs(texts: tuple[str, ...]) -> dict[str, str]:
    """Read each `KEY=VALUE`."""
    pairs: dict[str, str] = {}
    for text in texts:
        key, equals, value = text.partition("=")
        if not (key and equals):
            msg = f"--annotation {text}: not of the form KEY=VALUE"
            raise click.UsageError(msg)
        pairs[key] = value
    return pairs


def _rates(text: str | None) -> tuple[int, int] | None:
    """Read `IN/OUT`; 0 is no limit."""
    if text is None:
        return None
    try:
        rates = [
            int(float(part.rstrip("kKMG")) * _UNITS[part.lstrip("0123456789.")])
            for part in text.split("/")
        ]
        into, out = rates
    except (ValueError, KeyError):
        msg = f"--bandwidth {text}: not of the form IN/OUT, such as 10M/5M"
        raise click.UsageError(msg) from None
    return into, out


def _port(text: str) -> dict[str, Any]:
    """Read `[ADDRESS:]HOST:CONTAINER[/PROTOCOL]` as containerd writes it."""
    rest, _, protocol = text.partition("/")
    address, _, inside = rest.rpartition(":")
    address, _, outside = address.rpartition(":")
    if not (outside.isdecimal() and inside.isdecimal()):
        msg = f"--port {text}: not of the form HOST:CONTAINER, such as 8080:80/udp"
        raise click.UsageError(msg)
    return {
        "HostPort": int(outside),
        "ContainerPort": int(inside),
        "Protocol": protocol or "tcp",
        "HostIP": address.strip("[]"),
    }


def _end(answers: list[dict[str, Any]]) -> None:
    """Fail when one of the answers is an error; each was told already."""
    failed = [answer for answer in answers if "error" in answer]
    for answer in failed:
        error = answer["error"]
        click.echo(f"Error: {answer['name']}: {error['msg']}", err=True)
        if error.get("details"):
            click.echo(f"  {error['details']}", err=True)
    if failed:
        sys.exit(1)


@pod.command("rm")
@click.argument("pods", metavar="NAME...", nargs=-1, required=True)
@with_json
@for_lab
def rm(names: Names, pods: tuple[str, ...], as_json: bool) -> None:
    """Run DEL for each pod, and remove its namespace."""
    answers = ask(names, "pod-rm", pods=pods)
    if as_json:
        print_json({answer["name"]: answer.get("error") for answer in answers})
    else:
        show.removed(console(), answers)
    _end(answers)
