from __future__ import annotations

from collections.abc import Sequence
from ipaddress import IPv4Address

import pytest
from attrs import define, evolve
from hypothesis import given, settings
from hypothesis import strategies as st

from eniplug.core.pool import AddressPool
from eniplug.hooks import (
    Action,
    AssignAddresses,
    AssignPrefixes,
    CapacityView,
    CreateEni,
    DeleteEni,
    Eni,
    EniView,
    Family,
    Ip,
    Kind,
    Lease,
    Pod,
    Targets,
    Unassign,
)
from eniplug.hooks.errors import PoolEmptyError
from eniplug.plugins.secondary_ip import SecondaryIp
from eniplug.testing.clock import HandClock

WARM_ENI = Targets(warm_eni=1)


def eni(
    name: str = "eni-0",
    *,
    assigned: int = 0,
    cooling: int = 0,
    idle: int = 0,
    slots: int = 0,
    age: float = 3600,
) -> EniView:
    """The primary ENI is eni-0."""
    base = IPv4Address(f"10.0.{name.removeprefix('eni-')}.0")
    return EniView(
        id=name,
        primary=name == "eni-0",
        assigned=assigned,
        cooling=cooling,
        idle=tuple(base + n for n in range(idle)),
        slots=slots,
        age=age,
    )


def plan(
    *enis: EniView,
    targets: Targets = WARM_ENI,
    unit: int = 9,
    new: int = 0,
    waiting: int = 0,
    max_pods: int = 110,
) -> tuple[Action, ...]:
    view = CapacityView(
        enis=enis,
        targets=targets,
        eni_slots=unit,
        new_enis=new,
        waiting=waiting,
        max_pods=max_pods,
    )
    return SecondaryIp().plan_capacity(view)


# -- a pod ---------------------------------------------------------------------------


class Desk:
    """A desk at a real pool."""

    def __init__(self, *addresses: str) -> None:
        eni = Eni(id="eni-0", link="ens5", mac="02:00:00:00:00:01", device=0)
        self.pool = AddressPool(30, HandClock())
        self.pool.add_eni(eni, slots=9)
        self.pool.add("eni-0", [IPv4Address(a) for a in addresses])

    def take(
        self,
        family: Family = 4,
        *,
        address: Ip | None = None,
        eni: str | None = None,
        prefer: Kind | None = None,
        kept: str | None = None,
    ) -> Lease:
        return self.pool.take(
            family, address=address, eni=eni, prefer=prefer, kept=kept
        )

    def take_pair(self, *, prefer: Kind | None = None) -> tuple[Lease, Lease]:
        return self.pool.take_pair(prefer=prefer)

    def take_each_card(self, *, prefer: Kind | None = None) -> tuple[Lease, ...]:
        return self.pool.take_each((0, 1), prefer=prefer)

    def held(self, **match: str) -> int:
        return len(match)


POD = Pod(container_id="c1", ifname="eth0", network="vpc", namespace="a", name="b")


def test_a_pod_gets_one_address() -> None:
    desk = Desk("10.0.0.10", "10.0.0.11")

    allocation = SecondaryIp().allocate_ip(POD, desk)

    (nic,) = allocation.nics
    assert [str(address) for address in nic.addresses] == ["10.0.0.10/32"]
    assert nic.eni == desk.pool.eni("eni-0")
    assert desk.pool.counts().assigned == 1


def test_an_empty_pool_passes() -> None:
    with pytest.raises(PoolEmptyError):
        SecondaryIp().allocate_ip(POD, Desk())


# -- whole ENIs: WARM_ENI_TARGET -----------------------------------------------------


def test_t3_small_fills_its_primary_eni_at_start() -> None:
    assert plan(eni(slots=3), unit=3, new=2) == (AssignAddresses(eni="eni-0", count=3),)
    assert plan(eni(idle=3), unit=3, new=2) == ()


