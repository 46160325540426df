"""A pod trace: when each pod of one node starts and ends, read or made."""

from __future__ import annotations

import csv
import math
import random
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Final

from attrs import evolve, frozen

from eniplug.hooks.errors import ReadError

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR

JOBS: Final = 0.1
"""The share of the running pods that are short jobs: the churn."""

JOB_LIFE: Final = 600.0
SERVICE_LIFE: Final = 8 * HOUR
"""Mean lives in seconds; lives are exponential."""

FILLING: Final = 1800.0
"""Seconds in which a new node fills."""

WAVE: Final = 0.5
"""How far the day's wave goes above and below the mean."""

DEPLOYS: Final = 6.0
"""Deploys in a day; each replaces a tenth to a third of the services."""

SURGE: Final = 120.0
"""Seconds within which a deploy's new pods start; the old ones go a little later."""


@frozen(kw_only=True)
class PodTime:
    """One pod's life, in seconds since the trace begins: ``start`` <= ``end``."""

    start: float
    end: float
    name: str


def read_trace(path: Path) -> tuple[PodTime, ...]:
    """Read a CSV file of start, end and, if there is one, a name; a header may lead.

    Raises ReadError, which names the line.
    """
    try:
        with path.open(newline="", encoding="utf-8") as lines:
            rows = csv.reader(lines)
            pods = [_pod(row, path, rows.line_num) for row in _data(rows)]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise ReadError(f"{path}: {error}", "name a CSV file of pods") from error
    if not pods:
        raise ReadError(f"{path}: no pod", "write a line start,end[,name] for each")
    return tuple(sorted(pods, key=lambda pod: (pod.start, pod.end, pod.name)))


def _data(rows: Iterable[list[str]]) -> Iterator[list[str]]:
    for number, row in enumerate(rows):
        head = number == 0 and [cell.strip() for cell in row[:2]] == ["start", "end"]
        if row and not head:
            yield row


def _pod(row: list[str], path: Path, line: int) -> PodTime:
    try:
        start, end = (float(cell) for cell in row[:2])
    except ValueError:
        start = end = math.nan
    if not (0 <= start <= end < math.inf) or len(row) > 3:  # noqa: PLR2004
        msg = f"{path}, line {line}: {','.join(row)!r} is no pod's start,end[,name]"
        raise ReadError(msg, "write seconds, 0 <= start <= end, and at most a name")
    name = row[2].strip() if row[2:] else ""
    return PodTime(start=start, end=end, name=name or f"line-{line}")


def make_trace(days: float, pods: float, seed: int) -> tuple[PodTime, ...]:
    """Make a trace of ``days`` with ``pods`` running on the mean; a seed's is the same.

    Services come and go with the day, deploys replace many of them at once, and short
    jobs churn all the time.
    """
    dice = random.Random(seed)
    end = days * DAY
    services = _deployed(_services(dice, end, pods * (1 - JOBS)), dice, end)
    jobs = _arrivals(dice, end, pods * JOBS, JOB_LIFE)
    lives = sorted([*services, *jobs], key=lambda pod: (pod.start, pod.end))
    return tuple(evolve(pod, name=f"pod-{n}") for n, pod in enumerate(lives))


def _services(dice: random.Random, end: float, mean: float) -> list[PodTime]:
    # The first ones do not come before a new node's agent is ready.
    starts = [dice.uniform(FILLING / 10, FILLING) for _ in range(round(mean))]
    begun = [_life(dice, start, SERVICE_LIFE) for start in starts]
    return begun + _arrivals(dice, end, mean, SERVICE_LIFE)


def _arrivals(
    dice: random.Random, end: float, mean: float, life: float
) -> list[PodTime]:
    """Pods that arrive at random, by Little's law ``mean`` of them at a time."""
    found: list[PodTime] = []
    most, now = mean / life * (1 + WAVE), 0.0
    while mean and (now := now + dice.expovariate(most)) < end:
        # Thinned: of the highest rate, what the hour of the day leaves.
        rate = 1 - WAVE * math.cos(2 * math.pi * now / DAY)
        if dice.random() * (1 + WAVE) < rate:
            found.append(_life(dice, now, life))
    return found


def _life(dice: random.Random, start: float, mean: float) -> PodTime:
    return PodTime(start=start, end=start + dice.expovariate(1 / mean), name="")


def _deployed(pods: list[PodTime], dice: random.Random, end: float) -> list[PodTime]:
    """Replace services by new ones, which start before the old ones go."""
    now = 0.0
    while (now := now + dice.expovariate(DEPLOYS / DAY)) < end:
        share = dice.uniform(0.1, 0.33)
        new: list[PodTime] = []
        for n, pod in enumerate(pods):
            if pod.start < now < pod.end - 2 * SURGE and dice.random() < share:
                start = now + dice.random() * SURGE
                pods[n] = evolve(pod, end=start + dice.uniform(10, SURGE))
                new.append(evolve(pod, start=start))
        pods = pods + new
    return pods
