"""Give each pod an address of a prefix: /28 for IPv4, /80 for IPv6.

A prefix takes one place of an ENI and serves sixteen pods, by one call.  The node keeps
prefixes ready by the targets that AWS documents (WARM_PREFIX_TARGET, or WARM_IP_TARGET
and MINIMUM_IP_TARGET in whole prefixes).  Where a subnet has no free /28 left, single
addresses serve instead; as soon as there are prefixes again, those drain and go, one by
one if a full node needs their places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final, Literal

from attrs import evolve, frozen

from eniplug.hooks import (
    Action,
    Allocation,
    AssignAddresses,
    AssignPrefixes,
    CapacityView,
    CreateEni,
    EniView,
    Pod,
    Pool,
    Unassign,
    hookimpl,
)
from eniplug.hooks.errors import UnsupportedError
from eniplug.hooks.values import NIC_CONFIG
from eniplug.plugins._capacity import (
    emptiest_first,
    fullest_first,
    shortage,
    surplus,
    whole_enis,
)
from eniplug.plugins._nics import interfaces

SIZE: Final = 16
"""Addresses of a /28."""


@frozen(eq=False, kw_only=True)
class PrefixDelegation:
    """Addresses out of prefixes that EC2 delegates to ENIs."""

    family: Literal["ipv4", "ipv6", "dual-stack"] = "ipv4"
    """What a pod has: one address of IPv4, of IPv6, or of each."""

    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation:
        """Give the pod its addresses, out of prefixes as long as there are some.

        Raises UnsupportedError when a pod with IPv6 asks for every network card.
        """
        if pod.wants_every_card and self.family != "ipv4":
            msg = f"{NIC_CONFIG}: pods of {self.family} have one interface"
            raise UnsupportedError(msg, "take the pod's annotation away")
        match self.family:
            case "ipv4":
                return interfaces(pod, pool, prefer="prefix")
            case "ipv6":
                return Allocation.of(pod, pool.take(6, prefer="prefix"))
            case "dual-stack":
                return Allocation.of(pod, *pool.take_pair(prefer="prefix"))

    @hookimpl
    def plan_capacity(self, view: CapacityView) -> tuple[Action, ...]:
        """Fetch what the targets lack, or give back what they do not need."""
        if self.family == "ipv6":
            return tuple(_one_wide_prefix(view.enis[:1]))
        wide: tuple[Action, ...] = ()
        if self.family == "dual-stack":
            wide = tuple(_one_wide_prefix(view.enis))
        return wide + _plan(view, wide6=self.family == "dual-stack")


def _one_wide_prefix(enis: tuple[EniView, ...]) -> Iterator[Action]:
    """See to one /80 on each ENI that serves pods: it never runs out."""
    for eni in enis:
        if eni.slots6 and not eni.prefixes_of(6):
            yield AssignPrefixes(eni=eni.id, count=1, family=6)


def _plan(view: CapacityView, *, wide6: bool) -> tuple[Action, ...]:
    if shortage(view, _warm(view)) > 0:
        return tuple(_grow(view, wide6=wide6))
    return tuple(_shrink(view))


# -- targets ---------------------------------------------------------------------------


def _warm(view: CapacityView) -> int:
    """Addresses that should be available."""
    if view.targets.counted:
        return view.targets.warm_ip
    # A warm target of no prefix still keeps one address: at none, more are fetched.
    return view.targets.warm_prefix * SIZE or 1


def _spare(view: CapacityView) -> int:
    """Addresses that could go without missing a target.

    By whole prefixes nothing is missed while as many are wholly free as the target
    says; what is free in those that are begun does not count (AWS's rule).
    """
    if view.targets.counted:
        return surplus(view, _warm(view))
    whole = sum(one.unused for eni in view.enis for one in eni.prefixes_of(4))
    spare = SIZE * (whole - max(view.targets.warm_prefix, 1))
    singles = sum(len(eni.idle) for eni in view.enis)
    return max(min(spare + singles, surplus(view, _warm(view))), 0)


def _in_prefixes(addresses: int) -> int:
    return -(-addresses // SIZE)


# -- growing ---------------------------------------------------------------------------


def _grow(view: CapacityView, *, wide6: bool) -> Iterator[Action]:
    """Prefixes on the ENIs that are there, the fullest first, then on new ENIs.

    Where there is no free prefix, single addresses.
    """
    short, room = shortage(view, _warm(view)), view.max_pods - view.total
    for eni in fullest_first(view):
        if short <= 0 or room <= 0:
            return
        if not eni.slots or "address" in eni.lacks:
            continue
        if "prefix" in eni.lacks:
            number = min(eni.slots, short, room)
            yield AssignAddresses(eni=eni.id, count=number)
        else:
            count = min(eni.slots, _in_prefixes(min(short, room)))
            yield AssignPrefixes(eni=eni.id, count=count)
            number = count * SIZE
        short, room = short - number, room - number
    can = view.eni_slots > 0 and "address" not in view.lacks
    for _ in range(view.new_enis if can else 0):
        if short <= 0 or room <= 0:
            return
        if "prefix" in view.lacks:
            number = min(view.eni_slots, short, room)
            yield CreateEni(addresses=number, prefixes6=int(wide6))
        else:
            count = min(view.eni_slots, _in_prefixes(min(short, room)))
            yield CreateEni(prefixes=count, prefixes6=int(wide6))
            number = count * SIZE
        short, room = short - number, room - number
    if short > 0 and room > 0:
        yield from _make_way(view)


def _make_way(view: CapacityView) -> Iterator[Action]:
    """Where all places are taken, put a prefix in that of a single address.

    One at a time: if the subnet proves to have no prefix, one address is lost to it.
    """
    for eni in fullest_first(view):
        if eni.idle and not eni.slots and not eni.lacks:
            yield Unassign(eni=eni.id, blocks=eni.idle[-1:])
            yield AssignPrefixes(eni=eni.id, count=1)
            return


# -- giving back -----------------------------------------------------------------------


def _shrink(view: CapacityView) -> Iterator[Action]:
    """Give back single addresses, then whole ENIs, then unused prefixes."""
    spare = _spare(view)
    for eni in emptiest_first(view):
        number = min(spare, len(eni.idle))
        if number > 0:
            yield Unassign(eni=eni.id, blocks=eni.idle[-number:])
            spare -= number
            view = _without(view, eni, number)
    for action in whole_enis(view, spare):
        yield action
        gone = next(eni for eni in view.enis if eni.id == action.eni)
        spare -= gone.free
        view = evolve(view, enis=tuple(eni for eni in view.enis if eni is not gone))
    for eni in emptiest_first(view):
        unused = [one.prefix for one in eni.prefixes_of(4) if one.unused]
        count = min(spare // SIZE, len(unused))
        if count > 0:
            yield Unassign(eni=eni.id, blocks=tuple(unused[-count:]))
            spare -= count * SIZE


def _without(view: CapacityView, eni: EniView, number: int) -> CapacityView:
    """The view once an ENI's last idle addresses are gone."""
    less = evolve(eni, idle=eni.idle[:-number])
    return evolve(view, enis=tuple(less if e is eni else e for e in view.enis))
