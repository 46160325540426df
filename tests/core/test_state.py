from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from attrs import define, evolve

from eniplug.core.parts import AttachmentKey, Life, Part
from eniplug.core.pool import AddressPool
from eniplug.core.state import Desk, State
from eniplug.hooks import Claim, Keep, LinkState, StaleFlows
from eniplug.hooks.errors import (
    ConflictError,
    CoolingError,
    EniLimitError,
    PluginError,
    PoolEmptyError,
    TakenError,
)
from eniplug.testing.builders import ADDRESSES, PRIMARY, SECOND, a_pod
from kit.parts import a_part
from kit.stores import Stores, stores


@define
class World:
    stores: Stores
    now: float = 1000.0
    wakes: int = 0

    def state(self, addresses: int = 3) -> State:
        pool = AddressPool(30.0, lambda: self.now)
        state = State(self.stores.open(), pool, self.wake, lambda: self.now)
        state.add_eni(PRIMARY, (9, 0), ADDRESSES[:addresses])
        return state

    def wake(self) -> None:
        self.wakes += 1


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with stores(tmp_path) as made:
        yield World(made)


def attach(state: State, number: int) -> object:
    lease = Desk(state, None).take()
    pod = a_pod(number, slot=state.open_slot())
    return state.live(state.begin(a_part(pod, lease)), {"ips": []})


def test_a_restart_finds_pods_addresses_and_slots(world: World) -> None:
    before = world.state()
    attach(before, 0)
    attach(before, 1)

    after = world.state()

    assert after.parts() == before.parts()
    assert after.counts().assigned == 2
    assert after.open_slot() == 2


def test_the_store_catches_up_with_what_is_live_and_not_with_what_goes(
    world: World,
) -> None:
    state = world.state()
    parts = []
    for number in range(2):
        pod = a_pod(number, slot=state.open_slot())
        parts.append(state.begin(a_part(pod, Desk(state, None).take())))
    alive = [state.made(part) for part in parts]

    assert {part.life for part in alive} == {Life.LIVE}
    assert {part.life for part in world.state().parts()} == {Life.PENDING}
    state.dying(alive[1])
    state.catch_up()
    kept = [part.life for part in world.state().parts()]
    assert kept == [Life.LIVE, Life.DYING]


def test_an_address_of_a_running_pod_stays_its_own_although_ec2_lists_fewer(
    world: World,
) -> None:
    attach(world.state(), 0)

    after = world.state(addresses=0)

    assert after.counts().assigned == 1
    with pytest.raises(PoolEmptyError):
        Desk(after, None).take()


def test_cooling_goes_on_over_a_restart(world: World) -> None:
    before = world.state(addresses=1)
    attach(before, 0)
    (part,) = before.parts()
    before.gone(before.dying(part))
    world.now += 20

    after = world.state(addresses=1)

    with pytest.raises(PoolEmptyError):
        Desk(after, None).take()
    world.now += 11
    assert Desk(after, None).take().address == ADDRESSES[0]


def test_an_address_that_comes_late_after_a_restart_still_cools(world: World) -> None:
    before = world.state(addresses=1)
    attach(before, 0)
    (part,) = before.parts()
    before.gone(before.dying(part))

    after = world.state(addresses=0)
    after.supply(PRIMARY.id, ADDRESSES[:1])

    assert after.counts().cooling == 1
    with pytest.raises(PoolEmptyError):
        Desk(after, None).take()


def test_slots_are_the_smallest_free_ones(world: World) -> None:
    state = world.state()
    for number in range(3):
        attach(state, number)
    middle = state.parts()[1]

    state.gone(middle)

    assert state.open_slot() == 1
    assert state.open_slot() == 3


def test_an_add_that_failed_leaves_nothing(world: World) -> None:
    state = world.state(addresses=1)
    lease = Desk(state, None).take()
    part = state.begin(a_part(a_pod(slot=state.open_slot()), lease))

    state.aborted(part)

    assert state.parts() == ()
    assert Desk(state, None).take() == lease
    assert state.open_slot() == 0


def test_two_pods_cannot_have_one_host_object(world: World) -> None:
    state = world.state()
    attach(state, 0)
    twin = a_pod(0, container_id="other")

    with pytest.raises(ConflictError, match="belongs to container c0"):
        state.begin(a_part(twin, Desk(state, None).take()))


