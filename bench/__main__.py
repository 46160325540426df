"""Measure everything and write bench/results.md.

python -m bench [--quick] [--against CONFLIST [--path FOLDERS]]
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Final

import click
from rich.console import Console
from rich.table import Table as RichTable

from bench import filling, packets, path, pictures, pool, process, weight
from bench.asked import Asked, conflist
from bench.tables import Table, closing, machine
from eniplug.cni.errors import CniError
from eniplug.lab.node import IMAGES

FOLDER: Final = Path(__file__).parent

SECTIONS: Final[dict[str, Callable[[Asked], Iterable[Table]]]] = {
    "pool": pool.measure,
    "path": path.measure,
    "process": process.measure,
    "filling": filling.measure,
    "packets": packets.measure,
    "weight": weight.measure,
}


@click.command()
@click.option("--quick", is_flag=True, help="Fewer sizes: under three minutes.")
@click.option(
    "--against",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    help="Another CNI's conflist: one more contender among whole processes.",
)
@click.option(
    "--path",
    "folders",
    envvar="CNI_PATH",
    default="/opt/cni/bin:/usr/lib/cni",
    show_default=True,
    help="Where its executables are.",
)
@click.option(
    "--into",
    type=click.Path(file_okay=False, path_type=Path),
    default=FOLDER,
    help="Where results.md and its pictures go.",
)
@click.argument("sections", nargs=-1, type=click.Choice(list(SECTIONS)))
def main(
    sections: tuple[str, ...],
    quick: bool,
    against: Path | None,
    folders: str,
    into: Path,
) -> None:
    """Measure everything, or some SECTIONS only, and say what was to be held.

    results.md is written only when all is measured.
    """
    try:
        other = conflist(against) if against else None
    except CniError as error:
        raise click.ClickException(error.message) from error
    places = [one for one in map(Path, folders.split(os.pathsep)) if one.is_dir()]
    asked = Asked(quick=quick, against=other, path=places)
    out = Console()
    began = time.monotonic()
    tables: list[Table] = []
    for name in sections or SECTIONS:
        with out.status(f"measuring: {name}"):
            for table in SECTIONS[name](asked):
                show(out, table)
                tables.append(table)
        out.print(f"{name}: {time.monotonic() - began:.0f} s from the start")
    show(out, closing(tables))
    if not sections:
        write(into, tables, time.monotonic() - began, quick=quick)
        out.print(f"written: {into / 'results.md'}")


def show(out: Console, table: Table) -> None:
    """Print one table."""
    printed = RichTable(*table.columns, title=table.title, title_justify="left")
    for row in table.rows:
        printed.add_row(*row)
    out.print(printed)
    if table.note:
        out.print(table.note)


def write(folder: Path, tables: Sequence[Table], took: float, *, quick: bool) -> None:
    """Write results.md and its pictures."""
    command = "make bench ARGS=--quick" if quick else "make bench"
    head = f"`{command}`, {took / 60:.1f} minutes on: {machine()}"
    texts = [table.markdown() for table in (*tables, closing(tables))]
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "results.md").write_text(
        "\n\n".join(["# What was measured", head, *texts]) + "\n"
    )
    for table in tables:
        for plot in table.plots:
            pictures.save(plot, table.title, folder)


if __name__ == "__main__":
    if not IMAGES.items() <= os.environ.items():
        # An ADD is measured in this process, too: let its memory be as the agent's.
        again = [sys.executable, "-m", "bench", *sys.argv[1:]]
        os.execve(sys.executable, again, {**os.environ, **IMAGES})
    main()
