from __future__ import annotations

import json
from collections.abc import Iterator
from ipaddress import IPv4Address, ip_network
from pathlib import Path

import pytest
from attrs import evolve

from eniplug.core import asks
from eniplug.core.parts import AttachmentKey
from eniplug.core.public import Standing, Subject, Told
from eniplug.core.report import SHOWN
from eniplug.core.subnets import SubnetState
from eniplug.hooks.errors import (
    DeniedError,
    PoolEmptyError,
    SubnetFullError,
    UnknownContainerError,
    VariableError,
)
from eniplug.testing.builders import ADDRESSES, NODE, PRIMARY, SECOND
from kit.reports import Reported
from kit.stores import stores


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Reported]:
    with stores(tmp_path) as made:
        yield Reported(made)


def why(one: Reported, about: str) -> list[dict[str, object]]:
    environ = {"ENIPLUG_ASK": "why", "ENIPLUG_ABOUT": about}
    found: list[dict[str, object]] = asks.answer(one.reporter, environ)["found"]
    return found


def test_a_pod_that_waits_is_told_with_its_place_in_the_line(one: Reported) -> None:
    one.state.queue(AttachmentKey("first", "eth0"))
    one.state.queue(AttachmentKey("second", "eth0"), pod=("web", "shop"))
    one.clock.advance(2.5)

    (told,) = why(one, "web/shop")

    assert (told["pod"], told["container"]) == ("web/shop", "second")
    assert told["refused"] is None
    facts = told["facts"]
    assert isinstance(facts, list)
    assert facts[0] == "waits for an address since 2.5 s, as number 2 in line"
    assert "pods that wait for an address: 2" in facts
    with pytest.raises(UnknownContainerError, match="no pod 'shopp'") as caught:
        why(one, "shopp")
    assert "web/shop" in caught.value.details


# -- status ----------------------------------------------------------------------------


def test_a_status_is_json_and_has_the_node_and_its_addresses(one: Reported) -> None:
    one.attach(0)

    said = one.reporter.status()

    assert json.loads(json.dumps(said)) == said
    assert said["not_ready"] is None
    assert said["entries"] == [
        {"type": "aws-cni", "plugins": ["secondary-ip", {"name": "pod-veth"}]},
        {"type": "egress-cni", "plugins": []},
    ]
    assert said["node"] == {"instance": "i-1", "type": "m5.large", "zone": "us-east-1a"}
    assert said["addresses"]["ipv4"] == {
        "total": 3,
        "assigned": 1,
        "cooling": 0,
        "idle": 2,
        "held": 0,
    }
    assert said["addresses"]["waiting"] == 0
    assert said["ec2"] is None
    assert said["targets"]["warm_eni"] == 1


def test_a_subnet_is_told_with_what_it_lacks(one: Reported) -> None:
    one.ec2.known = (SubnetState(id="subnet-1", free=200, lacks=("prefix",)),)

    assert one.reporter.status()["subnets"] == [
        {"id": "subnet-1", "free": 200, "lacks": ["prefix"]}
    ]


def test_an_enis_row_counts_addresses_prefixes_and_places(one: Reported) -> None:
    used, unused = ip_network("10.0.1.0/28"), ip_network("10.0.1.16/28")
    one.supply(used, unused)
    one.attach(0, address=used[3])

    (row,) = one.reporter.status()["enis"]

    assert row == {
        "id": "eni-1",
        "card": 0,
        "link": "ens5",
        "subnet": "",
        "assigned": 1,
        "cooling": 0,
        "idle": 34,
        "prefixes_used": 1,
        "prefixes": 2,
        "places_left": {"ipv4": 4, "ipv6": 0},
    }


def test_an_eni_that_comes_later_is_told_with_its_link(one: Reported) -> None:
    one.node = evolve(NODE, enis=(PRIMARY,))
    one.state.add_eni(SECOND, (9, 0), ADDRESSES[4:6])
    assert [e["link"] for e in one.reporter.status()["enis"]] == ["ens5", ""]

    one.node = NODE

    assert [e["link"] for e in one.reporter.status()["enis"]] == ["ens5", "ens6"]


