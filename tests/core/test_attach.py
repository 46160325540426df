from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from pathlib import Path
from threading import Event, Thread
from typing import Any

import pytest
from attrs import define, evolve

from eniplug.core.attach import Attachments, Request
from eniplug.core.chain import Chain
from eniplug.core.guard import Guard
from eniplug.core.kernel import Kernel
from eniplug.core.kernel.survey import survey
from eniplug.core.kernel.survey_nft import listed_elements
from eniplug.core.node import NodeScope
from eniplug.core.parts import AttachmentKey, Life, Part
from eniplug.core.pool import AddressPool
from eniplug.core.rebuild import marks_of, parts_of
from eniplug.core.repair import Repair
from eniplug.core.state import State
from eniplug.core.store import Store, set_aside
from eniplug.hooks import NftElement, NftTable
from eniplug.hooks.errors import (
    CancelledError,
    CheckError,
    ConflictError,
    EniLimitError,
    InterfaceTakenError,
    KernelError,
    PluginSlowError,
    PoolEmptyError,
    UnknownContainerError,
)
from eniplug.hooks.values import ifb_name
from eniplug.plugins.bandwidth import Bandwidth
from eniplug.testing.builders import ADDRESSES, NODE, PRIMARY, a_pod
from kit.chains import (
    MAIN,
    Extra,
    Fails,
    Give,
    Hangs,
    Shared,
    TakesLate,
    Wire,
    chain,
)
from kit.netns import Pods, inside, namespace, picture, pods, run
from kit.stores import Stores, stores

pytestmark = pytest.mark.root


@define
class World:
    """A node's namespace that this thread is in, a pool of three, and pods."""

    name: str
    stores: Stores
    pods: Pods
    kernel: Kernel
    now: float = 0.0
    buried: int = 0

    def start(self, addresses: int = 3, patience: float = 5.0) -> Attachments:
        """Start as the agent does, also after a crash."""
        pool = AddressPool(0.0, time.monotonic)
        self.state = State(self.stores.open(), pool, lambda: None)
        self.state.add_eni(PRIMARY, (9, 0), ADDRESSES[:addresses])
        self.attachments = Attachments(
            self.state, self.kernel, lambda: NODE, self._bury, patience=patience
        )
        return self.attachments

    state: State = None  # type: ignore[assignment]
    attachments: Attachments = None  # type: ignore[assignment]

    def _bury(self) -> None:
        self.buried += 1

    def request(
        self, number: int, netns: int | None, what: Chain = MAIN, attempt: int = 0
    ) -> Request:
        return Request(
            id=bytes([attempt]) * 16,
            pod=a_pod(number),
            chain=what,
            plugins=what.names,
            netns=netns,
            sandbox=f"/run/netns/{number}",
        )

    def picture(self) -> dict[str, str]:
        self.kernel.reap()
        return picture(self.name)


@pytest.fixture
def world(tmp_path: Path) -> Iterator[World]:
    with (
        namespace() as name,
        pods() as made,
        inside(name),
        stores(tmp_path) as kept,
    ):
        world = World(name, kept, made, Kernel())
        world.start()
        yield world


def test_a_pod_is_attached_checked_and_deleted_without_a_trace(world: World) -> None:
    before = world.picture()
    netns = world.pods.new()
    request = world.request(0, netns)

    part = world.attachments.add(request)
    assert part.result is not None
    assert part.result["ips"][0]["address"] == "10.0.0.10/32"
    world.attachments.check(request)
    assert "10.0.0.10 dev eni" in run("ip", "route", "show", "table", "512")
    assert part.alias in run("ip", "link", "show", part.pod.host_ifname)

    assert world.attachments.delete(request)
    assert world.picture() == before
    assert world.attachments.delete(request) == ()


def test_the_same_request_again_gets_the_same_answer(world: World) -> None:
    netns = world.pods.new()
    first = world.attachments.add(world.request(0, netns))

    assert world.attachments.add(world.request(0, netns)) == first
    assert world.state.counts().assigned == 1


def test_a_new_add_for_a_live_attachment_is_refused(world: World) -> None:
    netns = world.pods.new()
    world.attachments.add(world.request(0, netns))

    with pytest.raises(InterfaceTakenError):
        world.attachments.add(world.request(0, netns, attempt=1))

    world.attachments.check(world.request(0, netns))


