"""`eniplug lab verify`: the traffic matrix."""

from __future__ import annotations

import sys

import click
from attrs import asdict

from eniplug.lab import every, show
from eniplug.lab.names import Names
from eniplug.lab.options import console, for_lab, print_json, with_json
from eniplug.lab.verify import Finding, Matrix


@click.command()
@click.option(
    "--every",
    "all_modes",
    is_flag=True,
    help="Not in the lab that is up: in one for each mode and routing layout, in turn.",
)
@with_json
@for_lab
def verify(names: Names, all_modes: bool, as_json: bool) -> None:
    """Try the traffic matrix with pods of its own; fail unless all of it holds.

    Pods and nodes among each other, the internet both ways, forged sources, packets
    of 9001 bytes, what arrives on one ENI for a pod of another, ports of the node, and
    limits of bandwidth.
    """
    if all_modes:
        holds = _every(Names(f"{names.lab}-every"), as_json)
    else:
        holds = _one(names, as_json)
    sys.exit(0 if holds else 1)


def _one(names: Names, as_json: bool) -> bool:
    findings: list[Finding] = []
    with Matrix(names) as matrix:
        for finding in matrix.findings():
            findings.append(finding)
            if not as_json:
                show.finding(console(), finding)
    if as_json:
        print_json([asdict(finding) for finding in findings])
    return all(finding.holds for finding in findings)


def _every(names: Names, as_json: bool) -> bool:
    aside = console(stderr=True)
    with aside.status("") as spinner:

        def say(what: str) -> None:
            spinner.update(what)
            if not aside.is_terminal:
                aside.print(what)

        columns = list(every.columns(names, say))
    if as_json:
        print_json([asdict(column) for column in columns])
    else:
        show.columns(console(), columns)
    return all(column.holds for column in columns)
