from __future__ import annotations

import json

from eniplug.core.refusals import KEPT, Refusal, Refusals
from eniplug.hooks.errors import PoolEmptyError, SubnetFullError

ARGS = {"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": "web-0"}


def refusal(number: int = 0) -> Refusal:
    return Refusal.of(
        SubnetFullError("subnet-1 is full"),
        when=float(number),
        container_id=f"c{number}",
        args=ARGS,
        facts=("node i-1",),
    )


def test_a_refusal_has_the_errors_reason_message_and_remedy() -> None:
    one = refusal()

    assert (one.namespace, one.name, one.container_id) == ("default", "web-0", "c0")
    assert (one.reason, one.message) == ("subnet-full", "subnet-1 is full")
    assert one.remedy == SubnetFullError.remedy


def test_a_pod_without_a_name_has_an_empty_one() -> None:
    one = Refusal.of(PoolEmptyError("none"), when=0.0, container_id="c0", args={})

    assert (one.namespace, one.name, one.facts) == ("", "", ())


def test_what_is_told_is_json() -> None:
    told = refusal().told()

    assert json.loads(json.dumps(told)) == told
    assert told["facts"] == ["node i-1"]


def test_the_newest_come_first_and_the_oldest_is_forgotten() -> None:
    journal = Refusals()
    for number in range(KEPT + 1):
        journal.note(refusal(number))

    latest = journal.latest()

    assert len(latest) == KEPT
    assert latest[0].container_id == f"c{KEPT}"
    assert latest[-1].container_id == "c1"


def test_an_empty_journal_has_none() -> None:
    assert Refusals().latest() == ()


def test_who_listens_hears_each_refusal_with_its_pods_uid() -> None:
    heard: list[Refusal] = []
    journal = Refusals(heard.append)
    one = Refusal.of(
        PoolEmptyError("none"),
        when=0.0,
        container_id="c0",
        args={**ARGS, "K8S_POD_UID": "8f1c"},
    )

    journal.note(one)

    assert heard == [one]
    assert one.uid == "8f1c"