def test_who_waits_is_counted(one: Reported) -> None:
    part = one.attach(0)
    one.state.queue(part.key)

    assert one.reporter.status()["addresses"]["waiting"] == 1
    assert "pods that wait for an address: 1" in one.reporter.facts()


def test_it_is_not_ready_once_all_is_taken_and_no_more_can_be_had(
    one: Reported,
) -> None:
    one.state.blocked(SubnetFullError("subnet-1 is full"))
    assert one.reporter.status()["not_ready"] is None
    for number in range(3):
        one.attach(number)

    assert one.reporter.status()["not_ready"] == {
        "reason": "subnet-full",
        "message": "subnet-1 is full",
        "remedy": SubnetFullError.remedy,
    }
    one.state.blocked(None)
    assert one.reporter.status()["not_ready"] is None


def test_trouble_with_ec2_is_told_with_its_age_and_the_pause(one: Reported) -> None:
    one.ec2.trouble = DeniedError("ec2:CreateNetworkInterface")
    one.ec2.trouble_at = one.clock()
    one.ec2.pause = 7.25
    one.clock.advance(2.5)

    assert one.reporter.status()["ec2"] == {
        "reason": "denied",
        "message": "ec2:CreateNetworkInterface",
        "remedy": DeniedError.remedy,
        "seconds_ago": 2.5,
        "pause": 7.2,
    }
    assert one.reporter.facts()[-1] == "EC2: is asked again in 7.2 s"


def test_what_is_in_quarantine_is_told_with_its_reason(one: Reported) -> None:
    one.state.quarantine("eni-1", ADDRESSES[0], "EC2 does not show it")

    said = one.reporter.status()

    assert said["addresses"]["ipv4"]["held"] == 1
    assert said["quarantined"] == [
        {
            "block": "10.0.0.10",
            "eni": "eni-1",
            "reason": "EC2 does not show it",
            "assigned": 0,
        }
    ]


def test_a_pods_public_address_is_told_or_why_it_is_not_there(one: Reported) -> None:
    part = one.attach(0)
    private = IPv4Address("10.0.0.10")
    subject = Subject(part.key, private)
    public = Told(IPv4Address("198.51.100.1"))

    def line(told: Told) -> str:
        one.state.elastic_ips_are(Standing({subject: told}, leaving=2))
        return one.reporter.chain(part)[-2]

    assert line(public) == "public address of 10.0.0.10: 198.51.100.1"
    assert line(Told()) == "public address of 10.0.0.10: on its way"
    assert line(Told(trouble=DeniedError("no AllocateAddress"))) == (
        "public address of 10.0.0.10: denied: no AllocateAddress; " + DeniedError.remedy
    )
    counts = {"there": 0, "lacking": 1, "leaving": 2}
    assert one.reporter.status()["elastic_ips"] == counts
    assert not [f for f in one.reporter.chain(one.attach(1)) if "public" in f]


def test_the_last_refusals_are_shown_newest_first(one: Reported) -> None:
    for number in range(SHOWN + 2):
        one.refuse(number, PoolEmptyError("none is free"))

    shown = [r["name"] for r in one.reporter.status()["refusals"]]

    assert shown == [f"web-{n}" for n in range(SHOWN + 1, 1, -1)]


# -- why -------------------------------------------------------------------------------


