from __future__ import annotations

import time
from collections.abc import Callable, Generator, Mapping
from pathlib import Path
from threading import Event
from threading import enumerate as enumerate_threads

import pytest
from attrs import define, field
from structlog.testing import capture_logs

from eniplug.core.kube import AFTER_TROUBLE, LOOK_EVERY, Kube, connector
from eniplug.core.kube_api import Api, ApiAwayError, NodeFacts
from eniplug.core.pod_events import AGAIN_AFTER, PodEvent
from eniplug.core.refusals import Refusal
from eniplug.core.settings import Settings
from eniplug.hooks.errors import EniLimitError, StoreError
from eniplug.testing.clock import HandClock
from kit.api_servers import NAME, TAINT, ApiServer, api_server, kubeconfig
from kit.benches import bench

SOON = 5.0
CORDONED = NodeFacts(schedulable=False, max_pods=29)


@define(eq=False)
class Place:
    """A Kube that asks a server on loopback, step by step."""

    server: ApiServer
    folder: Path
    clock: HandClock = field(factory=HandClock)
    changes: list[NodeFacts] = field(factory=list)
    kubes: list[Kube] = field(factory=list)

    def kube(
        self,
        facts: NodeFacts | None = None,
        changed: Callable[[NodeFacts], None] | None = None,
        **environ: str,
    ) -> Kube:
        given = {"KUBECONFIG": self.server.kubeconfig(self.folder)}
        settings = Settings.from_environ({"MY_NODE_NAME": NAME, **environ})
        kube = Kube(
            connector(given, settings),
            settings,
            changed or self.changes.append,
            facts,
            clock=self.clock,
        )
        self.kubes.append(kube)
        return kube

    def pass_time(self, kube: Kube, seconds: float) -> None:
        """Step as the thread would."""
        end = self.clock() + seconds
        while (pause := kube.step()) + self.clock() < end:
            self.clock.advance(pause)
        self.clock.advance(end - self.clock())
        kube.step()


@pytest.fixture
def place(tmp_path: Path) -> Generator[Place]:
    with api_server() as server:
        place = Place(server, tmp_path)
        yield place
        for kube in place.kubes:
            kube.close()


def refused(pod: int = 0) -> Refusal:
    args = {"K8S_POD_NAMESPACE": "shop", "K8S_POD_NAME": f"web-{pod}"}
    error = EniLimitError("all 3 ENIs are full")
    return Refusal.of(error, when=1_764_000_000.0, container_id="c", args=args)


def wait_for(condition: Callable[[], object]) -> None:
    end = time.monotonic() + SOON
    while not condition():
        assert time.monotonic() < end, "it does not come about"
        time.sleep(0.01)


def end(kube: Kube) -> None:
    kube.stop()
    wait_for(lambda: not any(one.name == "kube" for one in enumerate_threads()))


# -- the node --------------------------------------------------------------------------


def test_a_node_of_which_nothing_is_known_may_change(place: Place) -> None:
    kube = place.kube()

    assert kube.facts == NodeFacts()
    assert kube.held() is None


def test_the_node_is_looked_at_every_half_minute(place: Place) -> None:
    kube = place.kube()

    assert kube.step() == LOOK_EVERY
    kube.step()
    assert len(place.server.asked) == 1
    assert place.changes == [NodeFacts(max_pods=29)]

    place.pass_time(kube, 10 * LOOK_EVERY)
    assert len(place.server.asked) == 11
    assert place.changes == [NodeFacts(max_pods=29)]


def test_a_node_becomes_unschedulable_and_back(place: Place) -> None:
    kube = place.kube()
    kube.step()
    place.server.taints = [TAINT]

    place.pass_time(kube, LOOK_EVERY)
    held = kube.held()
    assert held is not None
    assert NAME in held.message
    assert place.changes[-1] == CORDONED

    place.server.taints = []
    place.pass_time(kube, LOOK_EVERY)
    assert kube.held() is None
    assert place.changes[-1] == NodeFacts(max_pods=29)


def test_who_wants_to_manage_enis_anyway_is_not_held_up(place: Place) -> None:
    place.server.taints = [TAINT]
    kube = place.kube(AWS_MANAGE_ENIS_NON_SCHEDULABLE="true")

    kube.step()

    assert kube.facts == CORDONED
    assert kube.held() is None


