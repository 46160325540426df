"""Public addresses: what pods declare, and what becomes of it in EC2."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from attrs import define, evolve, field

from eniplug.core.calls import Calls
from eniplug.core.ec2 import CLUSTER_TAG, INSTANCE_TAG, ElasticIpFacts
from eniplug.core.elastic_ips import (
    ASK_EVERY,
    POD_TAG,
    SHOWN_AFTER,
    ElasticIps,
    release_all,
)
from eniplug.core.leftovers import CREATED_TAG, STAMP
from eniplug.core.owner import Owner
from eniplug.core.pace import Pace
from eniplug.core.parts import Part
from eniplug.core.pool import AddressPool
from eniplug.core.public import SUBJECT_TAG, Subject, Told
from eniplug.core.state import ELASTIC_IPS, State
from eniplug.hooks import ElasticIp, Lease
from eniplug.hooks.errors import (
    CloudAwayError,
    CloudError,
    CloudSlowError,
    DeniedError,
    EniplugError,
    RetryError,
    ThrottledError,
)
from eniplug.testing.builders import PRIMARY, a_pod
from eniplug.testing.clock import HandClock
from eniplug.testing.cloud import MemoryCloud
from kit.benches import C5_LARGE, Bench, bench
from kit.parts import a_part
from kit.stores import Stores, stores

BORN = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
CLUSTER = "blue"


@define(eq=False)
class Node:
    """A node of which pods declare public addresses; a test makes each step."""

    stores: Stores
    cluster: str = CLUSTER
    cloud: MemoryCloud = field(factory=MemoryCloud)
    clock: HandClock = field(factory=HandClock)
    woken: int = 0
    state: State = field(init=False)
    seer: ElasticIps = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Have five secondary addresses."""
        self.cloud.instance_limits = evolve(self.cloud.instance_limits, ipv4_per_eni=9)
        self.cloud.assign(self.primary, 6)
        self.start()

    @property
    def primary(self) -> str:
        return self.cloud.enis(self.cloud.instance_id)[0].id

    def today(self) -> datetime:
        return BORN + timedelta(seconds=self.clock())

    def start(self, *, seek: bool | None = None) -> None:
        """Start anew on the same store."""
        store = self.stores.open()
        pool = AddressPool(30, self.clock)
        self.state = State(store, pool, self._wake, self.clock)
        pace = Pace(self.clock, jitter=lambda: 0.0)
        self.seer = ElasticIps(
            Calls(self.cloud, pace, NoJournal()),
            Owner(instance_id=self.cloud.instance_id, cluster=self.cluster, more=()),
            self.state,
            clock=self.clock,
            today=self.today,
            seek=store.fact(ELASTIC_IPS) is not None if seek is None else seek,
            others=True,
        )

    def _wake(self) -> None:
        self.woken += 1

    def begin(self, number: int, *, waited: bool = False, **fields: object) -> Part:
        """Let a pod's part be pending."""
        address = self.cloud.all_enis[self.primary].secondary[number]
        eni = evolve(PRIMARY, id=self.primary)
        part = a_part(a_pod(number, **fields), Lease(address=address, eni=eni))
        wish = ElasticIp(
            private=address, eni=self.primary, waited=waited, tags=(("team", "net"),)
        )
        return self.state.begin(evolve(part, objects=(*part.objects, wish)))

    def add(self, number: int, *, waited: bool = False) -> Part:
        """Let a pod's part be live."""
        return self.state.live(self.begin(number, waited=waited), {})

    def settle(self) -> list[str]:
        """Step while there is something to do; returns the calls that were made."""
        self.cloud.calls.clear()
        for _ in range(100):
            if not self.seer.step():
                return [str(call[0]) for call in self.cloud.calls]
        pytest.fail("it finds no rest")

    def told(self, part: Part) -> Told:
        return self.state.elastic_ips.told.get(subject_of(part), Told())

    def shown(self) -> set[IPv4Address | None]:
        """The private addresses of what EC2 has."""
        return {one.private for one in self.cloud.all_elastic_ips.values()}


def subject_of(part: Part) -> Subject:
    (wish,) = (one for one in part.objects if isinstance(one, ElasticIp))
    return Subject(part.key, wish.private)


class NoJournal:
    """Declarations are the intents."""

    def intend(self, token: str, what: str) -> None:
        raise AssertionError(token, what)

    def done(self, token: str) -> None:
        raise AssertionError(token)


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    with stores(tmp_path) as kept:
        yield Node(kept)


def test_a_node_without_public_addresses_asks_ec2_for_nothing(node: Node) -> None:
    assert node.settle() == []
    assert node.seer.due_in() == float("inf")


