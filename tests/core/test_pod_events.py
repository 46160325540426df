from __future__ import annotations

import pytest

from eniplug.core.pod_events import AGAIN_AFTER, BURST, EVERY, MOST, PodEvent, PodEvents
from eniplug.core.refusals import Refusal
from eniplug.hooks.errors import (
    CancelledError,
    EniLimitError,
    EniplugError,
    SubnetFullError,
)
from eniplug.testing.clock import HandClock

FULL = EniLimitError("all 3 ENIs are full")


def refused(
    pod: int = 0, error: EniplugError = FULL, *, when: float = 0.0, name: str = "web"
) -> Refusal:
    args = {
        "K8S_POD_NAMESPACE": "default",
        "K8S_POD_NAME": name and f"{name}-{pod}",
        "K8S_POD_UID": f"uid-{pod}",
    }
    return Refusal.of(error, when=when, container_id="c", args=args)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def events(clock: HandClock) -> PodEvents:
    return PodEvents(clock)


def taken(events: PodEvents) -> list[PodEvent]:
    return list(iter(events.next, None))


def test_a_refused_pod_has_an_event_at_once_with_reason_message_and_remedy(
    events: PodEvents,
) -> None:
    events.note(refused(when=5.0))

    assert events.wait() == 0
    assert taken(events) == [
        PodEvent(
            namespace="default",
            pod="web-0",
            uid="uid-0",
            reason="eni-limit",
            message=f"all 3 ENIs are full; {EniLimitError.remedy}",
            first=5.0,
            last=5.0,
        )
    ]
    assert events.wait() == float("inf")


def test_a_pod_that_is_refused_again_and_again_has_few_events(
    events: PodEvents, clock: HandClock
) -> None:
    found: list[PodEvent] = []
    for second in range(100):
        events.note(refused(when=float(second)))
        found += taken(events)
        clock.advance(1.0)
    clock.advance(events.wait())
    found += taken(events)

    assert [(one.count, one.first, one.last) for one in found] == [
        (1, 0.0, 0.0),
        (99, 1.0, 99.0),
    ]
    assert clock() == 1000.0 + AGAIN_AFTER


def test_another_reason_of_the_same_pod_is_told_at_once(events: PodEvents) -> None:
    events.note(refused())
    taken(events)

    events.note(refused(error=SubnetFullError("subnet-1 is full")))

    assert [one.reason for one in taken(events)] == ["subnet-full"]


def test_the_last_message_is_the_one_that_is_told(events: PodEvents) -> None:
    events.note(refused(when=1.0))
    events.note(refused(error=EniLimitError("all 4 ENIs are full"), when=2.0))

    [one] = taken(events)

    assert one.message.startswith("all 4 ENIs are full")
    assert one.count == 2


def test_many_pods_are_told_of_in_a_burst_and_then_slowly(
    events: PodEvents, clock: HandClock
) -> None:
    for pod in range(100):
        events.note(refused(pod))

    assert len(taken(events)) == BURST
    assert events.wait() == pytest.approx(EVERY)

    clock.advance(4 * EVERY)
    assert len(taken(events)) == 4


def test_no_more_are_kept_than_may_be_and_the_oldest_go_first(
    events: PodEvents, clock: HandClock
) -> None:
    for pod in range(MOST + 1):
        events.note(refused(pod))
    found = []
    while events.wait() < float("inf"):
        clock.advance(events.wait())
        found += taken(events)

    assert [one.pod for one in found] == [f"web-{n}" for n in range(1, MOST + 1)]


def test_one_that_could_not_be_posted_is_due_still_with_what_came_since(
    events: PodEvents,
) -> None:
    events.note(refused(when=1.0))
    [one] = taken(events)
    events.note(refused(when=2.0))

    events.put_back(one)

    [again] = taken(events)
    assert (again.count, again.first, again.last) == (2, 1.0, 2.0)


@pytest.mark.parametrize(
    "refusal",
    [refused(name=""), refused(error=CancelledError("its DEL came"))],
    ids=["nameless", "given up"],
)
def test_nobody_is_told_of_a_pod_without_a_name_or_that_gave_up(
    events: PodEvents, refusal: Refusal
) -> None:
    events.note(refusal)

    assert taken(events) == []
