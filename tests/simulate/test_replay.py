from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

import pytest

from eniplug.core.ec2 import Limits
from eniplug.core.settings import Settings
from eniplug.simulate.measures import Outcome
from eniplug.simulate.replay import MODES, Setup, replay
from eniplug.simulate.trace import DAY, PodTime, make_trace


def run(
    trace: tuple[PodTime, ...],
    policy: str = "packing",
    mode: str = "prefix-delegation",
    *,
    days: float = 2.0,
    enis: int = 8,
    environ: Mapping[str, str] = MappingProxyType({}),
) -> Outcome:
    setup = Setup(
        mode=mode,
        limits=Limits(max_enis=enis, ipv4_per_eni=30),
        settings=Settings.from_environ(environ),
        seed=1,
        days=days,
    )
    return replay(trace, policy, setup)


@pytest.mark.parametrize("policy", ["packing", "random"])
@pytest.mark.parametrize("mode", MODES)
def test_the_same_run_has_the_same_outcome(mode: str, policy: str) -> None:
    trace = make_trace(0.5, 40, seed=1)

    assert run(trace, policy, mode, days=0.5) == run(trace, policy, mode, days=0.5)


@pytest.mark.parametrize("mode", MODES)
def test_packing_holds_fewer_addresses_than_random_and_serves_the_same(
    mode: str,
) -> None:
    trace = make_trace(2, 60, seed=1)

    packing, by_chance = (run(trace, policy, mode) for policy in ("packing", "random"))

    in_use = [o.figures()["addresses_in_use_mean"] for o in (packing, by_chance)]
    assert in_use[0] == in_use[1]
    assert packing.mean(packing.meter.held) < 0.95 * by_chance.mean(
        by_chance.meter.held
    )


def test_one_pods_figures_are_what_can_be_counted_by_hand() -> None:
    trace = (PodTime(start=DAY / 4, end=DAY / 2, name="web"),)

    done = run(trace, days=1)

    figures = done.figures()
    assert figures["addresses_in_use_mean"] == 0.25
    assert figures["pods"] == 1
    # WARM_PREFIX_TARGET is 1: a second prefix comes with the pod, and goes after it.
    assert figures["prefixes_max"] == 2
    assert figures["prefixes_mean"] == pytest.approx(1.25, abs=0.01)
    assert figures["addresses_held_max"] == 32
    assert done.calls["AssignPrivateIpAddresses"] == 2
    assert done.calls["UnassignPrivateIpAddresses"] == 1


def test_a_pod_that_comes_before_any_address_waits_and_is_served() -> None:
    done = run((PodTime(start=0, end=DAY, name="early"),), days=0.5)

    assert (done.waited, done.unserved) == (1, 0)
    assert done.mean(done.meter.used) == pytest.approx(1, abs=0.001)


def test_pods_beyond_the_nodes_limits_wait_and_end_unserved() -> None:
    crowd = tuple(PodTime(start=60, end=600, name=f"p{n}") for n in range(40))

    done = run(crowd, mode="secondary-ip", days=0.1, enis=1)

    assert done.meter.used.most == 29
    assert (done.waited, done.unserved) == (11, 11)


def test_warm_targets_are_kept() -> None:
    pods = (PodTime(start=60, end=DAY, name="web"),)
    warm = {"WARM_IP_TARGET": "3", "MINIMUM_IP_TARGET": "8"}

    done = run(pods, mode="secondary-ip", days=1, environ=warm)

    assert done.figures()["addresses_held_max"] == 8
    assert done.meter.enis.most == 1
