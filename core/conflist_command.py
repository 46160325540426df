"""`eniplug conflist`: check a conflist, and print what editors check it by."""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import attrs
import click

from eniplug.cni.conflist import load_conflist
from eniplug.cni.errors import CniError
from eniplug.core.conflist_check import Problem, problems
from eniplug.core.manager import Catalogue
from eniplug.core.schema import schema_of
from eniplug.core.settings import Settings


@click.group("conflist")
def command() -> None:
    """Check a conflist before an agent runs with it."""


@command.command("check")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def check(file: Path, as_json: bool) -> None:
    """Say all that is wrong with FILE, with the place and what to do.

    Plugins are those that are installed here; what AWS's entries mean, and modes,
    depend on the environment as they do for the agent.  Exit status 1 when anything is
    wrong.
    """
    catalogue = Catalogue.from_environ()
    settings = Settings.from_environ(os.environ)
    try:
        conflist = load_conflist(file, trusted=False)
        found = problems(conflist, catalogue, settings, str(file))
    except CniError as error:
        found = (Problem(error.message, error.details),)
    if as_json:
        click.echo(json.dumps([attrs.asdict(one) for one in found], indent=2))
    else:
        for one in found:
            click.echo(one.message + (f"; {one.remedy}" if one.remedy else ""))
        if not found:
            click.echo(f"{file}: an agent would start with it")
    sys.exit(1 if found else 0)


@command.command("schema")
def schema() -> None:
    """Print the JSON Schema of conflists with the plugins that are installed here.

    docs/conflist.schema.json is that of the built-in plugins.
    """
    click.echo(json.dumps(schema_of(Catalogue.from_environ()), indent=2))
