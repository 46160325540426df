"""Measure everything and write bench/results.md.

python -m bench [--quick]
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table as RichTable

from bench import filling, packets, path, pool, process, weight
from bench.tables import Table, machine

RESULTS: Final = Path(__file__).with_name("results.md")

SECTIONS: Final[dict[str, Callable[[int], Iterable[Table]]]] = {
    "pool": pool.measure,
    "path": path.measure,
    "process": process.measure,
    "filling": filling.measure,
    "packets": packets.measure,
    "weight": weight.measure,
}

ROUNDS: Final = 15
QUICK: Final = 5


@click.command()
@click.option("--quick", is_flag=True, help="Fewer rounds: under three minutes.")
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
def main(sections: tuple[str, ...], quick: bool) -> None:
    """Measure everything, or some SECTIONS only, and say what was to be held.

    bench/results.md is written only when all is measured.
    """
    out = Console()
    tables: list[Table] = []
    for name in sections or SECTIONS:
        with out.status(f"measuring: {name}"):
            for table in SECTIONS[name](QUICK if quick else ROUNDS):
                show(out, table)
                tables.append(table)
    if not sections:
        text = "\n\n".join(table.markdown() for table in tables)
        RESULTS.write_text(f"# What was measured\n\n{machine()}\n\n{text}\n")
        out.print(f"written: {RESULTS}")


def show(out: Console, table: Table) -> None:
    """Print one table."""
    printed = RichTable(*table.columns, title=table.title, title_justify="left")
    for row in table.rows:
        printed.add_row(*row)
    out.print(printed)
    if table.hold:
        out.print(table.hold)


if __name__ == "__main__":
    main()