def test_a_pod_gets_its_public_address_once_it_is_live(node: Node) -> None:
    part = node.begin(0)
    assert node.settle() == []

    node.state.live(part, {})

    assert node.settle() == ["elastic_ips", "allocate_elastic_ip", "associate"]
    (one,) = node.cloud.all_elastic_ips.values()
    assert one.private == part.addresses[0]
    assert node.told(part) == Told(one.public)
    assert one.tags == {
        "team": "net",
        INSTANCE_TAG: node.cloud.instance_id,
        CLUSTER_TAG: CLUSTER,
        CREATED_TAG: node.today().strftime(STAMP),
        SUBJECT_TAG: f"c0 eth0 {one.private}",
        POD_TAG: "default/web-0",
    }


def test_one_that_is_waited_for_is_got_before_its_part_is_live(node: Node) -> None:
    node.add(0)
    part = node.begin(1, waited=True)

    node.seer.step()
    node.seer.step()

    (one,) = node.cloud.all_elastic_ips.values()
    assert Subject.of(one) == subject_of(part)


@pytest.mark.parametrize("how", ["gone", "aborted"])
def test_with_its_pod_a_public_address_goes(node: Node, how: str) -> None:
    part = node.add(0)
    node.settle()
    woken = node.woken

    getattr(node.state, how)(node.state.dying(part) if how == "gone" else part)

    assert node.woken > woken
    assert node.settle() == ["disassociate", "release"]
    assert node.cloud.all_elastic_ips == {}
    assert node.state.elastic_ips.counts() == {"there": 0, "lacking": 0, "leaving": 0}


def test_a_successor_at_the_same_private_address_has_one_of_its_own(
    node: Node,
) -> None:
    before = node.add(0)
    node.settle()
    (had,) = node.cloud.all_elastic_ips
    node.state.gone(before)

    after = node.state.live(node.begin(0, container_id="c9"), {})
    node.settle()

    (one,) = node.cloud.all_elastic_ips.values()
    assert one.id != had
    assert Subject.of(one) == subject_of(after)
    assert node.told(after) == Told(one.public)


@pytest.mark.parametrize("error", [CloudAwayError, CloudSlowError, ThrottledError])
def test_while_ec2_is_away_the_worker_is_told_and_nothing_is_lost(
    node: Node, error: type[EniplugError]
) -> None:
    part = node.add(0)
    node.cloud.fail("allocate_elastic_ip", error("away"))
    node.seer.step()

    with pytest.raises(error):
        node.seer.step()

    assert isinstance(node.told(part).trouble, error)
    node.settle()
    assert node.told(part).trouble is None
    assert node.shown() == {part.addresses[0]}


@pytest.mark.parametrize("call", ["allocate_elastic_ip", "associate"])
def test_an_answer_that_is_lost_makes_no_second_address(node: Node, call: str) -> None:
    part = node.add(0)
    node.cloud.lose(call, CloudSlowError("no answer"))

    with pytest.raises(CloudSlowError):
        node.settle()
    node.settle()

    assert node.shown() == {part.addresses[0]}
    assert len(node.cloud.all_elastic_ips) == 1


def test_what_ec2_shows_late_of_a_lost_answer_is_given_back(node: Node) -> None:
    node.add(0)
    node.cloud.lose("allocate_elastic_ip", CloudSlowError("no answer"))
    with pytest.raises(CloudSlowError):
        node.settle()
    ((late, one),) = node.cloud.all_elastic_ips.items()
    del node.cloud.all_elastic_ips[late]
    node.settle()
    node.cloud.all_elastic_ips[late] = one

    node.clock.advance(SHOWN_AFTER)
    calls = node.settle()

    assert calls == ["elastic_ips", "release"]
    assert late not in node.cloud.all_elastic_ips
    assert len(node.cloud.all_elastic_ips) == 1


@pytest.mark.parametrize("call", ["disassociate", "release"])
def test_what_ec2_will_not_take_back_is_offered_again(node: Node, call: str) -> None:
    part = node.add(0)
    node.settle()
    node.cloud.fail(call, *[RetryError("in use")] * 3)
    node.state.gone(part)
    node.settle()
    assert node.state.elastic_ips.counts()["leaving"] == 1
    assert node.seer.due_in() == 1

    node.clock.advance(1)
    node.settle()
    assert node.seer.due_in() == 2
    node.clock.advance(2)
    node.settle()
    node.clock.advance(4)
    node.settle()

    assert node.cloud.all_elastic_ips == {}