def test_what_was_said_in_an_earlier_life_holds_until_it_is_asked(place: Place) -> None:
    kube = place.kube(CORDONED)
    assert kube.held() is not None

    kube.step()

    assert kube.held() is None


def test_while_the_api_is_away_what_it_said_last_holds(place: Place) -> None:
    place.server.taints = [TAINT]
    kube = place.kube()
    kube.step()
    place.server.away, place.server.taints = True, []

    place.pass_time(kube, 600.0)
    assert kube.held() is not None

    place.server.away = False
    place.pass_time(kube, AFTER_TROUBLE)
    assert kube.held() is None


def test_an_api_that_is_away_is_logged_once_and_asked_again_not_too_often(
    place: Place,
) -> None:
    place.server.away = True
    kube = place.kube()

    with capture_logs() as logs:
        place.pass_time(kube, 600.0)
        place.server.away = False
        place.pass_time(kube, 600.0)

    assert [line["log_level"] for line in logs if line["event"] == "kubernetes"] == [
        "warning",
        "info",
    ]
    asked_in_vain = 600.0 / AFTER_TROUBLE + 1
    assert len(place.server.asked) <= asked_in_vain + 600.0 / LOOK_EVERY + 1


def test_an_api_that_comes_after_the_agent_is_found(place: Place) -> None:
    """Nobody listens at the start: no connection, which is not an answer cut off."""
    settings = Settings(node_name=NAME)
    with api_server() as gone:
        url = gone.url
    path = kubeconfig(place.folder, url)
    kube = Kube(
        connector({"KUBECONFIG": path}, settings),
        settings,
        place.changes.append,
        clock=place.clock,
    )

    assert kube.step() == AFTER_TROUBLE
    assert place.changes == []
    kube.close()


def test_a_kubeconfig_that_comes_late_is_found(place: Place) -> None:
    kube = place.kube()
    path = place.folder / "kubeconfig"
    text = path.read_text()
    path.unlink()
    kube.step()
    assert place.changes == []

    path.write_text(text)
    place.pass_time(kube, AFTER_TROUBLE)

    assert place.changes == [NodeFacts(max_pods=29)]


def test_a_node_that_is_not_shown_is_logged_once_and_pods_still_have_events(
    place: Place,
) -> None:
    place.server.refuses = {"GET": 403}
    kube = place.kube()
    kube.note(refused())

    with capture_logs() as logs:
        place.pass_time(kube, 10 * LOOK_EVERY)

    assert sum(line["event"] == "kubernetes" for line in logs) == 1
    assert len(place.server.events) == 1


def test_facts_that_cannot_be_kept_are_gone_by_all_the_same(place: Place) -> None:
    def full(_: NodeFacts) -> None:
        msg = "no space left"
        raise StoreError(msg)

    place.server.taints = [TAINT]
    kube = place.kube(changed=full)

    kube.step()

    assert kube.held() is not None


# -- events ----------------------------------------------------------------------------


def test_a_hundred_refusals_of_one_pod_are_two_events(place: Place) -> None:
    kube = place.kube()
    for _ in range(100):
        kube.note(refused())
        place.pass_time(kube, 1.0)

    place.pass_time(kube, AGAIN_AFTER)

    events = place.server.events
    assert [event["reason"] for event in events] == ["eni-limit"] * 2
    assert [event["count"] for event in events] == [1, 99]


def test_events_wait_while_the_api_is_away(place: Place) -> None:
    kube = place.kube()
    kube.step()
    place.server.away = True
    for _ in range(3):
        kube.note(refused(1))
        kube.note(refused(2))
        place.pass_time(kube, AFTER_TROUBLE)
    assert place.server.events == []

    place.server.away = False
    place.pass_time(kube, AFTER_TROUBLE)

    told = [(e["involvedObject"]["name"], e["count"]) for e in place.server.events]
    assert sorted(told) == [("web-1", 3), ("web-2", 3)]


def test_an_event_that_is_refused_is_not_posted_again(place: Place) -> None:
    place.server.refuses = {"POST": 403}
    kube = place.kube()
    for pod in range(5):
        kube.note(refused(pod))

    with capture_logs() as logs:
        place.pass_time(kube, 600.0)

    posts = [one for one in place.server.asked if one.startswith("POST")]
    assert len(posts) == 5
    assert sum(line["event"] == "kubernetes" for line in logs) == 1


def test_events_can_be_switched_off(place: Place) -> None:
    kube = place.kube(ENIPLUG_POD_EVENTS="false")
    kube.note(refused())

    place.pass_time(kube, 60.0)

    assert place.server.events == []