def test_t3_smalls_first_pod_brings_a_second_eni() -> None:
    assert plan(eni(assigned=1, idle=2), unit=3, new=2) == (CreateEni(addresses=3),)
    assert plan(eni(assigned=1, idle=2), eni("eni-1", idle=3), unit=3, new=1) == ()


def test_c5_large_has_two_enis_from_the_1st_pod_and_three_from_the_10th() -> None:
    one, full = eni(assigned=1, idle=8), eni(assigned=9)
    second = eni("eni-1", idle=9)

    assert plan(eni(idle=9), new=2) == ()
    assert plan(one, new=2) == (CreateEni(addresses=9),)
    assert plan(full, second, new=1) == ()
    assert plan(full, eni("eni-1", assigned=1, idle=8), new=1) == (
        CreateEni(addresses=9),
    )


def test_c5_large_gives_an_eni_back_from_18_free_addresses() -> None:
    second, third = eni("eni-1", idle=9), eni("eni-2", idle=9)

    assert plan(eni(assigned=1, idle=8), second) == ()
    assert plan(eni(assigned=0, idle=9), second) == (DeleteEni(eni="eni-1"),)
    assert plan(eni(assigned=9), second, third) == (DeleteEni(eni="eni-2"),)


def test_no_warm_eni_still_keeps_one_address() -> None:
    none = Targets(warm_eni=0)

    assert plan(eni(assigned=8, idle=1), targets=none, new=2) == ()
    assert plan(eni(assigned=9), targets=none, new=2) == (CreateEni(addresses=9),)
    assert plan(eni(assigned=9), eni("eni-1", idle=9), targets=none) == ()


def test_slots_of_the_fullest_eni_come_before_a_new_eni() -> None:
    actions = plan(
        eni(assigned=2, slots=4),
        eni("eni-1", assigned=3, slots=2),
        targets=Targets(warm_eni=1),
        new=1,
    )

    assert actions == (
        AssignAddresses(eni="eni-1", count=2),
        AssignAddresses(eni="eni-0", count=4),
        CreateEni(addresses=9),
    )


def test_nothing_more_is_had_at_the_instances_limits() -> None:
    assert plan(eni(assigned=9), eni("eni-1", assigned=9), new=0) == ()
    assert plan(eni(assigned=1), unit=0, new=1, waiting=1) == ()


@pytest.mark.parametrize("targets", [WARM_ENI, Targets(warm_ip=5)])
def test_nothing_more_is_had_when_the_node_has_enough_for_all_its_pods(
    targets: Targets,
) -> None:
    full = eni(assigned=9)

    assert plan(full, targets=targets, new=1, waiting=1, max_pods=9) == ()
    assert plan(full, targets=targets, new=1, waiting=1, max_pods=10) != ()


# -- single addresses: WARM_IP_TARGET, MINIMUM_IP_TARGET -----------------------------


def test_counted_targets_fetch_just_what_is_short() -> None:
    targets = Targets(warm_ip=3)

    assert plan(eni(assigned=2, idle=1, slots=6), targets=targets, new=2) == (
        AssignAddresses(eni="eni-0", count=2),
    )
    assert plan(eni(assigned=8, slots=1), targets=targets, new=2) == (
        AssignAddresses(eni="eni-0", count=1),
        CreateEni(addresses=2),
    )


def test_the_minimum_counts_all_addresses() -> None:
    targets = Targets(warm_ip=1, minimum_ip=12)

    assert plan(eni(slots=9), targets=targets, new=2) == (
        AssignAddresses(eni="eni-0", count=9),
        CreateEni(addresses=3),
    )
    assert plan(eni(idle=9), eni("eni-1", idle=3, slots=6), targets=targets) == ()


def test_a_surplus_goes_back_from_the_eni_that_serves_fewest() -> None:
    actions = plan(
        eni(assigned=1, idle=4),
        eni("eni-1", assigned=3, idle=6),
        eni("eni-2", assigned=1, idle=2),
        targets=Targets(warm_ip=5),
    )

    assert actions == (
        Unassign(eni="eni-2", blocks=eni("eni-2", idle=2).idle),
        Unassign(eni="eni-1", blocks=eni("eni-1", idle=6).idle[1:]),
    )


