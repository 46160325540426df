"""The command line: one click group, whose sub-commands come by entry point.

Sub-commands are imported only when they are run, so ``eniplug --help`` stays quick.
"""

from __future__ import annotations

import sys
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import click

GROUP: Final = "eniplug.commands"

SUMMARIES: Final = {
    "agent": "Run the node's agent.",
    "cni": "Run a conflist as a container runtime does.",
    "conflist": "Check a conflist, and print its JSON Schema.",
    "install": "Put the executable on this node.",
    "lab": "Run a whole VPC on this machine.",
    "migrate": "List or remove what the AWS VPC CNI left on this node.",
    "plan": "Say what is otherwise than declared.",
    "plugins": "List the installed plugins.",
    "simulate": "Replay a month of pods and compare policies.",
    "status": "Say how this node's agent and its addresses are.",
    "uninstall": "Leave this node as it was before the first start.",
    "why": "Say why a pod has its address, or has none.",
}
"""What ``--help`` says of our own commands without importing them."""


class Commands(click.Group):
    """Finds sub-commands by entry point."""

    def _points(self) -> dict[str, EntryPoint]:
        return {point.name: point for point in entry_points(group=GROUP)}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """Name every command that is installed."""
        del ctx
        return sorted(self._points())

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        """Import one command."""
        del ctx
        point = self._points().get(cmd_name)
        if point is None:
            return None
        found: Any = point.load()
        assert isinstance(found, click.Command)
        return found

    def format_commands(
        self, ctx: click.Context, formatter: click.HelpFormatter
    ) -> None:
        """Write the list of commands from `SUMMARIES`."""
        rows = [
            (name, SUMMARIES.get(name, f"see `eniplug {name} --help`"))
            for name in self.list_commands(ctx)
        ]
        with formatter.section("Commands"):
            formatter.write_dl(rows)


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="eniplug", prog_name="eniplug")
def group() -> None:
    """Give every pod an address of the VPC.

    On a node, the agent does the work: `eniplug agent`.  Without AWS, `eniplug lab up`
    makes a VPC with nodes on this machine.
    """


def main() -> None:
    """Run the command line; what goes wrong is one line and its remedy."""
    try:
        group(prog_name="eniplug")
    except Exception as error:
        from eniplug.hooks.errors import EniplugError  # noqa: PLC0415 a third of --help

        if not isinstance(error, EniplugError):
            raise
        click.echo(f"eniplug: {error.message}\n{error.details}", err=True)
        sys.exit(1)


if __name__ == "__main__":
    main()
