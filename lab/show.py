"""What the lab's commands print for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from eniplug.lab.every import Column, titles
from eniplug.lab.verify import Finding


def _table(*columns: str) -> Table:
    """Return a table that folds what does not fit, and cuts nothing."""
    table = Table(box=box.SIMPLE, pad_edge=False)
    for column in columns:
        table.add_column(column, overflow="fold")
    return table


def status(out: Console, found: Mapping[str, Any]) -> None:
    """Print a lab's nodes with their ENIs, and its pods."""
    _nodes(out, found["nodes"])
    if found["pods"]:
        _pods(out, found["pods"])
    dropped = {name: count for name, count in found["dropped"].items() if count}
    if dropped:
        counts = ", ".join(f"{name} {count}" for name, count in dropped.items())
        out.print(f"packets dropped by the VPC: {counts}")


def _nodes(out: Console, nodes: Sequence[Mapping[str, Any]]) -> None:
    table = _table("node", "address", "public address", "agent", "instance")
    for node in nodes:
        name, agent = f"node{node['number']}", node["agent"]["condition"]
        public = node["public"] or "-"
        table.add_row(name, node["address"], public, agent, node["instance"])
    out.print(table)
    table = _table("node", "device", "ENI", "holds")
    for node in nodes:
        for eni in node["enis"]:
            link = f"ens{5 + eni['device'] + 20 * eni['card']}"
            table.add_row(f"node{node['number']}", link, eni["id"], _held(eni))
    out.print(table)


def _held(eni: Mapping[str, Any]) -> str:
    parts = ("addresses", "prefixes", "addresses6", "prefixes6")
    held = [str(item) for part in parts for item in eni[part]]
    return f"{len(held)}: {' '.join(held)}"


def _pods(out: Console, pods: Iterable[Mapping[str, Any]]) -> None:
    table = _table("pod", "node", "addresses", "container id")
    for pod in pods:
        addresses = ", ".join(pod["addresses"])
        table.add_row(pod["name"], f"node{pod['node']}", addresses, pod["id"][:12])
    out.print(table)


def added(out: Console, answers: Iterable[Mapping[str, Any]]) -> None:
    """Print what each pod that was added has got."""
    for answer in answers:
        if "result" in answer:
            addresses = ", ".join(ip["address"] for ip in answer["result"]["ips"])
            took = f"{1000 * answer['seconds']:.0f} ms"
            out.print(f"{answer['name']}: {addresses} on node{answer['node']}, {took}")


def removed(out: Console, answers: Iterable[Mapping[str, Any]]) -> None:
    """Print which pods were removed."""
    for answer in answers:
        if "error" not in answer:
            out.print(f"{answer['name']}: removed")


def finding(out: Console, found: Finding) -> None:
    """Print one line of the traffic matrix."""
    mark = "[green]holds[/]" if found.holds else "[red]FAILS[/]"
    out.print(f"{mark}  {escape(found.cell)}  [dim]{escape(found.note)}[/]")


def columns(out: Console, all_columns: Sequence[Column]) -> None:
    """Print the traffic matrix of several labs, and below it what does not hold."""
    table = _table("", *(f"{one.mode}\n{one.layout}" for one in all_columns))
    marks = {True: "yes", False: "[red]NO[/]", None: "-"}
    for title in titles(all_columns):
        table.add_row(title, *(marks[one.cell(title)] for one in all_columns))
    out.print(table)
    for column in all_columns:
        for found in column.findings:
            if not found.holds:
                out.print(f"[red]{column.mode}, {column.layout}[/]:", end=" ")
                finding(out, found)
