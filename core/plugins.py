"""`eniplug plugins`: what is installed, and from which package."""

from __future__ import annotations

import json
from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table

from eniplug.core.manager import Catalogue
from eniplug.core.new_plugin import command as new
from eniplug.hooks import PROJECT, specs
from eniplug.hooks.errors import ConfigError


def _hooks(kind: type) -> list[str]:
    """The hooks that a class implements, in the order in which they are called."""
    known = [
        name
        for name, value in vars(specs).items()
        if getattr(value, f"{PROJECT}_spec", None) is not None
    ]
    marked = {n for n in dir(kind) if hasattr(getattr(kind, n), f"{PROJECT}_impl")}
    return [name for name in known if name in marked]


def describe(catalogue: Catalogue) -> list[dict[str, Any]]:
    """Describe each installed plugin; one that cannot be imported says why."""
    found: list[dict[str, Any]] = []
    for name, point in catalogue.points.items():
        row: dict[str, Any] = {
            "name": name,
            "package": point.dist.name if point.dist else "",
            "version": point.dist.version if point.dist else "",
        }
        try:
            kind = catalogue.load(name, name)
        except ConfigError as error:
            row["error"] = error.message
        else:
            row["summary"] = (kind.__doc__ or "").strip().split("\n")[0]
            row["hooks"] = _hooks(kind)
            row["options"] = {
                field.name: None if field.default is attrs.NOTHING else field.default
                for field in attrs.fields(kind)
            }
        found.append(row)
    return found


@click.group("plugins", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.pass_context
def command(context: click.Context, as_json: bool) -> None:
    """List the installed plugins: package, hooks, options with their defaults.

    A conflist entry of type eniplug names them in its list "plugins".
    """
    if context.invoked_subcommand is not None:
        return
    rows = describe(Catalogue.from_environ())
    if as_json:
        click.echo(json.dumps(rows, indent=2, default=str))
        return
    table = Table("plugin", "package", "hooks", "options", "what it does")
    for row in rows:
        options = ", ".join(f"{k}={v}" for k, v in row.get("options", {}).items())
        table.add_row(
            row["name"],
            f"{row['package']} {row['version']}",
            ", ".join(row.get("hooks", ())),
            options,
            row.get("summary") or row.get("error", ""),
        )
    Console().print(table)


command.add_command(new)
