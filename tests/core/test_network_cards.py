"""ENABLE_MULTI_NIC: which cards serve, what is planned on each, who is given what."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest
from attrs import evolve, frozen

from eniplug.core.chain import Chain
from eniplug.core.discover import cards_of, discover
from eniplug.core.ec2 import EniFacts, Limits
from eniplug.core.host import AgentHost, Bounds, Card
from eniplug.core.kernel import Kernel, LinkInfo
from eniplug.core.kernel.survey import Survey
from eniplug.core.node import NodeScope
from eniplug.core.parts import AttachmentKey
from eniplug.core.pool import AddressPool
from eniplug.core.rebuild import parts_of
from eniplug.core.state import Desk, State
from eniplug.core.store import Store
from eniplug.hooks import (
    HOST,
    Action,
    AssignAddresses,
    AssignPrefixes,
    CapacityView,
    CreateEni,
    DeleteEni,
    Eni,
    Lease,
    Route,
    Targets,
    Unassign,
    Veth,
    hookimpl,
)
from eniplug.hooks.errors import CloudError, PoolEmptyError, UnsupportedError
from eniplug.hooks.values import EVERY_CARD, NIC_CONFIG, POD_GROUP
from eniplug.plugins.prefix_delegation import PrefixDelegation
from eniplug.plugins.secondary_ip import SecondaryIp
from eniplug.testing.builders import NODE, a_pod
from eniplug.testing.clock import HandClock
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata
from kit.benches import bench
from kit.chains import chain

TWO = Limits(max_enis=2, ipv4_per_eni=4, cards={0: 2, 1: 2})


def an_eni(number: int, card: int) -> Eni:
    """An ENI that may carry three addresses, number 1 the primary one."""
    return Eni(
        id=f"eni-{number}",
        link=f"ens{number}",
        mac=f"02:00:00:00:00:{number:02x}",
        device=number - 1,
        card=card,
        mark=number,
    )


def addresses(*numbers: int) -> tuple[IPv4Address, ...]:
    return tuple(IPv4Address(f"10.0.0.{number}") for number in numbers)


def a_pool(*held: tuple[Eni, tuple[IPv4Address, ...]]) -> AddressPool:
    pool = AddressPool(30, HandClock())
    for eni, blocks in held:
        pool.add_eni(eni, slots=3)
        pool.add(eni.id, blocks)
    return pool


FIRST, SECOND, THIRD = an_eni(1, 0), an_eni(2, 1), an_eni(3, 2)


# -- the pool --------------------------------------------------------------------------


def cards(leases: tuple[Lease, ...]) -> list[int]:
    return [lease.eni.card for lease in leases]


def test_a_card_serves_when_those_before_it_have_none() -> None:
    pool = a_pool((SECOND, addresses(20, 21)), (FIRST, addresses(10, 11)))
    pool.take(address=IPv4Address("10.0.0.20"))  # the fullest ENI is on card 1

    taken = [pool.take() for _ in range(3)]

    assert cards(tuple(taken)) == [0, 0, 1]
    with pytest.raises(PoolEmptyError):
        pool.take()


def test_one_of_each_card_comes_in_the_cards_order() -> None:
    pool = a_pool(
        (THIRD, addresses(30)), (FIRST, addresses(10)), (SECOND, addresses(20))
    )

    assert cards(pool.take_each((0, 1, 2))) == [0, 1, 2]


def test_one_of_each_card_is_all_or_none() -> None:
    pool = a_pool((FIRST, addresses(10)), (SECOND, ()), (THIRD, addresses(30)))

    with pytest.raises(PoolEmptyError, match="free on network card 1"):
        pool.take_each((0, 1, 2))

    assert pool.counts().assigned == 0
    # A card that is skipped is no reason to refuse.
    assert cards(pool.take_each((0, 2))) == [0, 2]


# -- the desk --------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> Iterator[Store]:
    store = Store(tmp_path / "state.db")
    yield store
    store.close()


def a_state(
    store: Store, pool: AddressPool, *, cards: tuple[int, ...] | None = (0, 1)
) -> State:
    return State(store, pool, lambda: None, cards=cards)


def test_what_a_desk_took_of_each_card_goes_back_with_the_add(store: Store) -> None:
    pool = a_pool((FIRST, addresses(10)), (SECOND, addresses(20)))
    desk = Desk(a_state(store, pool), None)
    desk.take_each_card()

    desk.give_back()

    assert pool.counts().idle == 2


@pytest.mark.parametrize("plugin", [SecondaryIp(), PrefixDelegation()])
def test_only_a_pod_that_asks_has_more_than_one_interface(
    store: Store, plugin: SecondaryIp | PrefixDelegation
) -> None:
    pool = a_pool((FIRST, addresses(10, 11)), (SECOND, addresses(20)))
    desk = Desk(a_state(store, pool), None)

    plain = plugin.allocate_ip(a_pod(), desk)
    wide = plugin.allocate_ip(a_pod(1, annotations={NIC_CONFIG: EVERY_CARD}), desk)

    assert [nic.ifname for nic in plain.nics] == ["eth0"]
    assert [nic.ifname for nic in wide.nics] == ["eth0", "mNicIf1"]
    assert [nic.eni for nic in wide.nics] == [FIRST, SECOND]


def test_a_pod_with_ipv6_cannot_ask_for_every_card(store: Store) -> None:
    desk = Desk(a_state(store, a_pool((FIRST, addresses(10)))), None)

    with pytest.raises(UnsupportedError, match="dual-stack"):
        PrefixDelegation(family="dual-stack").allocate_ip(
            a_pod(annotations={NIC_CONFIG: EVERY_CARD}), desk
        )


def test_a_node_without_the_feature_says_how_to_have_it(store: Store) -> None:
    desk = Desk(a_state(store, a_pool((FIRST, addresses(10))), cards=None), None)

    with pytest.raises(UnsupportedError) as caught:
        desk.take_each_card()

    assert "ENABLE_MULTI_NIC=true" in caught.value.details


# -- plans -----------------------------------------------------------------------------


def a_host(
    state: State,
    planner: Chain,
    *,
    most: int = 2,
    max_pods: Callable[[], int] = lambda: 100,
) -> AgentHost:
    """An agent's side whose node has the pool's ENIs and may have ``most`` per card."""
    kernel, node = Kernel(), evolve(NODE, enis=(FIRST, SECOND))
    return AgentHost(
        state=state,
        scope=NodeScope(node, (), kernel, state),
        kernel=kernel,
        chain=planner,
        targets=Targets(warm_ip=2),
        bounds=Bounds(
            instance_type="two.cards",
            cards=tuple(
                Card(index=index, max_enis=most, unmanaged=0) for index in (0, 1)
            ),
            places=(3, 0),
            max_pods=max_pods,
        ),
    )


SECONDARY = chain(secondary=SecondaryIp())


def test_each_card_is_planned_by_itself_and_other_cards_keep_one(store: Store) -> None:
    pool = a_pool((FIRST, addresses(10, 11)), (SECOND, ()))
    host = a_host(a_state(store, pool), SECONDARY)

    assert host.plan(host.views()) == [AssignAddresses(eni="eni-2", count=1)]

    pool.add("eni-2", addresses(20))
    assert host.plan(host.views()) == []


def test_the_number_of_pods_may_change_while_the_agent_runs(store: Store) -> None:
    pool = a_pool((FIRST, addresses(10)), (SECOND, addresses(20)))
    most = [100]
    host = a_host(a_state(store, pool), SECONDARY, max_pods=lambda: most[0])
    assert host.plan(host.views()) == [AssignAddresses(eni="eni-1", count=1)]

    most[0] = 1

    assert host.plan(host.views()) == []
    assert [view.max_pods for view in host.views()] == [1, 1]


@frozen(eq=False)
class MakesWay:
    """Card 0 has too much; on card 1 an address makes way for a prefix."""

    @hookimpl
    def plan_capacity(self, view: CapacityView) -> tuple[Action, ...]:
        return (GOES, COMES) if view.card else (WHOLE,)


WHOLE = DeleteEni(eni="eni-1")
GOES = Unassign(eni="eni-2", blocks=addresses(20))
COMES = AssignPrefixes(eni="eni-2", count=1)


def test_a_card_that_grows_comes_first_with_its_plan_in_order(store: Store) -> None:
    state = a_state(store, a_pool((FIRST, ()), (SECOND, ())))
    host = a_host(state, chain(way=MakesWay()))

    assert host.plan(host.views()) == [GOES, COMES, WHOLE]


def test_a_new_eni_is_for_the_card_that_lacks_addresses(store: Store) -> None:
    pool = a_pool((FIRST, addresses(10, 11)), (SECOND, addresses(20, 21, 22)))
    host = a_host(a_state(store, pool), SECONDARY)
    for number in (20, 21, 22):
        pool.take(address=IPv4Address(f"10.0.0.{number}"))

    assert host.plan(host.views()) == [CreateEni(addresses=1, card=1)]


def test_who_waits_for_every_card_is_demand_on_each(store: Store) -> None:
    pool = a_pool((FIRST, addresses(10, 11)), (SECOND, addresses(20)))
    state = a_state(store, pool)
    host = a_host(state, SECONDARY)
    state.queue(AttachmentKey("one", "eth0"))
    state.queue(AttachmentKey("two", "eth0"), every_card=True)

    first, second = host.views()

    assert (first.waiting, second.waiting) == (2, 1)
    assert host.plan((first, second)) == [
        AssignAddresses(eni="eni-1", count=1),
        CreateEni(addresses=1, card=0),
        AssignAddresses(eni="eni-2", count=1),
    ]


@pytest.fixture
def full(store: Store) -> tuple[AddressPool, State, AgentHost]:
    """A node that may have one ENI on each card, that on card 0 all assigned."""
    pool = a_pool((FIRST, addresses(10, 11, 12)), (SECOND, addresses(20)))
    state = a_state(store, pool)
    for _ in range(3):
        pool.take()
    return pool, state, a_host(state, SECONDARY, most=1)


def test_who_finds_card_0_full_is_demand_on_the_next(
    full: tuple[AddressPool, State, AgentHost],
) -> None:
    _, state, host = full
    for name in ("one", "two"):
        state.queue(AttachmentKey(name, "eth0"))

    assert host.plan(host.views()) == [AssignAddresses(eni="eni-2", count=2)]
    assert state.why_blocked() is None


def test_who_wants_every_card_is_told_which_one_is_full(
    full: tuple[AddressPool, State, AgentHost],
) -> None:
    pool, state, host = full
    pool.add("eni-2", addresses(21))
    waiter = state.queue(AttachmentKey("one", "eth0"), every_card=True)

    host.plan(host.views())

    why = state.why_blocked()
    assert why is not None
    assert why.reason == "eni-limit"
    state.leave(waiter)
    host.plan(host.views())
    assert state.why_blocked() is None


# -- the worker ------------------------------------------------------------------------


def test_an_eni_is_attached_to_the_card_that_it_is_for() -> None:
    one = bench(TWO)

    one.settle()

    (attached,) = one.cloud.named("attach")
    assert attached[2:] == (1, 1)
    (made,) = [eni for eni in one.cloud.all_enis.values() if eni.card == 1]
    adopted = one.node.pool.eni(made.id)
    assert adopted is not None
    assert (adopted.card, adopted.table) == (1, 10101)
    assert one.node.pool.counts(card=1).total == 1


def test_cards_grow_and_give_back_each_by_itself() -> None:
    one = bench(TWO, WARM_IP_TARGET="1")
    one.settle()
    pool = one.node.pool
    held = [pool.take_each((0, 1))[1].address]
    for _ in range(3):
        one.settle()
        held.append(pool.take_each((0, 1))[1].address)
    one.settle()
    both = sorted((eni.card, eni.device) for eni in one.cloud.all_enis.values())
    assert both == [(0, 0), (0, 1), (1, 1), (1, 2)]

    for address in held:
        pool.release(address, cooldown=0)
    one.pass_time(300)

    assert sorted(eni.card for eni in one.cloud.all_enis.values()) == [0, 0, 1]
    assert pool.counts(4, card=1).total == 1


# -- which cards serve -----------------------------------------------------------------


def facts(device: int, card: int, kind: str = "interface") -> EniFacts:
    cloud = MemoryCloud()
    (primary,) = cloud.enis(cloud.instance_id)
    return evolve(
        primary, id=f"eni-{card}-{device}", device=device, card=card, kind=kind
    )


@pytest.mark.parametrize(
    ("managed", "unmanaged", "expected"),
    [
        ([facts(0, 0)], [], (0, 1, 2)),
        ([facts(0, 0)], [facts(1, 1, "efa-only")], (0, 2)),
        ([facts(0, 0), facts(2, 1)], [facts(1, 1, "efa-only")], (0, 1, 2)),
        ([facts(0, 0)], [facts(1, 0, "efa-only")], (0, 1, 2)),
        ([facts(0, 0)], [facts(1, 2)], (0, 1, 2)),
    ],
)
def test_a_card_given_to_efa_alone_serves_no_pod(
    managed: list[EniFacts], unmanaged: list[EniFacts], expected: tuple[int, ...]
) -> None:
    limits = Limits(max_enis=2, ipv4_per_eni=4, cards={0: 2, 1: 2, 2: 2})

    assert cards_of(limits, managed, unmanaged) == expected


def on_two_cards() -> MemoryCloud:
    """A cloud whose instance has an ENI on each of two cards."""
    cloud = MemoryCloud(instance_limits=TWO)
    made = cloud.create_eni(
        "subnet-1", (), CreateEni(addresses=1), token="t", description="", tags={}
    )
    cloud.attach(made.id, cloud.instance_id, 1, 1)
    return cloud


@pytest.mark.parametrize(
    ("multi_nic", "managed", "serving", "lost"),
    [(False, [0], (0,), 1), (True, [0, 1], (0, 1), 0)],
)
def test_without_the_feature_other_cards_are_left_alone(
    *, multi_nic: bool, managed: list[int], serving: tuple[int, ...], lost: int
) -> None:
    cloud = on_two_cards()

    found, _ = discover(
        MemoryMetadata(cloud=cloud), lambda _: cloud, multi_nic=multi_nic
    )

    assert [eni.card for eni in found.managed] == managed
    assert found.cards == serving
    assert found.places_lost(0) == 0
    assert found.places_lost(1) == lost


def test_a_start_without_ec2_heeds_that_the_feature_was_turned_off() -> None:
    cloud = on_two_cards()
    metadata = MemoryMetadata(cloud=cloud)
    before, _ = discover(metadata, lambda _: cloud, multi_nic=True)
    cloud.fail("limits", CloudError("away"))

    found, _ = discover(metadata, lambda _: cloud, recorded=before)

    assert not found.fresh
    assert [eni.card for eni in found.managed] == [0]
    assert (found.cards, found.places_lost(1)) == ((0,), 1)


# -- a lost store ----------------------------------------------------------------------


def test_a_pod_with_several_interfaces_is_found_again_whole() -> None:
    names = {"enibbb": addresses(20), "eniaaa": addresses(30), "eniccc": addresses(10)}
    alias = "eniplug/1 c1 eth0 vpc 7"
    links = {
        name: LinkInfo(
            index=number,
            name=name,
            mac=f"02:00:00:00:01:{number:02x}",
            up=True,
            mtu=9001,
            group=POD_GROUP + 1,
            alias=alias,
        )
        for number, name in enumerate(names, 1)
    }
    routes = {
        name: (Route(destination=ip_network(own), link=name, table=512, side=HOST),)
        for name, (own,) in names.items()
    }
    cards = {"10.0.0.10": FIRST, "10.0.0.20": SECOND, "10.0.0.30": THIRD}

    (part,) = parts_of(links, Survey(routes, ()), lambda ip: cards[str(ip)])

    nics = part.allocation.nics
    assert [nic.host_ifname for nic in nics] == ["eniccc", "enibbb", "eniaaa"]
    assert [nic.ifname for nic in nics] == ["eth0", "mNicIf1", "mNicIf2"]
    assert part.addresses == addresses(10, 20, 30)
    assert part.alias == alias
    assert {one.name for one in part.objects if isinstance(one, Veth)} == set(names)
