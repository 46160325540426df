"""`eniplug lab ec2`: how the lab's EC2 and IMDS misbehave, and what they were asked."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click

from eniplug.lab.control import ask
from eniplug.lab.faults import preset
from eniplug.lab.names import Names
from eniplug.lab.options import console, for_lab, print_json, with_json

_EXAMPLES = """\b
Words, each as bad as it gets:
  throttle  latency  full-subnet  fragmented  imds-stale  denied  down

\b
Values:
  call_ms='[80, 400]'          latency: least and most milliseconds of a call
  rate='{"*": [20, 10]}'       throttling: tokens in the bucket, tokens per second
  fail='{"AttachNetworkInterface": ["InternalError", 2]}'   fails that many times
  denied='["CreateNetworkInterface"]'   the node's role may not
  down=true                    EC2 answers 503 to everything
  full_subnet=true             no subnet has an address left
  fragmented=true              no subnet has a free block for a prefix
  attach_s=3, detach_s=5       seconds until a device appears, until it is free
  imds_lag_s=2                 seconds until IMDS knows of a new device
  imds_address_lag_s=2         seconds until IMDS knows of addresses
  imds_stale=true              IMDS tells what was so when this was set
"""


@click.group()
def ec2() -> None:
    """Let EC2 and IMDS misbehave, or see what they were asked."""


@ec2.command(epilog=_EXAMPLES)
@click.argument("faults", metavar="FAULT...", nargs=-1)
@with_json
@for_lab
def fault(names: Names, faults: tuple[str, ...], as_json: bool) -> None:
    """Add faults to those that are set, and show all.

    A fault is a word, or NAME=VALUE with a JSON value; the later goes before the
    earlier. Without arguments it shows what is set.
    """
    more: dict[str, Any] = {}
    for text in faults:
        more |= _fault(text)
    _show(ask(names, "fault", faults=more), as_json)


def _fault(text: str) -> Mapping[str, Any]:
    name, equals, value = text.partition("=")
    if not equals:
        return preset(name)
    if not name:
        msg = f"{text}: not of the form NAME=VALUE"
        raise click.UsageError(msg)
    try:
        return {name: json.loads(value)}
    except ValueError:
        return {name: value}


@ec2.command()
@with_json
@for_lab
def clear(names: Names, as_json: bool) -> None:
    """End all faults."""
    _show(ask(names, "clear"), as_json)


def _show(found: dict[str, Any], as_json: bool) -> None:
    if as_json:
        print_json(found)
        return
    for name, value in found.items():
        console().print(f"{name}={json.dumps(value)}", markup=False)
    if not found:
        console().print("no faults are set")


def _change_cidr(do: str, help_: str) -> None:
    @ec2.command(do, help=help_)
    @click.argument("cidr")
    @with_json
    @for_lab
    def change(names: Names, cidr: str, as_json: bool) -> None:
        found = ask(names, do, cidr=cidr)
        if as_json:
            print_json(found)
        else:
            console().print(f"the VPC has {', '.join(found)}", markup=False)


_change_cidr("associate-cidr", "Give the VPC one more IPv4 range.")
_change_cidr("disassociate-cidr", "Take an IPv4 range from the VPC.")


@ec2.command()
@with_json
@for_lab
def calls(names: Names, as_json: bool) -> None:
    """Count the calls that EC2 has had, by action."""
    found = ask(names, "calls")
    if as_json:
        print_json(found)
        return
    for action, count in sorted(found.items()):
        console().print(f"{count:6}  {action}")