def test_at_the_limit_all_who_lack_one_are_told_and_wait_for_one_that_goes(
    node: Node,
) -> None:
    parts = [node.add(number) for number in range(6)]

    node.settle()

    lacking = [part for part in parts if node.told(part).public is None]
    assert len(lacking) == 1
    trouble = node.told(lacking[0]).trouble
    assert trouble is not None
    assert trouble.reason == "elastic-ip-limit"
    (difference,) = node.state.elastic_ips.differences(lacking[0])
    assert "elastic-ip-limit" in str(difference.found)
    node.state.gone(parts[0])
    node.settle()
    assert node.told(lacking[0]).public is not None


def test_a_refused_call_is_not_made_for_each_pod(node: Node) -> None:
    node.cloud.elastic_ip_limit = 0
    for number in range(4):
        node.add(number)

    assert node.settle() == ["elastic_ips", "allocate_elastic_ip"]


def test_a_restart_takes_up_what_is_there_and_releases_the_rest(node: Node) -> None:
    kept, gone = node.add(0), node.add(1)
    node.settle()
    node.state.gone(gone)

    node.start()

    assert node.settle() == ["elastic_ips", "disassociate", "release"]
    assert node.told(kept).public is not None


def test_what_is_declared_and_lacking_is_made_at_the_start(node: Node) -> None:
    part = node.add(0)

    node.start()
    node.settle()

    assert node.told(part).public is not None


def test_without_the_store_running_pods_keep_theirs_and_the_rest_goes(
    node: Node, tmp_path: Path
) -> None:
    runs, gone = node.add(0), node.add(1)
    node.settle()
    node.stores = Stores(tmp_path / "new.db", node.stores.stack)
    node.start(seek=True)
    found = (one for one in runs.objects if not isinstance(one, ElasticIp))
    rebuilt = node.state.live(
        node.state.begin(evolve(runs, objects=tuple(found), id=0)), {}
    )

    node.settle()

    assert node.shown() == {runs.addresses[0]} != {gone.addresses[0]}
    node.state.gone(rebuilt)
    node.clock.advance(ASK_EVERY)
    node.settle()
    assert node.shown() == set()


def test_what_a_hand_has_taken_away_is_put_back(node: Node) -> None:
    part = node.add(0)
    node.settle()
    (one,) = node.cloud.all_elastic_ips.values()
    node.cloud.disassociate(str(one.association))

    node.clock.advance(ASK_EVERY)

    assert node.settle() == ["elastic_ips", "associate"]
    assert node.shown() == {part.addresses[0]}


def test_what_a_hand_has_moved_is_left_there_and_told(node: Node) -> None:
    part = node.add(0)
    node.settle()
    (one,) = node.cloud.all_elastic_ips.values()
    node.cloud.disassociate(str(one.association))
    address = node.cloud.all_enis[node.primary].address
    node.cloud.associate(one.id, node.primary, address)

    node.clock.advance(ASK_EVERY)
    node.settle()

    trouble = node.told(part).trouble
    assert trouble is not None
    assert "is associated" in trouble.message
    assert node.shown() == {address}


def test_what_ec2_does_not_show_yet_is_not_got_twice(node: Node) -> None:
    node.cloud.fail("associate", CloudError("not yet"))
    node.add(0)
    node.settle()
    node.cloud.lose("allocate_elastic_ip", CloudSlowError("no answer"))
    node.add(1)
    shown = dict(node.cloud.all_elastic_ips)
    with pytest.raises(CloudSlowError):
        node.settle()
    node.cloud.all_elastic_ips.clear()
    node.seer.step()
    node.cloud.all_elastic_ips.update(shown)

    node.clock.advance(1)
    node.settle()

    assert len(node.cloud.all_elastic_ips) == 2


@pytest.mark.parametrize("waited", [False, True])
def test_a_public_address_goes_before_its_pods_network_is_gone(
    node: Node, waited: bool
) -> None:
    part = node.add(0, waited=waited)
    node.settle()

    node.state.dying(part)

    assert node.settle() == ["disassociate", "release"]


def test_what_is_left_of_pods_that_are_gone_is_found_at_the_start(node: Node) -> None:
    part = node.add(0)
    node.settle()
    node.state.gone(part)

    node.start()

    assert node.settle() == ["elastic_ips", "disassociate", "release"]


def test_what_was_refused_to_a_pod_that_is_gone_is_not_tried_again(node: Node) -> None:
    node.cloud.elastic_ip_limit = 0
    part = node.add(0)
    node.settle()
    assert node.seer.due_in() == 1
    node.state.gone(part)

    assert node.settle() == []

    assert node.seer.due_in() == ASK_EVERY


