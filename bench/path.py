"""An ADD inside the agent: over the floor, and stage by stage."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Final

from attrs import define, field

from bench.asked import Asked
from bench.burst import Contender, Pod
from bench.node import LEAN, BenchNode, a_node, room_for
from bench.tables import Held, Table
from bench.workbench import Times, Workbench, clocks, descriptor, packed, replay

PODS: Final = 20
ROUNDS: Final = 15
QUICK_ROUNDS: Final = 5
RESTED: Final = 5
"""Pods of each round that come after a rest."""

REST: Final = 0.01

FLOOR: Final = "floor: the same messages, packed beforehand"
ADD: Final = "ADD"
AFTER_REST: Final = f", after {1000 * REST:.0f} ms of rest"
FOLDER: Final = Path("/run/bench")
"""In memory, as the agent's: it is the node's view of /run."""

Found = Mapping[str, Sequence[Times]]


@define
class Whole:
    """Whole processes on the same node: the agent that they ask writes its own times.

    They tell whether what was put together here takes as long as the agent.
    """

    node: BenchNode
    eniplug: Contender
    seconds: list[float] = field(factory=list)

    def turn(self, pods: Sequence[Pod]) -> None:
        """Add and remove all pods, one by one."""
        self.seconds += self.eniplug.run("ADD", pods, 1).each
        self.eniplug.run("DEL", pods, 1)
        self.node.calm()

    def inside(self) -> Sequence[float]:
        """Return the milliseconds of each ADD by the agent's log."""
        lines = (self.node.folder / "node1/agent.log").read_text().splitlines()
        entries = map(json.loads, lines)
        return [float(one["ms"]) for one in entries if one.get("event") == "ADD"]


def measure(asked: Asked) -> Iterator[Table]:
    """Let ADDs, the floor under them and whole processes take turns."""
    rounds = QUICK_ROUNDS if asked.quick else ROUNDS
    with a_node(*LEAN, environment=room_for(PODS)) as node, node.pods(PODS) as pods:
        whole = Whole(node, node.native("eniplug", *LEAN))
        found = _take_turns(node, whole, pods, rounds)
        yield _table(found, whole, rounds)


def _table(found: Found, whole: Whole, rounds: int) -> Table:
    wall, processor = ({k: _p50(v, n) for k, v in found.items()} for n in (0, 1))
    stages = [k for k in found if k[0] == "…"]
    rows = [
        (
            what,
            f"{wall[what]:.2f}",
            f"{wall[what] / wall[FLOOR]:.2f}",
            f"{processor[what]:.2f}",
            f"{processor[what] / processor[FLOOR]:.2f}",
        )
        for what in (FLOOR, ADD, *stages, "DEL", FLOOR + AFTER_REST, ADD + AFTER_REST)
    ]
    for what, took in (
        ("ADD, by the agent's log", median(whole.inside())),
        ("whole process", 1e3 * median(whole.seconds)),
    ):
        rows.append((what, f"{took:.2f}", f"{took / wall[FLOOR]:.2f}", "", ""))
    return Table(
        title="Inside the agent: one pod, by secondary-ip, pod-veth and flat-routes",
        columns=("what", "median, ms", "÷ floor", "of it processor, ms", "÷ floor"),
        rows=rows,
        note=f"{PODS} pods one after the other, then as many DELs, then as many "
        f"floors; {rounds} rounds. After a rest, caches are others'. The last two "
        "lines are of the agent of the same node, in the same rounds. What the "
        "wall has more than the processor was waited for.",
        held=[
            Held(
                what=f"ADD in the agent ÷ floor, on the {clock}",
                bound=2,
                reached=times[ADD] / times[FLOOR],
            )
            for clock, times in (("wall", wall), ("processor", processor))
        ],
    )


def _p50(took: Sequence[Times], clock: int) -> float:
    """Return milliseconds."""
    return 1e3 * median(each[clock] for each in took)


def _take_turns(
    node: BenchNode, whole: Whole, pods: Sequence[Pod], rounds: int
) -> Found:
    bench = node.beside.call(Workbench, FOLDER, len(pods) + 1, LEAN)
    try:
        for turn in range(rounds + 1):
            if turn == 1:  # 0 warms up
                bench.stages.took.clear()
                whole.seconds.clear()
            node.beside.call(_batch, bench, pods)
            node.beside.call(_rested, bench, pods[:RESTED])
            whole.turn(pods)
    finally:
        bench.close()
    return bench.stages.took


def _batch(bench: Workbench, pods: Sequence[Pod]) -> None:
    """Time one after the other, as whole processes are."""
    for pod in pods:
        bench.answer("ADD", pod)
    parts = [bench.part(pod) for pod in pods]
    for pod in pods:
        bench.answer("DEL", pod)
    _reap(bench)
    for pod, part in zip(pods, parts, strict=True):
        with descriptor(pod) as netns:
            batches = packed(part.objects, part.alias, netns)
            began = clocks()
            replay(batches, netns)
            bench.stages.note(FLOOR, began)
    for pod, part in zip(pods, parts, strict=True):
        with descriptor(pod) as netns:
            bench.kernel.remove(part.objects, netns)
    _reap(bench)


def _rested(bench: Workbench, pods: Sequence[Pod]) -> None:
    """Time the same as `_batch`, with a rest before each."""
    kept, bench.stages.took = bench.stages.took, {}
    for pod in pods:
        _batch(bench, [pod])
    for what in (ADD, FLOOR):
        kept.setdefault(what + AFTER_REST, []).extend(bench.stages.took[what])
    bench.stages.took = kept


def _reap(bench: Workbench) -> None:
    """Remove what is dead, and let the kernel finish with it."""
    while bench.kernel.reap():
        time.sleep(REST)
