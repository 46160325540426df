"""Whole processes: ADD and DEL as a runtime sees them, beside the CNI project's own."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from statistics import median, quantiles
from typing import Any, Final

from attrs import define, field

from bench.burst import Contender, Pod, Took
from bench.node import FULL, LEAN, BenchNode, a_node
from bench.tables import Table

PODS: Final = 50
AT_ONCE: Final = (1, 10, 50)
SIDE_BY_SIDE: Final = 50

WARM: Final = {"MINIMUM_IP_TARGET": "60", "WARM_IP_TARGET": "1"}
"""Addresses for all pods are there before the first one comes."""

PEER: Final[dict[str, Any]] = {
    "type": "ptp",
    "mtu": 9001,
    "ipam": {
        "type": "host-local",
        "ranges": [[{"subnet": "10.200.0.0/16"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    },
}
PEER_CHAIN: Final[tuple[dict[str, Any], ...]] = (
    {**PEER, "ipMasq": True},
    {"type": "bandwidth", "capabilities": {"bandwidth": True}},
    {"type": "portmap", "snat": True, "capabilities": {"portMappings": True}},
)


@define
class Times:
    """What one contender took at one breadth; seconds."""

    each: dict[str, list[float]] = field(factory=lambda: {"ADD": [], "DEL": []})
    rates: dict[str, list[float]] = field(factory=lambda: {"ADD": [], "DEL": []})

    def note(self, command: str, took: Took) -> None:
        """Add one burst."""
        self.each[command] += took.each
        self.rates[command].append(len(took.each) / took.whole)

    def p50(self, command: str) -> float:
        """Return the median, in milliseconds."""
        return 1e3 * median(self.each[command])

    def p99(self, command: str) -> float:
        """Return the 99th percentile, in milliseconds."""
        return 1e3 * quantiles(self.each[command], n=100, method="inclusive")[98]

    def rate(self, command: str) -> float:
        """Return pods per second."""
        return median(self.rates[command])


Found = dict[tuple[int, str], Times]
"""By breadth and contender."""


def measure(rounds: int) -> Iterator[Table]:
    """Let all contenders have their turn in each round, one after the other."""
    with a_node(*FULL, environment=WARM) as node, node.pods(PODS) as pods:
        lean = (
            node.native("native", *LEAN),
            node.python("Python", *LEAN),
            node.others("ptp + host-local", PEER),
        )
        found = _compare(node, pods, lean, AT_ONCE, rounds // 3)
        one, broad = ((found[n, "native"], found[n, lean[-1].name]) for n in (1, 50))
        python = found[1, "Python"].p50("ADD") / one[1].p50("ADD")
        yield Table(
            title="Whole processes: one address, a link and its routes",
            columns=COLUMNS,
            rows=_rows(found, lean[-1].name),
            hold=" ".join(
                (
                    _held("ADD of one, native", 0.25, _p50(one, "ADD")),
                    _held("Python", 1.2, python),
                    _held("DEL of one, native", 0.1, _p50(one, "DEL")),
                    _held(
                        "ADDs a second, 50 at once", 4, _rate(broad, "ADD"), least=True
                    ),
                    _held(
                        "DELs a second, 50 at once", 5, _rate(broad, "DEL"), least=True
                    ),
                )
            ),
        )
        full = (
            node.native("one entry", *FULL),
            node.others("ptp + host-local, bandwidth, portmap", *PEER_CHAIN),
        )
        found = _compare(node, pods, full, (1, 10), max(1, rounds // 5))
        chains = found[1, full[0].name], found[1, full[1].name]
        yield Table(
            title="Whole processes: the full chain, with limits and one host port",
            columns=COLUMNS,
            rows=_rows(found, full[1].name),
            hold=_held("ADD of one", 0.1, _p50(chains, "ADD")),
        )


def _compare(
    node: BenchNode,
    pods: Sequence[Pod],
    contenders: Sequence[Contender],
    breadths: Sequence[int],
    rounds: int,
) -> Found:
    found: Found = {(n, one.name): Times() for n in breadths for one in contenders}
    for turn in range(rounds + 1):
        for n in breadths:
            # One by one a few pods tell as much as all.
            some = pods if n > 1 else pods[:20]
            for one in contenders:
                times = Times() if turn == 0 else found[n, one.name]  # 0 warms up
                times.note("ADD", one.run("ADD", some, n))
                times.note("DEL", one.run("DEL", some, n))
                node.calm()
    return found


COLUMNS: Final = ("", "at once", "what", "p50, ms", "p99", "per s", "p50 ÷", "rate ÷")


def _rows(found: Found, peer: str) -> list[Sequence[str]]:
    return [
        (
            command,
            str(n),
            name,
            f"{times.p50(command):.2f}",
            f"{times.p99(command):.1f}",
            f"{times.rate(command):.0f}",
            f"{_p50((times, found[n, peer]), command):.2f}",
            f"{_rate((times, found[n, peer]), command):.1f}",
        )
        for command in ("ADD", "DEL")
        for (n, name), times in found.items()
    ]


def _p50(both: tuple[Times, Times], command: str) -> float:
    mine, peers = both
    return mine.p50(command) / peers.p50(command)


def _rate(both: tuple[Times, Times], command: str) -> float:
    mine, peers = both
    return mine.rate(command) / peers.rate(command)


def _held(what: str, wanted: float, reached: float, *, least: bool = False) -> str:
    bound = "at least" if least else "at most"
    return f"{what} ÷ the peer's, to hold: {bound} {wanted:g}. Reached: {reached:.2f}."
