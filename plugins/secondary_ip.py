"""Give each pod one secondary private address of an ENI.

The node keeps addresses ready by the targets that AWS documents (WARM_ENI_TARGET,
WARM_IP_TARGET, MINIMUM_IP_TARGET): it asks EC2 for more on the ENIs that it has, then
for another ENI, and gives back what is too much.  Two things differ from the AWS VPC
CNI: a pod that waits for an address counts as demand, and an address that is cooling
down does not count as available.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import evolve, frozen

from eniplug.hooks import (
    Action,
    Allocation,
    AssignAddresses,
    CapacityView,
    CreateEni,
    DeleteEni,
    EniView,
    Pod,
    Pool,
    UnassignAddresses,
    hookimpl,
)

SETTLED = 60.0
"""Seconds after which a new ENI may be given back."""


@frozen(eq=False, kw_only=True)
class SecondaryIp:
    """Addresses in the form of ENIs' secondary private IPv4 addresses."""

    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        """Give the pod one address."""
        return Allocation.of(pod, pool.take())

    @hookimpl
    def plan_capacity(self, view: CapacityView) -> tuple[Action, ...]:
        """Fetch what the targets lack, or give back what they do not need."""
        if _short(view) > 0:
            return tuple(_grow(view))
        return tuple(_shrink(view))


def _counted(view: CapacityView) -> bool:
    """Whether addresses are counted one by one, and not in whole ENIs."""
    return view.targets.warm_ip > 0 or view.targets.minimum_ip > 0


def _free(view: CapacityView) -> int:
    """Addresses that are available once all that wait have theirs; may be negative."""
    return sum(len(eni.idle) for eni in view.enis) - view.waiting


def _total(view: CapacityView) -> int:
    return sum(eni.total for eni in view.enis)


def _warm(view: CapacityView) -> int:
    """Addresses that should be available."""
    if _counted(view):
        return view.targets.warm_ip
    # A warm target of no ENI still keeps one address: at none, more are fetched.
    return view.targets.warm_eni * view.eni_capacity or 1


def _short(view: CapacityView) -> int:
    """Addresses that are lacking."""
    short = _warm(view) - _free(view)
    if _counted(view):
        short = max(short, view.targets.minimum_ip - _total(view))
    return max(short, 0)


def _spare(view: CapacityView) -> int:
    """Addresses that could go without missing a target."""
    spare = _free(view) - _warm(view)
    if _counted(view):
        spare = min(spare, _total(view) - view.targets.minimum_ip)
    return max(spare, 0)


def _grow(view: CapacityView) -> Iterator[Action]:
    """Fill ENIs that are there, the fullest first, then ask for more ENIs.

    Counted targets fetch what is short; whole-ENI targets fill each ENI they touch.
    """
    short, room = _short(view), view.max_pods - _total(view)
    for eni in sorted(view.enis, key=lambda eni: (-eni.assigned, not eni.primary)):
        if short <= 0 or room <= 0:
            return
        number = min(eni.slots, short) if _counted(view) else eni.slots
        if number > 0:
            yield AssignAddresses(eni=eni.id, count=number)
            short, room = short - number, room - number
    for _ in range(view.new_enis if view.eni_capacity > 0 else 0):
        if short <= 0 or room <= 0:
            return
        number = view.eni_capacity
        if _counted(view):
            number = min(number, short)
        yield CreateEni(count=number)
        short, room = short - number, room - number


def _shrink(view: CapacityView) -> Iterator[Action]:
    """Give whole ENIs back, newest first, then single addresses."""
    for eni in reversed(view.enis):
        if _unused(eni) and len(eni.idle) <= _spare(view):
            yield DeleteEni(eni=eni.id)
            view = evolve(view, enis=tuple(e for e in view.enis if e is not eni))
    surplus = _spare(view) if _counted(view) else 0
    # Those that serve fewest first, so that they drain; the primary ENI must stay.
    for eni in sorted(view.enis, key=lambda eni: (eni.primary, eni.assigned)):
        number = min(surplus, len(eni.idle))
        if number > 0:
            last = eni.idle[-number:]
            yield UnassignAddresses(eni=eni.id, addresses=last)
            surplus -= number


def _unused(eni: EniView) -> bool:
    busy = eni.primary or eni.assigned or eni.cooling
    return not busy and eni.age > SETTLED