def test_a_surplus_stays_when_the_minimum_wants_it() -> None:
    targets = Targets(warm_ip=1, minimum_ip=6)

    assert plan(eni(assigned=1, idle=6), targets=targets) == (
        Unassign(eni="eni-0", blocks=eni(idle=6).idle[5:]),
    )


def test_a_whole_eni_goes_before_single_addresses() -> None:
    actions = plan(
        eni(assigned=8, idle=1),
        eni("eni-1", assigned=1, idle=8),
        eni("eni-2", idle=9),
        targets=Targets(warm_ip=2),
    )

    assert actions == (
        DeleteEni(eni="eni-2"),
        Unassign(eni="eni-1", blocks=eni("eni-1", idle=8).idle[1:]),
    )


# -- who waits, who cools ------------------------------------------------------------


@pytest.mark.parametrize(
    ("targets", "count"),
    [(WARM_ENI, 9), (Targets(warm_ip=2), 4), (Targets(minimum_ip=1), 2)],
)
def test_pods_that_wait_are_demand(targets: Targets, count: int) -> None:
    assert plan(eni(assigned=3, slots=9), targets=targets, waiting=2) == (
        AssignAddresses(eni="eni-0", count=count),
    )


def test_many_pods_that_wait_bring_several_enis_in_one_plan() -> None:
    assert plan(eni(idle=0, assigned=9), new=2, waiting=12) == (
        CreateEni(addresses=9),
        CreateEni(addresses=9),
    )


def test_cooling_addresses_are_not_available() -> None:
    warm = Targets(warm_ip=2)

    assert plan(eni(assigned=1, cooling=3, slots=5), targets=warm) == (
        AssignAddresses(eni="eni-0", count=2),
    )


@pytest.mark.parametrize(
    "second",
    [
        eni("eni-1", assigned=1, idle=8),
        eni("eni-1", cooling=1, idle=8),
        eni("eni-1", idle=9, age=60),
    ],
    ids=["serves", "cools", "young"],
)
def test_an_eni_stays_while_it_serves_cools_or_is_new(second: EniView) -> None:
    assert plan(eni(idle=9), second, eni("eni-2", assigned=9, idle=9)) == ()


def test_no_eni_goes_while_pods_wait_for_its_addresses() -> None:
    second = eni("eni-1", idle=9)

    assert plan(eni(idle=9), second, waiting=1) == ()


# -- for all nodes -------------------------------------------------------------------


@define
class Model:
    """EC2 and a pool, just enough to carry actions out."""

    view: CapacityView
    unit: int

    def apply(self, actions: Sequence[Action]) -> None:
        for action in actions:
            if isinstance(action, CreateEni):
                self.create(action)
                continue
            (one,) = (e for e in self.view.enis if e.id == action.eni)
            if isinstance(action, DeleteEni):
                self.delete(one)
            else:
                assert not isinstance(action, AssignPrefixes)
                self.change(one, action)

    def create(self, action: CreateEni) -> None:
        assert 0 < action.addresses <= self.unit
        assert self.view.new_enis > 0
        name = f"eni-{max(int(e.id[4:]) for e in self.view.enis) + 1}"
        new = eni(
            name, idle=action.addresses, slots=self.unit - action.addresses, age=0
        )
        view = self.view
        self.view = evolve(view, enis=(*view.enis, new), new_enis=view.new_enis - 1)

    def delete(self, one: EniView) -> None:
        assert not one.primary
        assert not one.assigned
        assert not one.cooling
        enis = tuple(e for e in self.view.enis if e is not one)
        self.view = evolve(self.view, enis=enis, new_enis=self.view.new_enis + 1)

    def change(self, one: EniView, action: AssignAddresses | Unassign) -> None:
        if isinstance(action, AssignAddresses):
            assert 0 < action.count <= one.slots
            net = IPv4Address(f"10.1.{one.id[4:]}.0")
            new = tuple(net + one.total + n for n in range(action.count))
            after = evolve(one, idle=one.idle + new, slots=one.slots - action.count)
        else:
            assert action.blocks
            assert set(action.blocks) <= set(one.idle)
            kept = tuple(a for a in one.idle if a not in action.blocks)
            slots = one.slots + len(action.blocks)
            after = evolve(one, idle=kept, slots=slots)
        enis = tuple(after if e is one else e for e in self.view.enis)
        self.view = evolve(self.view, enis=enis)

    @property
    def free(self) -> int:
        return sum(len(e.idle) for e in self.view.enis) - self.view.waiting


