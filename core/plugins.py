"""`eniplug plugins`: what is installed, from which package, and who names it."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import attrs
import click
from rich.console import Console
from rich.table import Table

from eniplug.cni.conflist import load_conflist
from eniplug.cni.errors import CniError
from eniplug.core.chains import names_of
from eniplug.core.entries import own_entries
from eniplug.core.install import SHIPPED, installed
from eniplug.core.manager import Catalogue
from eniplug.core.new_plugin import command as new
from eniplug.core.schema import options_of, words_of
from eniplug.core.settings import Settings
from eniplug.hooks import API_VERSION, PROJECT, specs
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


def describe(
    catalogue: Catalogue, named: Mapping[str, list[str]] | None = None
) -> list[dict[str, Any]]:
    """Describe each installed plugin; one that cannot be loaded says why.

    ``named`` has the places in a conflist that name a plugin.
    """
    found: list[dict[str, Any]] = []
    for name, point in catalogue.points.items():
        row: dict[str, Any] = {
            "name": name,
            "package": point.dist.name if point.dist else "",
            "version": point.dist.version if point.dist else "",
            "entries": (named or {}).get(name, []),
        }
        try:
            kind = catalogue.load(name, name)
        except ConfigError as error:
            row["error"] = error.message
        else:
            row["summary"] = (kind.__doc__ or "").strip().split("\n")[0]
            row["api"] = getattr(kind, "api", "")
            row["hooks"] = _hooks(kind)
            row["options"] = dict(_options(kind))
        found.append(row)
    return found


def _options(kind: type) -> Iterator[tuple[str, dict[str, Any]]]:
    needed = {f.name for f in attrs.fields(kind) if f.default is attrs.NOTHING}
    for name, schema in options_of(kind).items():
        yield (
            name,
            {
                "type": words_of(schema),
                "default": schema.get("default"),
                "required": name in needed,
            },
        )


def named_in(path: Path) -> dict[str, list[str]]:
    """Where a conflist names which plugin, as in ``plugins[0].plugins[2]``."""
    settings = Settings.from_environ(os.environ)
    try:
        entries = own_entries(load_conflist(path, trusted=False), settings, str(path))
    except CniError as error:
        raise ConfigError(error.message, error.details) from error
    found: dict[str, list[str]] = {}
    for entry in entries:
        place = entry.place.removeprefix(f"{path}: ")
        for i, name in enumerate(names_of(entry.plugins)):
            found.setdefault(name, []).append(f"{place}[{i}]")
    return found


@click.group("plugins", invoke_without_command=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@click.option(
    "--conflist",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Say where this file names them (default: the one that is installed on this"
    " node, or the one that is shipped).",
)
@click.pass_context
def command(context: click.Context, as_json: bool, conflist: Path | None) -> None:
    """List the installed plugins: package, hooks, options with their defaults.

    A conflist entry of type eniplug names them in its list "plugins".
    """
    if context.invoked_subcommand is not None:
        return
    path = conflist or installed() or SHIPPED
    rows = describe(Catalogue.from_environ(), named_in(path))
    if as_json:
        click.echo(json.dumps(rows, indent=2))
        return
    table = Table("plugin", "package", "hooks", "options", "named in", "what it does")
    for column in table.columns[:3]:
        column.no_wrap = True
    for row in rows:
        table.add_row(
            row["name"],
            f"{row['package']} {row['version']}",
            "\n".join(row.get("hooks", ())),
            "\n".join(_line(name, one) for name, one in row.get("options", {}).items()),
            "\n".join(row["entries"]),
            row.get("summary") or row.get("error", ""),
        )
    # A plugin's own words may hold brackets: nothing is markup.
    console = Console(markup=False, highlight=False)
    console.print(table)
    console.print(f"API {API_VERSION}; named in {path}")


def _line(name: str, option: Mapping[str, Any]) -> str:
    """Write an option with what it accepts and its default."""
    if option["required"]:
        return f"{name} ({option['type']}; required)"
    return f"{name}={option['default']} ({option['type']})"


command.add_command(new)