def test_two_pods_may_have_one_port_on_different_addresses(world: World) -> None:
    state, flows = world.state(), StaleFlows(family=4, protocol="udp", port=53)
    for number in (0, 1):
        part = a_part(a_pod(number, slot=number), Desk(state, None).take())
        state.begin(evolve(part, objects=(*part.objects, flows)))

    assert [flows in part.objects for part in state.parts()] == [True, True]


def test_what_a_pod_claims_is_its_own_over_a_restart_and_until_it_is_gone(
    world: World,
) -> None:
    claim = Claim(what="host port 80/tcp")

    def claiming(state: State, number: int) -> Part:
        pod = a_pod(number, slot=state.open_slot())
        part = a_part(pod, Desk(state, None).take())
        return evolve(part, objects=(claim, *part.objects))

    before = world.state()
    before.live(before.begin(claiming(before, 0)), {})

    state = world.state()
    other = claiming(state, 1)
    with pytest.raises(TakenError, match="pod default/web-0"):
        state.begin(other)
    (part,) = state.parts()
    dying = state.dying(part)
    with pytest.raises(TakenError):
        state.begin(other)
    state.gone(dying)

    assert state.begin(other).objects[0] == claim


def test_what_was_foreign_is_not_ours_to_remove(world: World) -> None:
    state = world.state()
    part = state.begin(a_part(a_pod(), Desk(state, None).take()))
    foreign = next(o for o in part.objects if isinstance(o, LinkState))

    state.live(part, {}, [foreign])

    assert foreign not in world.state().parts()[0].objects


def test_nobody_overtakes_those_who_wait(world: World) -> None:
    state = world.state(addresses=1)
    lease = Desk(state, None).take()
    first = state.queue(AttachmentKey("first", "eth0"))
    second = state.queue(AttachmentKey("second", "eth0"))
    state.give_back(lease)

    with pytest.raises(PoolEmptyError):
        Desk(state, None).take()
    with pytest.raises(PoolEmptyError):
        Desk(state, second).take()
    assert first.turn.is_set()
    assert Desk(state, first).take() == lease


def test_the_next_is_woken_when_the_first_leaves(world: World) -> None:
    state = world.state(addresses=0)
    first = state.queue(AttachmentKey("first", "eth0"))
    second = state.queue(AttachmentKey("second", "eth0"))
    state.supply(PRIMARY.id, ADDRESSES[:2])
    Desk(state, first).take()
    assert not second.turn.is_set()

    state.leave(first)

    assert second.turn.is_set()
    assert Desk(state, second).take()


def test_a_delete_ends_the_waiting_of_its_own_add_only(world: World) -> None:
    state = world.state(addresses=0)
    mine = state.queue(AttachmentKey("mine", "eth0"))
    other = state.queue(AttachmentKey("other", "eth0"))

    state.cancel(mine.key, "the pod was deleted")

    assert mine.cancelled
    assert mine.turn.is_set()
    assert not other.cancelled


def test_a_warm_take_and_a_wait_wake_the_cloud(world: World) -> None:
    state = world.state()
    Desk(state, None).take()
    assert world.wakes == 1

    state.queue(AttachmentKey("c", "eth0"))

    assert world.wakes == 2


def test_new_addresses_lift_what_blocked(world: World) -> None:
    state = world.state()
    state.blocked(EniLimitError("full"))

    state.supply(PRIMARY.id, ADDRESSES[3:5])

    assert state.why_blocked() is None


def test_an_eni_in_use_is_not_taken_out(world: World) -> None:
    state = world.state()
    state.add_eni(SECOND, (9, 0), ADDRESSES[5:6])
    lease = Desk(state, None).take()
    mine = Desk(state, None).take(eni=SECOND.id)

    assert not state.remove_eni(SECOND.id)
    state.give_back(mine)
    assert state.remove_eni(SECOND.id)
    assert lease.eni == PRIMARY


def test_idle_addresses_are_not_given_back_while_somebody_waits(world: World) -> None:
    state = world.state()
    waiter = state.queue(AttachmentKey("c", "eth0"))

    assert state.withdraw(PRIMARY.id, ADDRESSES[:1]) == ()
    state.leave(waiter)
    assert state.withdraw(PRIMARY.id, ADDRESSES[:1]) == ADDRESSES[:1]


