from __future__ import annotations

from collections.abc import Iterator
from ipaddress import ip_network
from pathlib import Path

import pytest
from prometheus_client.parser import text_string_to_metric_families

from eniplug.core.guard import Guard
from eniplug.core.metrics import Metrics
from eniplug.hooks.errors import EniLimitError, ThrottledError
from eniplug.testing.builders import ADDRESSES, PRIMARY
from kit.reports import Reported
from kit.stores import stores


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Reported]:
    with stores(tmp_path) as made:
        yield Reported(made)


def samples(metrics: Metrics) -> dict[str, float]:
    """All samples but the process's own, as Prometheus itself would read them."""
    found = text_string_to_metric_families(metrics.text().decode())
    return {
        sample.name
        + "".join(
            f" {name}={value}" for name, value in sorted(sample.labels.items())
        ): (sample.value)
        for family in found
        for sample in family.samples
        if sample.name.startswith("eniplug_")
    }


def test_requests_are_counted_by_command_outcome_and_reason() -> None:
    metrics = Metrics()

    metrics.answered("ADD", "", 0.003)
    metrics.answered("ADD", "", 0.7)
    metrics.answered("ADD", "pool-empty", 30.0)
    metrics.answered("DEL", "", 0.001)
    metrics.answered("made-up-by-a-caller", "bad-request", 0.001)

    found = samples(metrics)
    requests = {k: v for k, v in found.items() if k.startswith("eniplug_requests")}
    assert requests == {
        "eniplug_requests_total command=ADD outcome=done reason=": 2,
        "eniplug_requests_total command=ADD outcome=refused reason=pool-empty": 1,
        "eniplug_requests_total command=DEL outcome=done reason=": 1,
        "eniplug_requests_total command=other outcome=refused reason=bad-request": 1,
    }
    assert found["eniplug_add_seconds_bucket le=0.005 outcome=done"] == 1
    assert found["eniplug_add_seconds_count outcome=done"] == 2
    assert found["eniplug_add_seconds_sum outcome=refused"] == 30


@pytest.mark.parametrize(
    ("seconds", "least"),
    [(0.0, "0.001"), (0.005, "0.005"), (30.0, "30.0"), (31, "+Inf")],
)
def test_an_add_is_in_the_buckets_that_are_not_less_than_it_took(
    seconds: float, least: str
) -> None:
    metrics = Metrics()

    metrics.answered("ADD", "", seconds)

    buckets = {
        name.split()[1].removeprefix("le="): count
        for name, count in samples(metrics).items()
        if name.startswith("eniplug_add_seconds_bucket")
    }
    names = list(buckets)
    assert [name for name in names if buckets[name]] == names[names.index(least) :]


def test_calls_of_ec2_are_counted_by_action_and_errors_by_reason_too() -> None:
    metrics = Metrics()

    metrics.called("CreateTags", None)
    metrics.called("CreateTags", ThrottledError("slowly"))

    assert samples(metrics) == {
        "eniplug_ec2_calls_total action=CreateTags": 2,
        "eniplug_ec2_errors_total action=CreateTags reason=throttled": 1,
    }


def test_what_plugins_did_is_counted_by_plugin() -> None:
    metrics, guard = Metrics(), Guard()
    metrics.watch_plugins(guard.told)
    moody = guard.conduct("moody")

    for _ in range(2):
        moody.admit()
        moody.ended("egress", 0.01)
    moody.failed("plugin 'moody': egress raised")
    moody.hung(1.0, "plugin 'moody': egress did not end")

    assert samples(metrics) == {
        "eniplug_plugin_calls_total plugin=moody": 2,
        "eniplug_plugin_errors_total plugin=moody": 1,
        "eniplug_plugin_timeouts_total plugin=moody": 1,
    }


def test_the_nodes_addresses_are_shown_as_they_are_at_that_moment(
    one: Reported,
) -> None:
    metrics = Metrics()
    metrics.watch(one.state, one.reporter.why_not_ready)
    one.attach(1)
    one.state.quarantine(PRIMARY.id, ADDRESSES[2], "test")

    found = samples(metrics)

    assert found["eniplug_addresses family=ipv4 state=assigned"] == 1
    assert found["eniplug_addresses family=ipv4 state=idle"] == 1
    assert found["eniplug_addresses family=ipv4 state=held"] == 1
    assert found["eniplug_addresses family=ipv6 state=idle"] == 0
    assert found[f"eniplug_eni_addresses eni={PRIMARY.id} state=assigned"] == 1
    assert found["eniplug_enis"] == 1
    assert found["eniplug_waiting_pods"] == 0
    assert found["eniplug_quarantined"] == 1
    assert found["eniplug_elastic_ips state=leaving"] == 0
    assert found["eniplug_ready"] == 1

    one.attach(2)
    assert samples(metrics)["eniplug_addresses family=ipv4 state=assigned"] == 2


def test_prefixes_are_counted_with_and_without_pods(one: Reported) -> None:
    metrics = Metrics()
    metrics.watch(one.state, one.reporter.why_not_ready)
    one.supply(ip_network("10.0.0.64/28"), ip_network("10.0.0.80/28"))
    one.attach(1, address=ip_network("10.0.0.64/28")[3])

    found = samples(metrics)

    assert found["eniplug_prefixes family=ipv4 state=used"] == 1
    assert found["eniplug_prefixes family=ipv4 state=unused"] == 1
    assert found["eniplug_prefixes family=ipv6 state=unused"] == 0


def test_a_node_that_can_have_no_more_pods_is_not_ready_for_one(one: Reported) -> None:
    metrics = Metrics()
    metrics.watch(one.state, one.reporter.why_not_ready)
    for number in range(3):
        one.attach(number)

    one.state.blocked(EniLimitError("full"))

    assert samples(metrics)["eniplug_ready"] == 0
