"""Give each pod one secondary private address of an ENI.

The node keeps addresses ready by the targets that AWS documents (WARM_ENI_TARGET,
WARM_IP_TARGET, MINIMUM_IP_TARGET): it asks EC2 for more on the ENIs that it has, then
for another ENI, and gives back what is too much.  Two things differ from the AWS VPC
CNI: a pod that waits for an address counts as demand, and an address that is cooling
down does not count as available.
"""

from __future__ import annotations

from collections.abc import Iterator

from attrs import frozen

from eniplug.hooks import (
    Action,
    Allocation,
    AssignAddresses,
    CapacityView,
    CreateEni,
    EniView,
    Pod,
    Pool,
    Unassign,
    hookimpl,
)
from eniplug.plugins._capacity import (
    emptiest_first,
    fullest_first,
    shortage,
    surplus,
    whole_enis,
)
from eniplug.plugins._nics import interfaces


@frozen(eq=False, kw_only=True)
class SecondaryIp:
    """Addresses in the form of ENIs' secondary private IPv4 addresses."""

    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        """Give the pod one address; those of prefixes, if there are any, drain.

        With the annotation for it, one of every network card.
        """
        return interfaces(pod, pool, prefer="address")

    @hookimpl
    def plan_capacity(self, view: CapacityView) -> tuple[Action, ...]:
        """Fetch what the targets lack, or give back what they do not need."""
        if shortage(view, _warm(view)) > 0:
            return tuple(_grow(view))
        return tuple(_shrink(view))


def _warm(view: CapacityView) -> int:
    """Addresses that should be available."""
    if view.targets.counted:
        return view.targets.warm_ip
    # A warm target of no ENI still keeps one address: at none, more are fetched.
    return view.targets.warm_eni * view.eni_slots or 1


def _grow(view: CapacityView) -> Iterator[Action]:
    """Fill ENIs that are there, the fullest first, then ask for more ENIs.

    Counted targets fetch what is short; whole-ENI targets fill each ENI they touch.
    """
    short, room = shortage(view, _warm(view)), view.max_pods - view.total
    for eni in fullest_first(view):
        if short <= 0 or room <= 0:
            return
        number = min(eni.slots, short) if view.targets.counted else eni.slots
        if number > 0 and "address" not in eni.lacks:
            yield AssignAddresses(eni=eni.id, count=number)
            short, room = short - number, room - number
    can = view.eni_slots > 0 and "address" not in view.lacks
    for _ in range(view.new_enis if can else 0):
        if short <= 0 or room <= 0:
            return
        number = view.eni_slots
        if view.targets.counted:
            number = min(number, short)
        yield CreateEni(addresses=number)
        short, room = short - number, room - number


def _shrink(view: CapacityView) -> Iterator[Action]:
    """Give back prefixes of an earlier mode, then whole ENIs, then single addresses."""
    spare = surplus(view, _warm(view))
    for eni in emptiest_first(view):
        for one in eni.prefixes_of(4):
            if one.unused and one.idle <= spare:
                yield Unassign(eni=eni.id, blocks=(one.prefix,))
                spare -= one.idle
    gone: set[str] = set()
    for action in whole_enis(view, spare):
        gone.add(action.eni)
        yield action
    kept = [eni for eni in emptiest_first(view) if eni.id not in gone]
    spare -= sum(eni.free for eni in view.enis if eni.id in gone)
    if view.targets.counted:
        yield from _surplus(kept, spare)


def _surplus(enis: list[EniView], spare: int) -> Iterator[Action]:
    """Single addresses that are too many, from those ENIs that serve fewest."""
    for eni in enis:
        number = min(spare, len(eni.idle))
        if number > 0:
            yield Unassign(eni=eni.id, blocks=eni.idle[-number:])
            spare -= number