# -- the thread ------------------------------------------------------------------------


def test_the_thread_posts_what_is_noted_without_waiting_for_its_next_look(
    place: Place,
) -> None:
    kube = place.kube()
    kube.start()
    wait_for(lambda: place.changes)

    kube.note(refused())

    wait_for(lambda: place.server.events)
    end(kube)


def test_noting_a_refusal_does_not_wait_for_an_api_that_hangs(place: Place) -> None:
    settings = Settings(node_name=NAME)
    hung, go_on, answered = Event(), Event(), Event()

    class Hanging:
        def node(self, name: str) -> NodeFacts:
            hung.set()
            go_on.wait(60.0)
            answered.set()
            raise ApiAwayError(name)

        def post(self, event: PodEvent) -> None:
            raise ApiAwayError(event.pod)

        def close(self) -> None:
            pass

    kube = Kube(Hanging, settings, place.changes.append)
    kube.start()
    assert hung.wait(SOON)

    for _ in range(100):
        kube.note(refused())
    kube.stop()

    assert not answered.is_set()
    go_on.set()
    end(kube)


def test_a_client_that_is_not_installed_ends_the_thread_with_a_remedy() -> None:
    def connect() -> Api:
        msg = "No module named 'lightkube'"
        raise ModuleNotFoundError(msg)

    kube = Kube(connect, Settings(node_name=NAME), lambda _: None)

    with capture_logs() as logs:
        kube.start()
        wait_for(lambda: logs)

    assert logs[0]["remedy"] == "install eniplug[kube] for them"


# -- whether there is anything to ask --------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "asks"),
    [
        ({}, False),
        ({"MY_NODE_NAME": NAME}, False),
        ({"KUBECONFIG": "", "MY_NODE_NAME": NAME}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1"}, False),
        ({"KUBERNETES_SERVICE_HOST": "10.96.0.1", "MY_NODE_NAME": NAME}, True),
        ({"KUBECONFIG": "/etc/kubeconfig", "MY_NODE_NAME": NAME}, True),
    ],
)
def test_kubernetes_is_asked_where_it_is_and_the_nodes_name_is_known(
    environ: Mapping[str, str], asks: bool
) -> None:
    settings = Settings.from_environ(environ)

    assert (connector(environ, settings) is not None) == asks


@pytest.mark.parametrize(
    ("changed", "asks"),
    [
        ({}, False),
        ({"ENIPLUG_POD_EVENTS": "true"}, True),
        ({"AWS_MANAGE_ENIS_NON_SCHEDULABLE": "false"}, True),
        ({"ENIPLUG_MAX_PODS": None}, True),
    ],
)
def test_who_wants_nothing_of_kubernetes_does_not_ask_it(
    changed: Mapping[str, str | None], asks: bool
) -> None:
    nothing = {
        "KUBECONFIG": "/etc/kubeconfig",
        "MY_NODE_NAME": NAME,
        "ENIPLUG_POD_EVENTS": "false",
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE": "true",
        "ENIPLUG_MAX_PODS": "20",
    }
    environ = {k: v for k, v in {**nothing, **changed}.items() if v is not None}

    found = connector(environ, Settings.from_environ(environ))

    assert (found is not None) == asks


def test_without_kubernetes_nothing_is_held_up_and_nothing_runs() -> None:
    kube = Kube(None, Settings(), lambda _: None)

    kube.start()
    kube.note(refused())
    kube.stop()

    assert kube.held() is None
    assert kube.facts == NodeFacts()


# -- the cloud worker ------------------------------------------------------------------


def test_a_cordoned_node_asks_ec2_for_nothing_and_goes_on_when_it_is_uncordoned(
    place: Place,
) -> None:
    kube = place.kube()
    one = bench(held=kube.held)
    place.server.taints = [TAINT]
    kube.step()

    one.pass_time(120.0)
    assert one.total == 0
    assert one.node.why is not None
    assert one.node.why.reason == "unschedulable"

    place.server.taints = []
    place.pass_time(kube, LOOK_EVERY)
    one.settle()
    assert one.total == 9
    assert one.node.why is None


def test_what_was_said_before_does_not_count_where_nobody_is_asked() -> None:
    cordoned = NodeFacts(schedulable=False)

    kube = Kube(None, Settings(), lambda _: None, cordoned)

    assert kube.held() is None