def test_an_interface_of_that_name_is_a_refusal_that_leaves_nothing(
    world: World,
) -> None:
    netns = world.pods.new()
    pod = world.pods.names[0]
    run("ip", "-n", pod, "link", "add", "eth0", "type", "veth", "peer", "name", "x0")
    before = world.picture(), picture(pod)

    with pytest.raises(InterfaceTakenError):
        world.attachments.add(world.request(0, netns))

    assert (world.picture(), picture(pod)) == before
    assert world.state.counts().assigned == 0


def test_a_conflict_inside_the_kernel_leaves_nothing(world: World) -> None:
    netns = world.pods.new()
    run("ip", "route", "add", "10.0.0.10/32", "dev", "lo", "table", "512")
    before = world.picture(), picture(world.pods.names[0])

    with pytest.raises(KernelError, match=r"10\.0\.0\.10/32"):
        world.attachments.add(world.request(0, netns))

    assert (world.picture(), picture(world.pods.names[0])) == before
    assert world.state.parts() == ()
    assert world.state.open_slot() == 0


def test_two_entries_share_an_attachment_and_its_slot(world: World) -> None:
    netns = world.pods.new()
    extra = chain(extra=Extra(700))
    first = world.attachments.add(world.request(0, netns))
    prev = evolve(a_pod(0), prev=first.result)

    second = world.attachments.add(evolve(world.request(0, netns, extra), pod=prev))

    assert second.pod.slot == first.pod.slot
    assert second.result == first.result
    assert second.allocation == first.allocation
    assert second.allocation.nics[0].eni is not None
    assert "700:" in run("ip", "rule")
    assert world.attachments.delete(world.request(0, netns, extra)) == (second,)
    assert "700:" not in run("ip", "rule")
    world.attachments.check(world.request(0, netns))


def test_deleting_the_main_entry_takes_all_that_is_left(world: World) -> None:
    netns = world.pods.new()
    before = world.picture()
    first = world.attachments.add(world.request(0, netns))
    extra = evolve(
        world.request(0, netns, chain(extra=Extra(700))),
        pod=evolve(a_pod(0), prev=first.result),
    )
    world.attachments.add(extra)

    assert len(world.attachments.delete(world.request(0, netns))) == 2

    assert world.picture() == before


def test_one_host_object_for_two_pods_is_refused(world: World) -> None:
    both = chain(give=Give(), wire=Wire(), shared=Shared())
    world.attachments.add(world.request(0, world.pods.new(), both))

    with pytest.raises(ConflictError):
        world.attachments.add(world.request(1, world.pods.new(), both))

    assert world.state.counts().assigned == 1


def test_delete_without_a_namespace_removes_the_hosts_side(world: World) -> None:
    before = world.picture()
    world.attachments.add(world.request(0, world.pods.new()))

    world.attachments.delete(world.request(0, None))

    assert world.picture() == before


def test_check_names_what_is_missing(world: World) -> None:
    request = world.request(0, world.pods.new())
    part = world.attachments.add(request)
    run("ip", "route", "del", "10.0.0.10/32", "table", "512")

    with pytest.raises(CheckError, match=r"table=512.*missing"):
        world.attachments.check(request)

    assert part.life is Life.LIVE


def test_check_after_delete_knows_nothing(world: World) -> None:
    request = world.request(0, world.pods.new())
    world.attachments.add(request)
    world.attachments.delete(request)

    with pytest.raises(UnknownContainerError):
        world.attachments.check(request)


def begun(part: Part) -> Callable[[Store], None]:
    """Write a part down as it is before the kernel has anything of it."""
    return lambda store: store.update(evolve(part, life=Life.PENDING))


def test_a_crash_when_all_was_made_takes_nothing_away(world: World) -> None:
    request = world.request(0, world.pods.new())
    part = world.attachments.add(request)
    link = part.allocation.nics[0].host_ifname
    index = world.kernel.links()[link].index
    world.state.with_store(begun(part))

    world.start().recover()

    assert world.kernel.links()[link].index == index
    assert world.attachments.add(request) == part
    world.attachments.check(request)
    world.start().recover()
    assert world.attachments.delete(request) == (part,)


