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
from eniplug.core.parts import Part

PODS: Final = 20
ROUNDS: Final = 15
QUICK_ROUNDS: Final = 5
RESTED: Final = 5
"""Pods of each round that come after a rest."""

REST: Final = 0.01

FLOOR: Final = "floor: the same messages, packed beforehand"
ADD: Final = "ADD"
IN_A_ROW: Final = ", one after the other"
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
        found = _measure(node, whole, pods, rounds)
        yield _table(found, whole, rounds)


def _table(found: Found, whole: Whole, rounds: int) -> Table:
    wall, processor = ({k: _p50(v, n) for k, v in found.items()} for n in (0, 1))
    stages = [k for k in found if k[0] == "…"]
    others = [what + how for how in (IN_A_ROW, AFTER_REST) for what in (FLOOR, ADD)]
    rows = [
        (
            what,
            f"{wall[what]:.2f}",
            f"{wall[what] / wall[FLOOR]:.2f}",
            f"{processor[what]:.2f}",
            f"{processor[what] / processor[FLOOR]:.2f}",
        )
        for what in (FLOOR, ADD, *stages, "DEL", *others)
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
        note=f"An ADD and a floor take turns, {PODS // 2} of each in a round; {rounds} "
        "rounds. So both find the processor's caches as one leaves them to the other. "
        f"Then {PODS} ADDs come one after the other, as many DELs and as many floors: "
        "nothing but netlink finds the kernel's own code and data still there. The "
        "stages are of these ADDs; their clocks take their share. After a rest, caches "
        "are others'. The last two lines are of the agent of the same node, in the "
        "same rounds. What the wall has more than the processor was waited for.",
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


def _measure(node: BenchNode, whole: Whole, pods: Sequence[Pod], rounds: int) -> Found:
    bench = node.beside.call(Workbench, FOLDER, len(pods) + 1, LEAN)
    found: dict[str, list[Times]] = {}
    try:
        for turn in range(rounds + 1):
            for how, work, some in (
                ("", _in_turns, pods),
                (IN_A_ROW, _in_a_row, pods),
                (AFTER_REST, _rested, pods[:RESTED]),
            ):
                node.beside.call(work, bench, some)
                for what, took in bench.stages.take().items():
                    rest = how if what in {ADD, FLOOR} else ""
                    if turn:  # 0 warms up
                        found.setdefault(what + rest, []).extend(took)
            whole.turn(pods)
            if not turn:
                whole.seconds.clear()
    finally:
        bench.close()
    return found


def _in_turns(bench: Workbench, pods: Sequence[Pod]) -> None:
    """Time an ADD, then a floor, and so on; the floors' objects are an ADD's."""
    half = len(pods) // 2
    for pod in pods[half:]:
        bench.answer("ADD", pod)
    parts = [bench.part(pod) for pod in pods[half:]]
    for pod in pods[half:]:
        bench.answer("DEL", pod)
    _reap(bench)
    bench.stages.take()
    bench.stages.fine = False
    for pod, other, part in zip(pods[:half], pods[half:], parts, strict=True):
        with descriptor(other) as netns:
            batches = packed(part.objects, part.alias, netns)
            bench.answer("ADD", pod)
            _floor(bench, batches, netns)
    bench.stages.fine = True
    kept = bench.stages.take()
    _remove(bench, pods[half:], parts)
    for pod in pods[:half]:
        bench.answer("DEL", pod)
    _reap(bench)
    bench.stages.took = kept


def _in_a_row(bench: Workbench, pods: Sequence[Pod]) -> None:
    """Time ADDs, then DELs, then floors."""
    for pod in pods:
        bench.answer("ADD", pod)
    parts = [bench.part(pod) for pod in pods]
    for pod in pods:
        bench.answer("DEL", pod)
    _reap(bench)
    for pod, part in zip(pods, parts, strict=True):
        with descriptor(pod) as netns:
            _floor(bench, packed(part.objects, part.alias, netns), netns)
    _remove(bench, pods, parts)
    _reap(bench)


def _rested(bench: Workbench, pods: Sequence[Pod]) -> None:
    """Time an ADD and a floor, with a rest before each."""
    for pod in pods:
        _in_a_row(bench, [pod])
    took = bench.stages.take()
    bench.stages.took = {what: took[what] for what in (ADD, FLOOR)}


def _floor(bench: Workbench, batches: Sequence[bytes], netns: int) -> None:
    began = clocks()
    replay(batches, netns, bench.home)
    bench.stages.note(FLOOR, began)


def _remove(bench: Workbench, pods: Sequence[Pod], parts: Sequence[Part]) -> None:
    for pod, part in zip(pods, parts, strict=True):
        with descriptor(pod) as netns:
            bench.kernel.remove(part.objects, netns)


def _reap(bench: Workbench) -> None:
    """Remove what is dead, and let the kernel finish with it."""
    while bench.kernel.reap():
        time.sleep(REST)
