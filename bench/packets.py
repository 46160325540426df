"""What a packet through the node costs as pods become many, in both layouts."""

from __future__ import annotations

import shutil
import subprocess
import tempfile
import time
from collections.abc import Generator, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from statistics import median
from typing import Final

from bench.burst import Pod
from bench.node import BenchNode, a_node
from bench.tables import Table
from eniplug.lab import netns

SOURCE: Final = Path(__file__).with_name("echo.c")
SIZES: Final = (2, 250, 1000)
LAYOUTS: Final = ("flat-routes", "policy-routes")
TRIPS: Final = 3000
HOLD: Final = 1.10

Node = tuple[BenchNode, Sequence[Pod]]
Found = dict[tuple[str, int], list[float]]


def measure(rounds: int) -> Iterator[Table]:
    """Give two nodes as many pods each; at each size they take turns."""
    sizes = SIZES if rounds > 5 else SIZES[:2]  # noqa: PLR2004
    found: Found = {(layout, size): [] for layout in LAYOUTS for size in sizes}
    with ExitStack() as stack:
        echo = stack.enter_context(_program())
        nodes = {
            layout: stack.enter_context(_node(layout, sizes[-1])) for layout in LAYOUTS
        }
        there = 0
        for size in sizes:
            for layout, (node, pods) in nodes.items():
                eniplug = node.native(layout, "prefix-delegation", "pod-veth", layout)
                eniplug.run("ADD", pods[there:size], 10)
            there = size
            for _ in range(rounds):
                for layout, (_, pods) in nodes.items():
                    trip = _round_trip(echo, pods[0], pods[size - 1])
                    found[layout, size].append(trip)
    times = {one: min(took) for one, took in found.items()}
    ratios = {(w, n): t / times[w, sizes[0]] for (w, n), t in times.items()}
    reached = ratios["flat-routes", sizes[-1]]
    yield Table(
        title="UDP round trip through the node, from the first pod to the last",
        columns=("layout", "pods", "µs", f"÷ at {sizes[0]}"),
        rows=[
            (layout, f"{size}", f"{took:.1f}", f"{ratios[layout, size]:.2f}")
            for (layout, size), took in times.items()
        ],
        hold=f"To hold: flat-routes, {sizes[-1]} ÷ {sizes[0]} at most {HOLD:.2f}. "
        f"Reached: {reached:.2f}. Times are of the best round's median.",
    )


@contextmanager
def _program() -> Generator[str]:
    """Build the echo. Raises RuntimeError without a C compiler."""
    compiler = shutil.which("cc")
    if compiler is None:
        raise RuntimeError("a C compiler is needed: apt-get install gcc")
    with tempfile.TemporaryDirectory() as folder:
        echo = f"{folder}/echo"
        subprocess.run([compiler, "-O2", "-o", echo, SOURCE], check=True)
        yield echo


@contextmanager
def _node(layout: str, most: int) -> Generator[Node]:
    environment = {
        "MINIMUM_IP_TARGET": str(most),
        "WARM_IP_TARGET": "1",
        "ENIPLUG_MAX_PODS": str(most),
    }
    plugins = ("prefix-delegation", "pod-veth", layout)
    name = layout.partition("-")[0]
    with (
        a_node(*plugins, environment=environment, name=name) as node,
        node.pods(most) as pods,
    ):
        yield node, pods


def _round_trip(echo: str, here: Pod, there: Pod) -> float:
    """Return the median in microseconds."""
    places = [str(netns.DIRECTORY / pod.namespace) for pod in (here, there)]
    server = subprocess.Popen([echo, "serve", places[1]])
    try:
        time.sleep(0.05)
        ask = (echo, "ask", places[0], there.address, str(TRIPS))
        said = subprocess.run(ask, check=True, capture_output=True, text=True).stdout
    finally:
        server.terminate()
        server.wait()
    return median(map(int, said.split())) / 1000
