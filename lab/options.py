"""What all of the lab's commands have in common: --lab, --json, and how they fail."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from functools import wraps
from typing import IO, Any, Concatenate, ParamSpec, TypeVar

import click
from rich.console import Console

from eniplug.lab import launch
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names

_WIDE = 500

P = ParamSpec("P")
R = TypeVar("R")


class Failure(click.ClickException):
    """A LabError as click shows it: the cause, and below it the remedy."""

    def __init__(self, error: LabError) -> None:
        super().__init__(error.message)
        self._remedy = error.remedy

    def show(self, file: IO[Any] | None = None) -> None:
        """Print to standard error, or to a file."""
        click.echo(f"Error: {self.message}", err=True, file=file)
        if self._remedy:
            click.echo(f"  {self._remedy}", err=True, file=file)


def for_lab(function: Callable[Concatenate[Names, P], R]) -> Callable[P, R]:
    """Give a command --lab, and let its LabErrors look like errors."""

    @click.option(
        "--lab",
        default="eniplug",
        envvar="ENIPLUG_LAB",
        show_default=True,
        show_envvar=True,
        metavar="NAME",
        help="Several labs can be up side by side.",
    )
    @wraps(function)
    def command(*args: P.args, **kwargs: P.kwargs) -> R:
        try:
            launch.check_machine()
            names = Names(str(kwargs.pop("lab")))
            return function(names, *args, **kwargs)
        except LabError as error:
            raise Failure(error) from error

    return command


with_json = click.option("--json", "as_json", is_flag=True, help="Answer with JSON.")


with_settings = click.option(
    "--env",
    "environment",
    multiple=True,
    metavar="K=V",
    help="A setting of the agents, such as WARM_IP_TARGET=5; may be repeated.",
)


def settings_of(environment: Iterable[str]) -> dict[str, str]:
    """Read what --env says; raises click's UsageError."""
    settings: dict[str, str] = {}
    for text in environment:
        name, equals, value = text.partition("=")
        if not (name and equals):
            msg = f"--env {text}: not of the form NAME=VALUE"
            raise click.UsageError(msg)
        settings[name] = value
    return settings


def print_json(value: Any) -> None:
    """Print a value for machines."""
    click.echo(json.dumps(value, indent=2))


def console(*, stderr: bool = False) -> Console:
    """Return where people read; a file is as wide as needed."""
    found = Console(stderr=stderr, highlight=False)
    return (
        found
        if found.is_terminal
        else Console(stderr=stderr, highlight=False, width=_WIDE)
    )
