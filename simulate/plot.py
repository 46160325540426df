"""Curves of what each policy held, as a picture; needs the extra ``simulate``."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from eniplug.hooks.errors import ConfigError, ReadError
from eniplug.simulate.measures import Outcome
from eniplug.simulate.trace import DAY


def check_plot(path: Path) -> None:
    """Raise before a long run what would spoil its picture."""
    try:
        from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    except ImportError as error:
        msg = "a plot needs matplotlib, which is not installed"
        raise ConfigError(msg, "pip install 'eniplug[simulate]'") from error
    known = FigureCanvasAgg.get_supported_filetypes()
    if path.suffix.removeprefix(".") not in known:
        msg = f"{path}: no kind of picture that matplotlib writes"
        raise ConfigError(msg, f"name a file that ends in one of {', '.join(known)}")
    if not path.parent.is_dir():
        raise ReadError(f"{path}: there is no folder {path.parent}", "make it first")


def save_plot(outcomes: Sequence[Outcome], path: Path) -> None:
    """Draw addresses over days: held by each policy, and in use."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg  # noqa: PLC0415
    from matplotlib.figure import Figure  # noqa: PLC0415

    figure = Figure(figsize=(10, 5), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    for one in outcomes:
        days = [when / DAY for when, _, _ in one.meter.curve]
        held = [held for _, held, _ in one.meter.curve]
        axes.step(days, held, where="post", label=f"held, {one.policy}")
    curve = outcomes[0].meter.curve
    days = [when / DAY for when, _, _ in curve]
    axes.step(days, [used for _, _, used in curve], where="post", label="in use")
    axes.set(xlabel="days", ylabel="addresses", ylim=(0, None))
    axes.legend()
    try:
        figure.savefig(path)
    except OSError as error:
        raise ReadError(
            f"{path}: {error}", "name a file that can be written"
        ) from error
