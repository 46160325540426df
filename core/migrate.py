"""`eniplug migrate`: see what the AWS VPC CNI left on a node, and remove it."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from eniplug.core import iptables
from eniplug.core.aws_remains import (
    NFT_TABLE,
    Tables,
    in_rules_and_routes,
    in_tables,
    its_pods,
)
from eniplug.core.kernel import Kernel
from eniplug.core.kernel.survey import survey
from eniplug.core.rebuild import ours as our_links
from eniplug.core.store import Store
from eniplug.hooks import Object, Route, Rule
from eniplug.hooks.errors import ConfigError, ForeignObjectError


@frozen(kw_only=True)
class Remains:
    """All that is on the node; ``pods`` are addresses of its pods that still run."""

    tables: tuple[Tables, ...]
    nft: bool
    rules: tuple[Rule, ...]
    routes: tuple[Route, ...]
    pods: tuple[str, ...]

    def lines(self) -> Iterator[str]:
        """Say it for people, one thing a line."""
        for tables in self.tables:
            yield from tables.lines()
        if self.nft:
            yield f"nftables: table {' '.join(NFT_TABLE)}"
        for rule in self.rules:
            yield f"ip -{rule.family} rule: {_rule(rule)}"
        for route in self.routes:
            via = f"via {route.via} " if route.via else ""
            yield (
                f"ip route: {route.destination} {via}dev {route.link}"
                f" table {route.table}"
            )

    def remove(self, kernel: Kernel) -> None:
        """Take it all away; each iptables table, and the rest, in one piece.

        Can be run again after an error.  Raises KernelError.
        """
        for tables in self.tables:
            iptables.restore(tables.program, tables.removal())
        if self.nft:
            iptables.run(["nft", "delete", "table", *NFT_TABLE])
        with kernel.lock:
            kernel.settle((*self.rules, *self.routes), (), {})


def _rule(rule: Rule) -> str:
    what = f"from {rule.src or 'all'}" + (f" to {rule.dst}" if rule.dst else "")
    mark = "" if rule.mark is None else f" fwmark {rule.mark:#x}/{rule.mask:#x}"
    return f"{rule.priority}: {what}{mark} lookup {rule.table}"


def look(kernel: Kernel, ours: Collection[Object]) -> Remains:
    """Find it, and leave ``ours`` out.  Raises ConfigError or KernelError."""
    tables = (in_tables(name, iptables.save(name)) for name in iptables.programs())
    with kernel.lock:
        links, found = kernel.links(), survey()
    rules, routes = in_rules_and_routes(found, ours)
    return Remains(
        tables=tuple(one for one in tables if one),
        nft=_has_nft_table(),
        rules=rules,
        routes=routes,
        pods=its_pods(found, our_links(links)),
    )


def _has_nft_table() -> bool:
    if shutil.which("nft") is None:
        msg = "nft is not installed"
        raise ConfigError(msg, "install nftables")
    said = json.loads(iptables.run(["nft", "-j", "list", "tables"]))
    named: list[dict[str, Any]] = [one.get("table", {}) for one in said["nftables"]]
    return NFT_TABLE in {(one.get("family"), one.get("name")) for one in named}


def owned(path: Path) -> tuple[Object, ...]:
    """What the store says is ours on the node; nothing while there is no store."""
    if not path.exists():
        return ()
    store = Store(path)
    try:
        of_node, _ = store.node_objects()
        return (*of_node, *(one for part in store.parts() for one in part.objects))
    finally:
        store.close()


@click.command("migrate")
@click.option("--yes", is_flag=True, help="Remove it; without this it is only listed.")
@click.option(
    "--force", is_flag=True, help="Remove it though pods of the AWS VPC CNI still run."
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/run/eniplug"),
    show_default=True,
    help="Where the agent's store is: what it knows is never touched.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(*, yes: bool, force: bool, run_dir: Path, as_json: bool) -> None:
    """List what the AWS VPC CNI left on this node, and with --yes remove it.

    That is: its chains and rules of iptables (both kinds), its nftables table, its ip
    rules, and its routes of secondary ENIs.  Nothing else is touched.
    """
    if os.geteuid() != 0:
        msg = "migrate needs root: it reads and changes the node's rules"
        raise ConfigError(msg, "run it as root")
    kernel, ours = Kernel(), owned(run_dir / "state.db")
    found = look(kernel, ours)
    lines = list(found.lines())
    if yes and found.pods and not force:
        msg = f"{len(found.pods)} pods of the AWS VPC CNI run here: {_few(found.pods)}"
        raise ForeignObjectError(msg, "drain the node first, or give --force")
    if yes:
        found.remove(kernel)
    if as_json:
        said = {"found": lines, "pods": found.pods, "removed": yes}
        click.echo(json.dumps(said, indent=2))
        return
    for line in lines or ["nothing of the AWS VPC CNI is on this node"]:
        click.echo(line)
    if found.pods and not yes:
        click.echo(f"pods of the AWS VPC CNI still run: {_few(found.pods)}")
    if lines:
        click.echo("removed" if yes else "nothing was changed: --yes removes it")


def _few(pods: Collection[str]) -> str:
    shown = list(pods)[:5]
    return ", ".join(shown) + (", …" if len(pods) > len(shown) else "")