@pytest.mark.parametrize(
    "otherwise",
    [
        "ip link del {}",
        "ip link set {} down",
        "ip link set {} alias somebodys",
        "sysctl -qw net.ipv4.conf.{}.rp_filter=2",
    ],
    ids=["not made", "not raised", "not marked", "refused"],
)
def test_a_crash_amid_an_add_is_settled_at_the_next_start(
    world: World, otherwise: str
) -> None:
    before = world.picture()
    part = world.attachments.add(world.request(0, world.pods.new()))
    world.state.with_store(begun(part))
    run(*otherwise.format(part.allocation.nics[0].host_ifname).split())

    world.start().recover()

    assert world.picture() == before
    assert world.state.counts().assigned == 0


def test_what_an_earlier_agent_was_at_is_removed(world: World) -> None:
    before = world.picture()
    part = world.attachments.add(world.request(0, world.pods.new()))
    world.state.with_store(begun(evolve(part, result=None)))

    world.start().recover()

    assert world.picture() == before
    assert world.state.parts() == ()


def test_a_missed_delete_applies_only_to_what_was_made_before_it(
    world: World,
) -> None:
    key = AttachmentKey("c0", "eth0")
    world.attachments.add(world.request(0, world.pods.new()))

    assert not world.attachments.bury(key, time.time() - 60)
    assert world.attachments.bury(key, time.time() + 1)
    assert world.state.parts() == ()


def test_gc_removes_the_dead_and_doubts_the_living(world: World) -> None:
    world.attachments.add(world.request(0, world.pods.new()))
    dead = world.attachments.add(world.request(1, world.pods.new()))
    kept = world.attachments.add(world.request(2, world.pods.new()))
    run("ip", "link", "del", dead.pod.host_ifname)
    now = time.time() + 1

    first = world.attachments.collect("vpc", {kept.key}, now)
    second = world.attachments.collect("vpc", {kept.key}, now + 30)
    third = world.attachments.collect("vpc", {kept.key}, now + 61)
    other = world.attachments.collect("other", set(), now + 200)

    assert [p.key.container_id for p in first] == ["c1"]
    assert second == ()
    assert [p.key.container_id for p in third] == ["c0"]
    assert other == ()
    assert [p.key for p in world.state.parts()] == [kept.key]


def test_a_pod_whose_link_is_gone_is_swept_after_a_while(world: World) -> None:
    part = world.attachments.add(world.request(0, world.pods.new()))
    run("ip", "link", "del", part.pod.host_ifname)

    absent = world.attachments.sweep({}, 10.0)
    assert list(absent) == [part.id]
    assert world.attachments.sweep({part.id: time.monotonic() - 11}, 10.0) == {}

    assert world.state.parts() == ()


def test_links_are_not_looked_at_while_none_has_moved_and_none_is_missing(
    world: World,
) -> None:
    part = world.attachments.add(world.request(0, world.pods.new()))
    cut_off = world.attachments.add(world.request(1, world.pods.new()))
    world.state.dying(cut_off)
    run("ip", "link", "del", part.pod.host_ifname)

    unmoved = world.attachments.sweep({}, 10.0, moved=False)
    missing = world.attachments.sweep({part.id: 0.0}, 1e9, moved=False)

    assert list(unmoved) == [cut_off.id]
    assert missing == {part.id: 0.0, cut_off.id: missing[cut_off.id]}


def test_a_part_whose_removal_was_cut_off_is_swept_as_well(world: World) -> None:
    part = world.attachments.add(world.request(0, world.pods.new()))
    world.state.dying(part)

    absent = world.attachments.sweep({}, 10.0)
    assert world.attachments.sweep({part.id: time.monotonic() - 11}, 10.0) == {}

    assert list(absent) == [part.id]
    assert world.state.parts() == ()


def test_an_add_on_an_empty_pool_waits_for_an_address(world: World) -> None:
    attachments = world.start(addresses=0)
    netns = world.pods.new()
    done: list[str] = []
    thread = Thread(
        target=lambda: done.append(str(attachments.add(world.request(0, netns)).life))
    )
    thread.start()
    while not world.state.views()[1]:
        assert thread.is_alive()

    world.state.supply(PRIMARY.id, ADDRESSES[:1])
    thread.join(5)

    assert done == ["live"]


