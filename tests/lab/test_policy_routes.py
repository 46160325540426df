"""With policy-routes a node looks as the AWS VPC CNI leaves it."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import pytest

from kit.labs import LabHand, a_lab, conflist, entry

pytestmark = [pytest.mark.root, pytest.mark.lab]

PLUGINS = ("secondary-ip", "pod-veth", "policy-routes", "snat")
MANY = [f"web-{number}" for number in range(11)]


@pytest.fixture(scope="module")
def lab() -> Iterator[LabHand]:
    settings = {"WARM_IP_TARGET": "1", "IP_COOLDOWN_PERIOD": "0"}
    with a_lab(
        "pr", nodes=1, conflist=conflist(entry(*PLUGINS)), environment=settings
    ) as lab:
        yield lab


def veth(pod: str) -> str:
    """The AWS VPC CNI's name of a pod's host link."""
    return "eni" + hashlib.sha1(f"default.{pod}".encode()).hexdigest()[:11]


def lines(text: str) -> list[str]:
    return [line.replace("\t", " ").rstrip() for line in text.splitlines()]


def test_rules_routes_and_names_are_those_of_the_aws_vpc_cni(lab: LabHand) -> None:
    addresses = lab.add(*MANY)
    (first, second) = lab.status()["nodes"][0]["enis"]
    of_second = [a for a in addresses.values() if a in second["addresses"]]
    assert of_second

    rules = lines(lab.inside("node1", "ip", "rule"))
    main = lines(lab.inside("node1", "ip", "route"))
    table = lines(lab.inside("node1", "ip", "route", "show", "table", "2"))

    own = second["addresses"][0]
    assert sorted(rules) == sorted(
        [
            "0: from all lookup local",
            *(f"512: from all to {a} lookup main" for a in addresses.values()),
            "1024: from all fwmark 0x80/0x80 lookup main",
            *(f"1536: from {a} lookup 2" for a in of_second),
            f"32765: from {own} lookup 2",
            "32766: from all lookup main",
            "32767: from all lookup default",
        ]
    )
    assert [line for line in main if " dev eni" in line] == sorted(
        (f"{a} dev {veth(pod)} scope link" for pod, a in addresses.items()),
        key=lambda line: tuple(map(int, line.split()[0].split("."))),
    )
    assert not [line for line in main if " dev ens6" in line]
    assert table == ["default via 10.0.0.1 dev ens6", "10.0.0.1 dev ens6 scope link"]
    assert first["addresses"][0] != own

    for pod in MANY[:2]:
        link = lab.inside("node1", "ip", "link", "show", veth(pod))
        assert " mtu 9001 " in link
        inside = lab.inside(pod, "ip", "route")
        assert lines(inside) == [
            "default via 169.254.1.1 dev eth0",
            "169.254.1.1 dev eth0 scope link",
        ]

    lab.remove(*MANY)
    left = lines(lab.inside("node1", "ip", "rule"))
    assert not [rule for rule in left if rule.startswith(("512:", "1536:"))]
    assert " dev eni" not in lab.inside("node1", "ip", "route")


def test_flat_routes_have_as_many_rules_for_any_number_of_pods() -> None:
    settings = {"WARM_IP_TARGET": "4"}
    with a_lab("fr", nodes=1, environment=settings) as lab:
        lab.add("one")
        few = lab.inside("node1", "ip", "rule")
        lab.add("two", "three", "four")

        assert lab.inside("node1", "ip", "rule") == few
        assert "512:\tfrom all lookup 512" in few
