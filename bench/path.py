"""An ADD inside the agent: over the floor, and stage by stage."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from statistics import median
from typing import Final

from bench.burst import Pod
from bench.node import LEAN, BenchNode, a_node
from bench.tables import Table
from bench.workbench import Times, Workbench, clocks, descriptor, packed, replay

PODS: Final = 20
HOLD: Final = 2.0
PAUSE: Final = 0.01
FLOOR: Final = "floor: the same messages, packed beforehand"


def measure(rounds: int) -> Iterator[Table]:
    """Let an ADD and the floor under it take turns, in one thread."""
    with a_node(*LEAN, environment={}) as node, node.pods(PODS) as pods:
        found = node.beside.call(_take_turns, node, pods, rounds)
    wall, processor = ({k: _p50(v, n) for k, v in found.items()} for n in (0, 1))
    whole = [each["ADD"] / each[FLOOR] for each in (wall, processor)]
    yield Table(
        title="Inside the agent: one pod, by secondary-ip, pod-veth and flat-routes",
        columns=("what", "median, ms", "÷ floor", "of it processor, ms", "÷ floor"),
        rows=[
            (
                what,
                f"{wall[what]:.2f}",
                f"{wall[what] / wall[FLOOR]:.2f}",
                f"{processor[what]:.2f}",
                f"{processor[what] / processor[FLOOR]:.2f}",
            )
            for what in (FLOOR, "ADD", *(k for k in found if k[0] == "…"), "DEL")
        ],
        hold=f"ADD, to hold: at most {HOLD:g} floors. "
        f"Reached: {whole[0]:.2f} on the wall, {whole[1]:.2f} on the processor.",
    )


def _p50(took: Sequence[Times], clock: int) -> float:
    """Return milliseconds."""
    return 1e3 * median(each[clock] for each in took)


def _take_turns(
    node: BenchNode, pods: Sequence[Pod], rounds: int
) -> Mapping[str, Sequence[Times]]:
    bench = Workbench(node.folder, len(pods) + 1, LEAN)
    try:
        for turn in range(rounds + 1):
            if turn == 1:  # 0 warms up
                bench.stages.took.clear()
            for pod in pods:
                _one(bench, pod)
    finally:
        bench.close()
    return bench.stages.took


def _one(bench: Workbench, pod: Pod) -> None:
    bench.answer("ADD", pod)
    part = bench.part(pod)
    bench.answer("DEL", pod)
    _reap(bench)
    with descriptor(pod) as netns:
        batches = packed(part.objects, part.alias, netns)
        began = clocks()
        replay(batches, netns)
        bench.stages.note(FLOOR, began)
        bench.kernel.remove(part.objects, netns)
    _reap(bench)


def _reap(bench: Workbench) -> None:
    """Remove what is dead, and let the kernel finish with it."""
    bench.kernel.reap()
    time.sleep(PAUSE)
