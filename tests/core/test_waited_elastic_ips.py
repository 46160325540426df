"""An ADD that waits for its pod's public address, and CHECK of what is not there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from ipaddress import IPv4Address
from pathlib import Path

import pytest
from attrs import define

from eniplug.core.attach import Attachments, Request
from eniplug.core.chain import Chain
from eniplug.core.kernel import Kernel
from eniplug.core.node import NodeScope
from eniplug.core.parts import Life, Part
from eniplug.core.plan import Planner
from eniplug.core.pool import AddressPool
from eniplug.core.public import Standing, Subject, Told, declared
from eniplug.core.state import State
from eniplug.hooks.errors import (
    CancelledError,
    CheckError,
    CloudAwayError,
    DeniedError,
    ElasticIpLimitError,
    EniplugError,
    RetryError,
    ThrottledError,
)
from eniplug.testing.builders import ADDRESSES, NODE, PRIMARY, a_pod
from kit.chains import Give, Public, Wire, chain
from kit.netns import inside, namespace, picture, pods
from kit.stores import stores

pytestmark = pytest.mark.root

WAITED = chain(give=Give(), wire=Wire(), public=Public(waited=True))
LATER = chain(give=Give(), wire=Wire(), public=Public())
PUBLIC = IPv4Address("198.51.100.1")


@define
class World:
    """A node, one pod's namespace, and a worker that says what a test lets it say."""

    name: str
    state: State
    attachments: Attachments
    netns: int
    threads: ThreadPoolExecutor

    def request(
        self, what: Chain = WAITED, here: Callable[[], bool] = lambda: True
    ) -> Request:
        return Request(
            id=bytes(16),
            pod=a_pod(0),
            chain=what,
            plugins=what.names,
            netns=self.netns,
            sandbox="/run/netns/0",
            here=here,
        )

    def add(self, here: Callable[[], bool] = lambda: True) -> Future[Part]:
        """Begin an ADD, and return when it waits."""

        def work() -> Part:
            with inside(self.name):
                return self.attachments.add(self.request(here=here))

        future = self.threads.submit(work)
        end = time.monotonic() + 5
        while not self.state.tenants():
            assert time.monotonic() < end
            time.sleep(0.001)
        return future

    def tell(self, told: Told) -> None:
        (part,) = self.state.tenants()
        subjects = [Subject(part.key, one.private) for one in declared(part)]
        self.state.elastic_ips_are(Standing(dict.fromkeys(subjects, told)))


@pytest.fixture
def patience() -> float:
    """Seconds that an ADD waits."""
    return 20.0


@pytest.fixture
def world(tmp_path: Path, patience: float) -> Iterator[World]:
    with (
        namespace() as name,
        pods() as made,
        inside(name),
        stores(tmp_path) as kept,
        ThreadPoolExecutor() as threads,
    ):
        pool = AddressPool(0.0, time.monotonic)
        state = State(kept.open(), pool, lambda: None)
        state.add_eni(PRIMARY, (9, 0), ADDRESSES[:3])
        attachments = Attachments(
            state, Kernel(), lambda: NODE, lambda: None, patience=patience
        )
        yield World(name, state, attachments, made.new(), threads)


def test_a_pod_begins_when_its_public_address_is_there(world: World) -> None:
    future = world.add()
    (part,) = world.state.tenants()
    assert part.life is Life.PENDING
    assert "10.0.0.10" not in str(picture(world.name))

    world.tell(Told(PUBLIC))

    assert future.result(5).life is Life.LIVE
    assert "10.0.0.10" in str(picture(world.name))
    world.attachments.check(world.request())
    assert world.attachments.delete(world.request())
    assert world.state.tenants() == ()


@pytest.mark.parametrize("error", [ElasticIpLimitError, DeniedError])
def test_what_ec2_refuses_ends_the_wait_and_leaves_nothing(
    world: World, error: type[EniplugError]
) -> None:
    before = picture(world.name)
    future = world.add()

    world.tell(Told(trouble=error("no")))

    with pytest.raises(error):
        future.result(5)
    assert world.state.parts() == ()
    assert picture(world.name) == before


@pytest.mark.parametrize("error", [CloudAwayError, ThrottledError])
def test_what_passes_is_waited_for(world: World, error: type[EniplugError]) -> None:
    future = world.add()

    world.tell(Told(trouble=error("wait")))
    with pytest.raises(TimeoutError):
        future.result(0.4)
    world.tell(Told(PUBLIC))

    assert future.result(5).life is Life.LIVE


def test_its_del_ends_the_wait(world: World) -> None:
    future = world.add()

    began = time.monotonic()
    world.attachments.delete(world.request())

    assert time.monotonic() - began < 5
    with pytest.raises(CancelledError, match="was deleted"):
        future.result(5)
    assert world.state.parts() == ()


def test_a_caller_that_hangs_up_ends_the_wait(world: World) -> None:
    future = world.add(lambda: False)

    with pytest.raises(CancelledError, match="hung up"):
        future.result(5)


@pytest.mark.parametrize("patience", [0.3])
def test_the_wait_has_an_end(world: World) -> None:
    future = world.add()

    with pytest.raises(RetryError, match="on its way"):
        future.result(5)
    assert world.state.parts() == ()


def test_an_add_that_waits_for_nothing_begins_at_once(world: World) -> None:
    part = world.attachments.add(world.request(LATER))

    assert part.life is Life.LIVE
    world.attachments.check(world.request(LATER))


def test_check_and_plan_name_what_ec2_refuses(world: World) -> None:
    part = world.attachments.add(world.request(LATER))
    kernel = Kernel()
    planner = Planner(kernel, world.state, NodeScope(NODE, (), kernel, world.state))
    assert planner.told()["scopes"] == []

    world.tell(Told(trouble=ElasticIpLimitError("5 are the limit")))

    words = r"10\.0\.0\.10.* not there: elastic-ip-limit: 5 are the limit"
    with pytest.raises(CheckError, match=words):
        world.attachments.check(world.request(LATER))
    (scope,) = planner.told()["scopes"]
    assert scope["container"] == part.pod.container_id
    (change,) = scope["changes"]
    assert change["kind"] == "ElasticIp"
    assert change["found"] == "not there: elastic-ip-limit: 5 are the limit"
