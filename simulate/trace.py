"""Pod traces: when each pod of a node starts and ends, read from CSV or made."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterator, Sequence
from pathlib import Path
from random import Random
from typing import Final

from attrs import frozen

from eniplug.hooks.errors import DecodeError, ReadError

HOUR: Final = 3600.0
DAY: Final = 24 * HOUR
DEPLOYS: Final = 3
"""Times a day at which a part of all pods is replaced at once."""


@frozen(order=True)
class Life:
    """One pod; in seconds from the trace's beginning."""

    start: float
    end: float


def read(path: Path) -> tuple[Life, ...]:
    """Read a CSV file with the columns ``start`` and ``end``, others are ignored.

    Raises ReadError, or DecodeError that names the line.
    """
    try:
        with path.open(newline="") as file:
            rows = csv.DictReader(file)
            lives = [_life(path, rows.line_num, row) for row in rows]
    except (OSError, UnicodeDecodeError) as error:
        msg = f"the trace {path} cannot be read: {error}"
        raise ReadError(msg) from error
    if not lives:
        msg = f"the trace {path} has no pods"
        raise DecodeError(msg, "its first line must be: start,end")
    return tuple(sorted(lives))


def _life(path: Path, line: int, row: dict[str, str]) -> Life:
    try:
        life = Life(float(row["start"]), float(row["end"]))
    except (KeyError, TypeError, ValueError):
        msg = f"{path}, line {line}: wants numbers of seconds under start and end"
        raise DecodeError(msg, "its first line must be: start,end") from None
    if not 0 <= life.start < life.end < math.inf:
        msg = f"{path}, line {line}: a pod must end after it starts"
        raise DecodeError(msg)
    return life


def make(*, days: float, pods: int, stay: float, seed: int) -> tuple[Life, ...]:
    """Make a trace of a node with ``pods`` pods on average.

    They come by chance, more by day than by night, and stay for ``stay`` seconds on
    average; now and then a deployment replaces a fifth of them at once.
    """
    random = Random(seed)
    return tuple(sorted(_made(random, days * DAY, pods, stay)))


def _made(random: Random, end: float, pods: int, stay: float) -> Iterator[Life]:
    now = 0.0
    for _ in range(pods):
        yield Life(random.uniform(0, 60), 60 + random.expovariate(1 / stay))
    while True:
        now += random.expovariate(pods / stay)
        if now >= end:
            return
        # The wave of a day: from half as many at night to half more at noon.
        wave = 1 - math.cos(2 * math.pi * now / DAY) / 2
        if random.random() < wave / 1.5:
            yield Life(now, now + random.expovariate(1 / (1.5 * stay)))
        if random.random() < DEPLOYS * stay / pods / DAY:
            for _ in range(max(pods // 5, 1)):
                yield Life(now, now + random.expovariate(1 / stay))


def events(lives: Sequence[Life]) -> list[tuple[float, bool, int]]:
    """Say in order of time when each pod, by number, starts (True) and ends."""
    starts = [(life.start, True, number) for number, life in enumerate(lives)]
    ends = [(life.end, False, number) for number, life in enumerate(lives)]
    return sorted([*starts, *ends])