def test_a_chain_goes_from_the_pod_to_ec2(one: Reported) -> None:
    eni = evolve(PRIMARY, subnet="subnet-1")
    one.state.add_eni(eni, (9, 0), ())
    one.ec2.known = (
        SubnetState(id="subnet-1", free=200, lacks=("prefix",)),
        SubnetState(id="subnet-2", free=None, lacks=()),
    )

    lines = one.reporter.chain(one.attach(0))

    assert lines == (
        "pod default/web-0, container c0, eth0: live, 10.0.0.10,"
        f" host link {one.state.parts()[0].pod.host_ifname}",
        "node i-1: m5.large in us-east-1a",
        "addresses IPv4: 1 assigned, 0 cooling, 2 idle, 0 held",
        "ENI eni-1: link ens5, 1 assigned, 0 cooling, 2 idle, places left 6",
        "address 10.0.0.10: a single one",
        "subnet subnet-1: 200 free when listed; had no prefixes left",
        "EC2: no call has failed",
    )


def test_an_address_of_a_prefix_is_told_with_the_prefix(one: Reported) -> None:
    prefix = ip_network("10.0.1.0/28")
    one.supply(prefix)
    part = one.attach(0, address=prefix[3])
    line = "prefix 10.0.1.0/28: 1 assigned, 0 cooling, 15 idle"
    assert line in one.reporter.chain(part)

    one.state.quarantine("eni-1", prefix, "EC2 does not show it")

    held = "prefix 10.0.1.0/28: of 10.0.1.3; in quarantine: EC2 does not show it"
    assert held in one.reporter.chain(part)


@pytest.mark.parametrize("about", ["default/web-1", "web-1", "c1"])
def test_a_pod_is_found_by_any_of_its_names(one: Reported, about: str) -> None:
    one.attach(0)
    one.attach(1)

    (found,) = why(one, about)

    assert (found["pod"], found["container"]) == ("default/web-1", "c1")
    assert found["refused"] is None


def test_a_beginning_finds_all_containers_that_have_it(one: Reported) -> None:
    one.attach(0)
    one.attach(1)

    assert [found["container"] for found in why(one, "c")] == ["c0", "c1"]


def test_a_refused_pod_has_the_facts_of_that_moment(one: Reported) -> None:
    one.refuse(7, SubnetFullError("subnet-1 is full"))
    one.attach(0)

    (found,) = why(one, "web-7")

    assert found == why(one, "last")[0]
    assert found["refused"] == {
        "when": 1_764_000_000.0,
        "reason": "subnet-full",
        "message": "subnet-1 is full",
        "remedy": SubnetFullError.remedy,
    }
    facts = found["facts"]
    assert isinstance(facts, list)
    assert "addresses IPv4: 0 assigned, 0 cooling, 3 idle, 0 held" in facts


def test_a_pod_that_came_after_a_refusal_is_told_with_it(one: Reported) -> None:
    one.refuse(0, PoolEmptyError("none is free"))
    one.attach(0)

    running, refused = why(one, "web-0")

    assert (running["refused"], refused["refused"] is None) == (None, False)


def test_without_refusals_there_is_no_last_one(one: Reported) -> None:
    assert why(one, "last") == []


def test_an_unknown_pod_is_an_error_that_names_near_ones(one: Reported) -> None:
    one.attach(0)
    one.refuse(7, PoolEmptyError("none is free"))

    with pytest.raises(UnknownContainerError, match="'wbe-7'") as caught:
        why(one, "wbe-7")

    assert "default/web-7" in caught.value.details


@pytest.mark.parametrize("about", ["", "zzz"])
def test_without_a_near_name_the_error_names_some(one: Reported, about: str) -> None:
    one.attach(0)

    with pytest.raises(UnknownContainerError) as caught:
        why(one, about)

    assert caught.value.details.endswith("pods here: default/web-0")


def test_an_unknown_question_is_an_error(one: Reported) -> None:
    with pytest.raises(VariableError, match="'weather'"):
        asks.answer(one.reporter, {"ENIPLUG_ASK": "weather"})


def test_why_names_the_plugin_that_a_pod_goes_without(one: Reported) -> None:
    part = evolve(one.attach(0), skipped=("plugin 'acme': egress raised OSError()",))

    lines = one.reporter.chain(part)

    assert "goes without: plugin 'acme': egress raised OSError()" in lines
