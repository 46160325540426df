"""The tables' plots, as PNG files."""

from __future__ import annotations

from pathlib import Path

from matplotlib.backends.backend_agg import FigureCanvasAgg
from matplotlib.figure import Figure

from bench.tables import Plot


def save(plot: Plot, title: str, folder: Path) -> None:
    """Draw a plot beside the results."""
    figure = Figure(figsize=(8, 4), dpi=80, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for name, points in plot.lines.items():
        axes.plot(*zip(*points, strict=True), marker="o", label=name)
    axes.set(title=title, xlabel=plot.x, ylabel=plot.y, ylim=(0, None))
    if plot.logarithmic:
        axes.set_xscale("log")
    axes.grid(alpha=0.3)
    axes.legend()
    # Nothing of the date or the version: equal figures are equal files.
    figure.savefig(folder / f"{plot.name}.png", metadata={"Software": None})