@pytest.mark.parametrize(
    ("patience", "blocked", "error"),
    [
        (0.1, None, PoolEmptyError),
        (60.0, EniLimitError("2 ENIs are full"), EniLimitError),
    ],
)
def test_a_wait_ends_with_the_reason(
    world: World, patience: float, blocked: EniLimitError | None, error: type
) -> None:
    attachments = world.start(addresses=0, patience=patience)
    world.state.blocked(blocked)

    with pytest.raises(error):
        attachments.add(world.request(0, world.pods.new()))

    assert world.state.views()[1] == 0
    assert world.state.open_slot() == 0


def test_a_wait_ends_when_the_caller_hangs_up(world: World) -> None:
    attachments = world.start(addresses=0, patience=60)
    request = evolve(world.request(0, world.pods.new()), here=lambda: False)

    with pytest.raises(CancelledError, match="hung up"):
        attachments.add(request)


def test_a_delete_overtakes_its_waiting_add(world: World) -> None:
    attachments = world.start(addresses=0, patience=60)
    netns = world.pods.new()
    failed: list[type] = []

    def add() -> None:
        try:
            attachments.add(world.request(0, netns))
        except CancelledError as error:
            failed.append(type(error))

    thread = Thread(target=add)
    thread.start()
    while not world.state.views()[1]:
        assert thread.is_alive()

    assert attachments.delete(world.request(0, netns)) == ()
    thread.join(5)

    assert failed == [CancelledError]


def test_no_descriptor_is_left_open(world: World) -> None:
    request = world.request(0, world.pods.new())
    world.attachments.add(request)
    world.attachments.delete(request)
    before = len(os.listdir("/proc/self/fd"))

    for attempt in range(1, 4):
        again = evolve(request, id=bytes([attempt]) * 16)
        world.attachments.add(again)
        world.attachments.check(again)
        world.attachments.delete(again)

    assert len(os.listdir("/proc/self/fd")) == before


def test_elements_of_our_tables_are_found_again_with_their_pod(world: World) -> None:
    text = """
    map any { type inet_proto . inet_service : ipv4_addr . inet_service; }
    set near { type ipv4_addr; flags interval; elements = { 10.0.0.0/16 } }
    map way { type devgroup : verdict; elements = { 5 : drop } }
    set one { type ipv4_addr; }
    """
    table = NftTable(family="inet", name="ports", text=text)
    world.kernel.settle((), (table,), {})
    world.attachments.add(world.request(0, world.pods.new()))
    world.attachments.add(world.request(1, world.pods.new()))
    mine = NftElement(
        family="inet",
        table="ports",
        set="any",
        element="tcp . 8080",
        value="10.0.0.10 . 80",
    )
    alone = evolve(mine, set="one", element="10.0.0.10", value="")
    other = evolve(mine, element="udp . 53", value="10.0.0.11 . 53")
    world.kernel.apply((mine, alone, other), None)
    run("nft", "add table ip theirs; add set ip theirs one { type ipv4_addr; }")
    run("nft", "add element ip theirs one { 10.0.0.10 }")

    parts = parts_of(world.kernel.links(), survey(), lambda _: PRIMARY)

    found = {
        part.pod.container_id: {o for o in part.objects if isinstance(o, NftElement)}
        for part in parts
    }
    assert found == {"c0": {mine, alone}, "c1": {other}}
    for broken in ("/nowhere/nft", "false", "true"):
        assert not list(listed_elements([broken]))


LIMITS = {
    f"{way}{what}": value
    for way in ("ingress", "egress")
    for what, value in (("Rate", 10_000_000), ("Burst", 2**32 - 1))
}
SHAPED = chain(give=Give(), wire=Wire(), bandwidth=Bandwidth())
ALONE = chain(bandwidth=Bandwidth())


def shaped(
    world: World, number: int, what: Chain, prev: Mapping[str, Any] | None = None
) -> Request:
    """A request for a pod with a limit both ways."""
    netns = world.pods.new() if what is SHAPED else None
    asked = world.request(number, netns, what)
    pod = evolve(asked.pod, runtime={"bandwidth": LIMITS}, prev=prev)
    return evolve(asked, pod=pod)


