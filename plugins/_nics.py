"""How many interfaces a pod has: one, or one on each network card if it asks."""

from __future__ import annotations

from eniplug.hooks import Allocation, Kind, Pod, Pool


def interfaces(pod: Pod, pool: Pool, prefer: Kind) -> Allocation:
    """Give each of the pod's interfaces one IPv4 address."""
    if pod.wants_every_card:
        return Allocation.of_cards(pod, pool.take_each_card(prefer=prefer))
    return Allocation.of(pod, pool.take(prefer=prefer))
