"""One address taken and given back: the same time however many there are."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from ipaddress import IPv4Address, IPv4Network
from statistics import median
from time import thread_time
from typing import Final

from bench.asked import Asked
from bench.tables import Held, Plot, Table
from eniplug.core.pool import AddressPool
from eniplug.hooks import Block, Eni
from eniplug.testing.clock import HandClock

SIZES: Final = (100, 1_000, 10_000, 100_000)
ENIS: Final = 4
TURNS: Final = 200
"""Pods in one measurement."""

ROUNDS: Final = 15


def measure(asked: Asked) -> Iterator[Table]:
    """Take the sizes in turns; they are the same for all that is ``asked``."""
    kinds: dict[str, Callable[[int], AddressPool]] = {
        "single addresses": singles,
        "prefixes": prefixes,
    }
    pools = {(kind, size): kinds[kind](size) for kind in kinds for size in SIZES}
    taken: dict[tuple[str, int], list[float]] = {one: [] for one in pools}
    for _ in range(ROUNDS):
        for one, pool in pools.items():
            taken[one].append(seconds(pool))
    times = {one: 1e6 * median(found) for one, found in taken.items()}
    rows = [
        (
            kind,
            f"{size:,}",
            f"{times[kind, size]:.1f}",
            f"{ratio(times, kind, size):.2f}",
        )
        for kind, size in pools
    ]
    worst = max(ratio(times, kind, 10_000) for kind in kinds)
    yield Table(
        title="Pool: take and release of one address",
        columns=("kind", "addresses", "µs", "÷ at 100"),
        rows=rows,
        note=f"The median of {ROUNDS} rounds of {TURNS} pods, on the processor.",
        held=[
            Held(what="Pool, 10,000 addresses ÷ 100", bound=1.5, reached=worst),
        ],
        plots=[
            Plot(
                name="pool",
                x="addresses",
                y="µs for one pod",
                lines={
                    kind: [(size, times[kind, size]) for size in SIZES]
                    for kind in kinds
                },
                logarithmic=True,
            )
        ],
    )


def ratio(times: dict[tuple[str, int], float], kind: str, size: int) -> float:
    """What a size costs of what the smallest does."""
    return times[kind, size] / times[kind, SIZES[0]]


def seconds(pool: AddressPool) -> float:
    """Measure one pod that comes and goes, in CPU time."""
    start = thread_time()  # nothing here waits
    for _ in range(TURNS):
        pool.release(pool.take().address)
    return (thread_time() - start) / TURNS


def singles(size: int) -> AddressPool:
    """Make a pool of single addresses, half of them in use."""
    first = IPv4Address("10.1.0.0")
    return half_full([first + number for number in range(size)])


def prefixes(size: int) -> AddressPool:
    """Make a pool of at least so many addresses in prefixes, half of them in use."""
    base = int(IPv4Address("10.64.0.0"))
    return half_full([IPv4Network((base + n, 28)) for n in range(0, size, 16)])


def half_full(blocks: Iterable[Block]) -> AddressPool:
    """Spread blocks over the node's ENIs and have pods take half of what there is."""
    pool = AddressPool(0, HandClock())
    found = list(blocks)
    for device in range(ENIS):
        mine = found[device::ENIS]
        name = f"eni-{device}"
        eni = Eni(id=name, link=f"ens{device}", mac=f"{device}", device=device)
        pool.add_eni(eni, slots=len(mine))
        pool.add(name, mine)
    for _ in range(pool.counts(4).total // 2):
        pool.take()
    return pool
