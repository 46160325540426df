"""What packets through the node cost as pods become many, in both layouts."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from statistics import median
from typing import Final

from attrs import define, field

from bench.asked import Asked
from bench.burst import Contender, Pod
from bench.compiled import program
from bench.node import a_node, room_for
from bench.tables import Held, Plot, Table
from eniplug.lab import netns

FEW: Final = 2
SIZES: Final = (FEW, 250, 500, 1000)
LAYOUTS: Final = ("flat-routes", "policy-routes")
TRIPS: Final = 10_000
POUR: Final = 250
"""Milliseconds."""

ROUNDS: Final = 9
QUICK_ROUNDS: Final = 3

UDP: Final = "UDP"
THERE: Final = "TCP there"
BACK: Final = "TCP back"


@define
class Ground:
    """A node with pods; ``figures`` are of the present number of them, by kind."""

    eniplug: Contender
    pods: Sequence[Pod]
    there: int = 0
    figures: dict[str, list[float]] = field(factory=dict)

    def fill(self, size: int) -> None:
        """Add pods until there are so many; forget what was measured before."""
        if size > self.there:
            self.eniplug.run("ADD", self.pods[self.there : size], 10)
        self.there = size
        self.figures = {}

    def measure(self) -> None:
        """Send from the first pod to the last, and back."""
        first, last = self.pods[0], self.pods[self.there - 1]
        for kind, figure in (
            (UDP, _round_trip(first, last)),
            (THERE, _stream(first, last)),
            (BACK, _stream(last, first)),
        ):
            self.figures.setdefault(kind, []).append(figure)

    def over(self, other: Ground, kind: str) -> float:
        """Return what a figure is of another ground's, in the median round."""
        pairs = zip(self.figures[kind], other.figures[kind], strict=True)
        return median(mine / others for mine, others in pairs)


Found = Mapping[tuple[str, int, str], tuple[float, float]]
"""By layout, size and kind: the median, and what it is of the node with few pods."""


def measure(asked: Asked) -> Iterator[Table]:
    """Fill a node for each layout; one with few pods takes turns with it all the time.

    So both figures of a ratio are of the same second, whatever else the machine does.
    """
    sizes = SIZES[-1:] if asked.quick else SIZES
    rounds = QUICK_ROUNDS if asked.quick else ROUNDS
    with ExitStack() as stack:
        grounds = {
            layout: tuple(
                _ground(stack, layout, pods, sizes[-1]) for pods in (FEW, sizes[-1])
            )
            for layout in LAYOUTS
        }
        found = {}
        for size in sizes:
            for few, many in grounds.values():
                few.fill(FEW)
                many.fill(size)
            for _ in range(rounds):
                for few, many in grounds.values():
                    few.measure()
                    many.measure()
            for layout, (few, many) in grounds.items():
                for kind in many.figures:
                    figure = median(many.figures[kind])
                    found[layout, size, kind] = figure, many.over(few, kind)
    yield _udp(found, sizes, rounds)
    yield _tcp(found, sizes, rounds)


def _udp(found: Found, sizes: Sequence[int], rounds: int) -> Table:
    most = sizes[-1]
    return Table(
        title="UDP round trip through the node, from the first pod to the last",
        columns=("layout", "pods", "µs", f"÷ a node with {FEW}"),
        rows=[
            (layout, str(size), f"{took:.1f}", f"{ratio:.2f}")
            for (layout, size, kind), (took, ratio) in found.items()
            if kind == UDP
        ],
        note=_note(rounds),
        held=[
            Held(
                what=f"UDP round trip by flat-routes, {most} pods ÷ {FEW}",
                bound=1.1,
                reached=found["flat-routes", most, UDP][1],
            )
        ],
        plots=[_plot("packets-udp", "µs for a round trip", found, UDP)],
    )


def _tcp(found: Found, sizes: Sequence[int], rounds: int) -> Table:
    return Table(
        title="One TCP stream through the node, between the first pod and the last",
        columns=(
            "layout",
            "pods",
            "there, Gbit/s",
            f"÷ a node with {FEW}",
            "back, Gbit/s",
            f"÷ a node with {FEW}",
        ),
        rows=[
            (
                layout,
                str(size),
                *(
                    text
                    for kind in (THERE, BACK)
                    for figure, ratio in (found[layout, size, kind],)
                    for text in (f"{figure:.1f}", f"{ratio:.2f}")
                ),
            )
            for layout in LAYOUTS
            for size in sizes
        ],
        note=f"{_note(rounds)} Offloads are as the kernel makes them.",
        plots=[_plot("packets-tcp", "Gbit/s", found, THERE)],
    )


def _note(rounds: int) -> str:
    return (
        f"Medians of {rounds} rounds. A second node, which keeps {FEW} pods, is "
        "measured in turn with the one that fills up; ratios are of one turn each. "
        "Both have all ENIs from the start, so that the first pod's is the same."
    )


def _plot(name: str, y: str, found: Found, what: str) -> Plot:
    lines: dict[str, list[tuple[float, float]]] = {layout: [] for layout in LAYOUTS}
    for (layout, size, kind), (figure, _) in found.items():
        if kind == what:
            lines[layout].append((size, figure))
    return Plot(name=name, x="pods on the node", y=y, lines=lines)


def _ground(stack: ExitStack, layout: str, pods: int, most: int) -> Ground:
    """Bring up a node that will have so many pods, and ENIs for ``most``."""
    plugins = ("prefix-delegation", "pod-veth", layout)
    name = f"{layout.partition('-')[0]}{pods}"
    node = stack.enter_context(a_node(*plugins, environment=room_for(most), name=name))
    made = stack.enter_context(node.pods(pods))
    return Ground(node.native(layout, *plugins), made)


def _round_trip(here: Pod, there: Pod) -> float:
    """Return the median in microseconds."""
    return median(map(int, _told("ask", here, there, TRIPS))) / 1000


def _stream(here: Pod, there: Pod) -> float:
    """Return Gbit/s."""
    (rate,) = _told("pour", here, there, POUR)
    return 8 * int(rate) / 1e9


def _told(what: str, here: Pod, there: Pod, much: int) -> Sequence[str]:
    echo = program("echo")
    with subprocess.Popen(
        [echo, "serve", _namespace(there)], stdout=subprocess.PIPE
    ) as server:
        try:
            assert server.stdout is not None
            server.stdout.readline()  # it listens
            command = (echo, what, _namespace(here), there.address, str(much))
            return subprocess.run(
                command, check=True, stdout=subprocess.PIPE, text=True
            ).stdout.split()
        finally:
            server.terminate()


def _namespace(pod: Pod) -> str:
    return str(netns.DIRECTORY / pod.namespace)