@st.composite
def models(draw: st.DrawFn) -> Model:
    unit = draw(st.integers(1, 14))
    enis: list[EniView] = []
    for number in range(draw(st.integers(1, 4))):
        total = draw(st.integers(0, unit))
        assigned = draw(st.integers(0, total))
        cooling = draw(st.integers(0, total - assigned))
        enis.append(
            eni(
                f"eni-{number}",
                assigned=assigned,
                cooling=cooling,
                idle=total - assigned - cooling,
                slots=unit - total,
                age=draw(st.sampled_from([0.0, 61.0])),
            )
        )
    view = CapacityView(
        enis=tuple(enis),
        targets=Targets(
            warm_eni=draw(st.integers(0, 3)),
            warm_ip=draw(st.integers(0, 20)),
            minimum_ip=draw(st.integers(0, 30)),
        ),
        eni_slots=unit,
        new_enis=draw(st.integers(0, 3)),
        waiting=draw(st.sampled_from([0, 0, 1, 5, 40])),
        max_pods=draw(st.integers(1, 120)),
    )
    return Model(view=view, unit=unit)


def grows(actions: Sequence[Action]) -> bool:
    return any(isinstance(a, AssignAddresses | CreateEni) for a in actions)


@settings(deadline=None)
@given(models())
def test_plans_keep_the_limits_settle_and_do_not_flap(model: Model) -> None:
    plugin = SecondaryIp()
    shrunk = False
    for _ in range(3):
        actions = plugin.plan_capacity(model.view)
        assert not (shrunk and grows(actions)), "gave back and fetched again"
        shrunk = shrunk or (bool(actions) and not grows(actions))
        model.apply(actions)

    assert plugin.plan_capacity(model.view) == ()


@settings(deadline=None)
@given(models())
def test_a_shrinking_plan_is_whole(model: Model) -> None:
    actions = SecondaryIp().plan_capacity(model.view)
    if grows(actions):
        return

    model.apply(actions)

    assert SecondaryIp().plan_capacity(model.view) == ()


@settings(deadline=None)
@given(models())
def test_the_targets_are_met_unless_a_limit_forbids_it(model: Model) -> None:
    for _ in range(3):
        model.apply(SecondaryIp().plan_capacity(model.view))

    view, targets = model.view, model.view.targets
    total = sum(e.total for e in view.enis)
    limited = view.new_enis == 0 and not any(e.slots for e in view.enis)
    if limited or total >= view.max_pods:
        return
    assert model.free >= 0
    if targets.warm_ip or targets.minimum_ip:
        assert model.free >= targets.warm_ip
        assert total >= targets.minimum_ip
    else:
        assert model.free >= max(targets.warm_eni * model.unit, 1)


@settings(deadline=None)
@given(models(), st.data())
def test_each_action_alone_is_allowed(model: Model, data: st.DataObject) -> None:
    """The worker carries out one action and then looks again."""
    for _ in range(30):
        actions = SecondaryIp().plan_capacity(model.view)
        if not actions:
            return
        model.apply([data.draw(st.sampled_from(actions))])
    pytest.fail("no end")
