from __future__ import annotations

from ipaddress import IPv4Address

import pytest
from eniplug_pod_eip import ANNOTATION, TABLE, PodEip

from eniplug.hooks import ElasticIp, NftElement, NftTable
from eniplug.testing.builders import (
    NODE,
    SECOND,
    a_dual_allocation,
    a_pod,
    a_six_allocation,
    an_allocation,
)
from eniplug.testing.conformance import conformance

TestConformance = conformance(PodEip(namespaces="all"))


def test_a_pod_of_the_namespaces_gets_an_address_and_is_in_the_set() -> None:
    pod = a_pod(namespace="shop")
    plugin = PodEip(namespaces="web, shop", waited=True)

    declared = [*plugin.egress(pod, a_dual_allocation(pod, 0, SECOND))]

    assert declared == [
        ElasticIp(private=IPv4Address("10.0.0.10"), eni="eni-2", waited=True),
        NftElement(family="ip", table=TABLE, set="pods", element="10.0.0.10"),
    ]


@pytest.mark.parametrize(
    ("namespaces", "namespace", "annotations", "gets"),
    [
        ("", "shop", None, False),
        ("", "", None, False),
        ("web", "shop", None, False),
        ("all", "shop", None, True),
        ("all", "shop", {ANNOTATION: "false"}, False),
        ("", "shop", {ANNOTATION: "true"}, True),
        ("shop", "shop", {"other": "false"}, True),
    ],
)
def test_namespaces_and_the_pod_itself_choose(
    namespaces: str,
    namespace: str,
    annotations: dict[str, str] | None,
    gets: bool,
) -> None:
    pod = a_pod(namespace=namespace, annotations=annotations)

    declared = [*PodEip(namespaces=namespaces).egress(pod, an_allocation(pod))]

    assert bool(declared) is gets


def test_a_pod_with_ipv6_alone_gets_none() -> None:
    pod = a_pod()

    assert [*PodEip(namespaces="all").egress(pod, a_six_allocation(pod))] == []


def test_what_goes_out_is_led_to_the_pods_own_eni_and_keeps_its_source() -> None:
    (table,) = PodEip().node_objects(NODE)

    assert isinstance(table, NftTable)
    assert f"iifgroup {0xE001} meta mark set meta mark & 0xffffff00 | 0x0" in table.text
    assert f"iifgroup {0xE002} meta mark set meta mark & 0xffffff00 | 0x2" in table.text
    assert "ip daddr != @near snat to ip saddr" in table.text