def test_a_shaped_pod_leaves_no_trace_and_a_restart_puts_its_limits_back(
    world: World,
) -> None:
    before = world.picture()
    request = shaped(world, 0, SHAPED)
    world.attachments.add(request)
    ifb = ifb_name(request.pod.host_ifname)
    run("ip", "link", "del", ifb)
    with pytest.raises(CheckError, match=f"{ifb}.* is missing"):
        world.attachments.check(request)

    started = world.start()
    started.recover()
    scope = NodeScope(NODE, [], world.kernel, world.state)
    repair = Repair(world.kernel, world.state, scope, started)
    repair.start()
    repair.stop()

    world.attachments.check(request)
    assert "eniplug/1 c0 eth0 vpc 0" in run("ip", "link", "show", ifb)
    assert world.attachments.delete(request)
    assert world.picture() == before


def behind(link: str) -> dict[str, object]:
    """What a main plugin of somebody else says of a pod that it made."""
    inside = {"name": "eth0", "sandbox": "/run/netns/x"}
    return {"interfaces": [{"name": link}, inside], "ips": []}


def test_limits_of_a_lost_store_are_told_to_their_pods(world: World) -> None:
    before = world.picture()
    own = shaped(world, 0, SHAPED)
    world.attachments.add(own)
    run(*["ip", "link", "add", "veth7", "type", "veth", "peer", "name", "far7"])
    for link in ("veth7", "far7"):
        run("ip", "link", "set", link, "up")
    run("ip", "route", "add", "10.77.0.2", "dev", "veth7")
    foreign = shaped(world, 1, ALONE, prev=behind("veth7"))
    world.attachments.add(evolve(foreign, netns=world.pods.new()))
    set_aside(world.stores.path)

    links = world.kernel.links()
    parts = tuple(parts_of(links, survey(), lambda _: PRIMARY))
    with closing(world.stores.open()) as store:
        for part in parts:
            store.update(store.begin(part))
    world.start().recover()
    lost = world.attachments.sweep({}, 0)
    kept = [part.leased for part in world.state.parts()]
    run("ip", "link", "del", "veth7")
    world.attachments.sweep({}, 0)

    assert len(parts) == 2
    assert marks_of(links, parts) == {}
    assert kept == [True, False]
    assert lost == {}
    assert len(world.state.parts()) == 1
    assert world.attachments.delete(own)
    assert world.picture() == before


def test_a_lost_store_is_made_again_from_the_node(world: World) -> None:
    before = world.picture()
    was = [world.attachments.add(world.request(n, world.pods.new())) for n in (0, 1)]
    set_aside(world.stores.path)

    store = world.stores.open()
    for part in parts_of(world.kernel.links(), survey(), lambda _: PRIMARY):
        store.update(store.begin(part))
    store.close()
    world.start().recover()

    found = world.state.parts()
    assert {p.key: p.addresses for p in found} == {p.key: p.addresses for p in was}
    assert world.state.counts().assigned == 2
    assert {p.key: p.pod.slot for p in found} == {p.key: p.pod.slot for p in was}
    for number in (0, 1):
        assert world.attachments.delete(world.request(number, None))
    assert world.picture() == before


# -- plugins that fail -----------------------------------------------------------------


def test_a_plugin_that_hangs_leaves_nothing_of_its_pod(world: World) -> None:
    release = Event()
    guard = Guard(limit=0.3)
    stuck = chain(guard, give=Give(), wire=Wire(), stuck=Hangs(release))
    before = world.picture()
    netns = world.pods.new()

    with pytest.raises(PluginSlowError, match="'stuck': egress"):
        world.attachments.add(world.request(0, netns, stuck))

    assert world.picture() == before
    assert world.state.parts() == ()
    assert world.state.counts().assigned == 0
    assert world.attachments.add(world.request(0, netns)).life is Life.LIVE
    release.set()


def test_an_address_plugin_that_wakes_too_late_takes_nothing(world: World) -> None:
    release, late = Event(), Event()
    guard = Guard(limit=0.3)
    sleepy = chain(guard, sleepy=TakesLate(release, late), wire=Wire())

    with pytest.raises(PluginSlowError, match="'sleepy': allocate_ip"):
        world.attachments.add(world.request(0, world.pods.new(), sleepy))
    release.set()

    assert late.wait(20)
    assert world.state.counts().assigned == 0


def test_a_pod_remembers_which_plugin_it_goes_without(world: World) -> None:
    both = chain(Guard(), ["bad"], give=Give(), wire=Wire(), bad=Fails())

    part = world.attachments.add(world.request(0, world.pods.new(), both))

    assert part.skipped == ("plugin 'bad': egress raised OSError('no such luck')",)
    assert part.life is Life.LIVE