def test_a_role_that_may_not_look_is_no_trouble_where_nobody_wants_one(
    node: Node,
) -> None:
    node.cloud.fail("elastic_ips", DeniedError("no"), DeniedError("no"))
    node.start(seek=True)

    assert node.settle() == ["elastic_ips"]
    assert node.seer.due_in() == float("inf")
    part = node.add(0)
    node.settle()
    assert isinstance(node.told(part).trouble, DeniedError)


def left(node: Node, age: float, **more: str) -> ElasticIpFacts:
    """Put an Elastic IP there that another node of the cluster has got."""
    stamp = (node.today() - timedelta(seconds=age)).strftime(STAMP)
    tags = {
        INSTANCE_TAG: "i-other",
        CLUSTER_TAG: CLUSTER,
        CREATED_TAG: stamp,
        SUBJECT_TAG: "c7 eth0 10.0.0.99",
    }
    return node.cloud.allocate_elastic_ip(tags | more)


def test_what_a_dead_node_has_left_is_released(node: Node) -> None:
    old = left(node, 600)
    young, used = left(node, 60), left(node, 600)
    node.cloud.associate(
        used.id, node.primary, node.cloud.all_enis[node.primary].address
    )
    other = left(node, 600, **{CLUSTER_TAG: "green"})
    persons = left(node, 600, **{SUBJECT_TAG: "by hand"})
    node.start(seek=True)

    node.settle()

    assert old.id not in node.cloud.all_elastic_ips
    assert {
        young.id,
        used.id,
        other.id,
        persons.id,
    } == node.cloud.all_elastic_ips.keys()


def test_without_a_clusters_name_other_nodes_are_let_be(tmp_path: Path) -> None:
    with stores(tmp_path) as kept:
        node = Node(kept, cluster="")
        old = left(node, 600)
        node.start(seek=True)
        node.settle()

        assert old.id in node.cloud.all_elastic_ips


def test_all_of_a_node_are_released_at_once(node: Node) -> None:
    node.add(0)
    node.add(1)
    node.settle()
    others = left(node, 600)
    by_hand = left(
        node, 600, **{INSTANCE_TAG: node.cloud.instance_id, SUBJECT_TAG: "by hand"}
    )

    release_all(node.cloud, node.cloud.instance_id)

    assert node.cloud.all_elastic_ips.keys() == {others.id, by_hand.id}


def test_an_error_that_nobody_foresaw_is_tried_again(node: Node) -> None:
    part = node.add(0)
    node.cloud.fail("associate", CloudError("what is this"))

    node.settle()
    assert isinstance(node.told(part).trouble, CloudError)
    node.clock.advance(1)
    node.settle()

    assert node.told(part).public is not None


def a_bench(node: Node) -> Bench:
    """A whole cloud worker beside a node's pods, in the same EC2."""
    return bench(cloud=node.cloud, tenants=node.state, WARM_IP_TARGET="2")


def test_pods_that_wait_have_every_other_turn(node: Node) -> None:
    node.cloud.instance_limits = C5_LARGE
    one = a_bench(node)
    one.settle()
    for number in range(2):
        node.add(number)
    one.node.waiting = 24

    one.cloud.calls.clear()
    one.pass_time(10)

    rest = {"subnets", "attach", "delete_on_termination"}
    made = [str(call) for call, *_ in one.cloud.calls if call not in rest]
    assert made == [
        *("elastic_ips", "assign"),
        *("allocate_elastic_ip", "create_eni"),
        *("associate", "create_eni"),
        *("allocate_elastic_ip", "associate"),
    ]
    assert node.shown() == {p.addresses[0] for p in node.state.tenants()}


def test_the_worker_comes_back_to_what_was_refused(node: Node) -> None:
    one = a_bench(node)
    one.settle()
    part = node.add(0)
    node.cloud.fail("associate", *[CloudError("not yet")] * 3)

    one.pass_time(8)

    assert node.told(part).public is not None
    assert len(node.cloud.named("associate")) == 4


def test_while_ec2_is_away_the_worker_makes_no_calls_for_them(node: Node) -> None:
    one = a_bench(node)
    one.settle()
    part = node.add(0)
    node.cloud.fail("allocate_elastic_ip", CloudAwayError("away"))
    one.cloud.calls.clear()

    one.worker.step()
    one.worker.step()

    assert one.worker.pause > 0
    assert isinstance(one.worker.trouble, CloudAwayError)
    assert isinstance(node.told(part).trouble, CloudAwayError)
    one.pass_time(3)
    assert node.told(part).public is not None
    assert len(node.cloud.named("allocate_elastic_ip")) == 2