def test_an_enis_number_outlives_the_agent(world: World) -> None:
    state = world.state()

    assert state.mark_for("eni-2") == 2
    assert state.mark_for("eni-3") == 3
    state.drop_mark("eni-2")
    assert world.state().mark_for("eni-3") == 3
    assert world.state().mark_for("eni-4") == 2


def test_held_counts_by_the_pods_fields(world: World) -> None:
    state = world.state()
    attach(state, 0)
    attach(state, 1)

    desk = Desk(state, None)

    assert desk.held(namespace="default") == 2
    assert desk.held(name="web-1") == 1
    assert desk.held(namespace="other") == 0


def test_dying_is_committed(world: World) -> None:
    state = world.state()
    attach(state, 0)

    state.dying(state.parts()[0])

    (part,) = world.state().parts()
    assert part.life is Life.DYING
    assert part == evolve(state.parts()[0], life=Life.DYING)


def test_a_desk_gives_nothing_out_once_its_hook_was_given_up(world: World) -> None:
    state = world.state()
    desk = Desk(state, None)
    desk.take()
    desk.give_back()

    with pytest.raises(PluginError, match="allocate_ip had ended"):
        desk.take()

    assert state.counts().assigned == 0


def test_what_was_taken_and_is_not_used_goes_back(world: World) -> None:
    state = world.state()
    desk = Desk(state, None)
    desk.take()
    used = desk.take()

    desk.keep({used.address})

    assert state.counts().assigned == 1
    assert desk.taken == [used]


def test_what_a_pod_goes_without_outlives_a_restart(world: World) -> None:
    before = world.state()
    part = a_part(a_pod(slot=before.open_slot()), Desk(before, None).take())
    before.begin(evolve(part, skipped=("acme: plugin 'acme': egress raised",)))

    (found,) = world.state().parts()

    assert found.skipped == ("acme: plugin 'acme': egress raised",)


# -- kept for somebody -----------------------------------------------------------------


def test_a_kept_address_waits_for_who_asks_by_its_key(world: World) -> None:
    state = world.state()
    attach(state, 0)
    leave_and_keep(state, Keep(key="default/web", seconds=600.0))
    world.now += 599

    others = [Desk(state, None).take().address for _ in range(2)]

    assert ADDRESSES[0] not in others
    with pytest.raises(CoolingError):
        Desk(state, None).take(kept="default/other")
    assert Desk(state, None).take(kept="default/web").address == ADDRESSES[0]
    assert state.counts().cooling == 0


def test_a_kept_address_is_anybodys_in_the_end(world: World) -> None:
    state = world.state(addresses=1)
    attach(state, 0)
    leave_and_keep(state, Keep(key="default/web", seconds=600.0))
    world.now += 600

    lease = Desk(state, None).take()
    state.give_back(lease)

    assert lease.address == ADDRESSES[0]
    assert Desk(state, None).take(kept="default/web") == lease


def test_what_somebody_else_took_meanwhile_is_no_longer_kept(world: World) -> None:
    state = world.state(addresses=2)
    attach(state, 0)
    leave_and_keep(state, Keep(key="default/web", seconds=60.0))
    world.now += 61
    Desk(state, None).take(address=ADDRESSES[0])

    assert Desk(state, None).take(kept="default/web").address == ADDRESSES[1]


def test_an_address_rests_for_its_cooldown_however_short_it_is_kept(
    world: World,
) -> None:
    state = world.state(addresses=1)
    attach(state, 0)
    leave_and_keep(state, Keep(key="default/web", seconds=1.0))
    world.now += 29

    with pytest.raises(CoolingError):
        Desk(state, None).take()
    assert Desk(state, None).take(kept="default/web").address == ADDRESSES[0]


def test_a_restart_keeps_what_was_kept(world: World) -> None:
    before = world.state()
    attach(before, 0)
    leave_and_keep(before, Keep(key="default/web", seconds=600.0))
    world.now += 500

    after = world.state()

    assert after.counts().cooling == 1
    assert Desk(after, None).take(kept="default/web").address == ADDRESSES[0]


def leave_and_keep(state: State, wish: Keep) -> None:
    """The first pod goes, and its release_ip says this."""
    part = state.dying(state.parts()[0])
    state.gone(part)
    state.keep(part.addresses, wish)
