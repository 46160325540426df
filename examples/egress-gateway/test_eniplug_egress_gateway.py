from __future__ import annotations

from attrs import evolve
from eniplug_egress_gateway import TABLE, EgressGateway

from eniplug.hooks import NftElement, NftTable, Node
from eniplug.testing.builders import NODE, a_pod, an_allocation
from eniplug.testing.conformance import conformance

TestConformance = conformance(EgressGateway)


def text_of(plugin: EgressGateway, node: Node) -> str:
    (table,) = plugin.node_objects(node)
    assert isinstance(table, NftTable)
    return table.text


def test_a_pod_of_the_namespace_is_in_the_set() -> None:
    pod = a_pod(namespace="shop")

    declared = [*EgressGateway(namespace="shop").egress(pod, an_allocation(pod))]

    element = NftElement(family="ip", table=TABLE, set="pods", element="10.0.0.10")
    assert declared == [element]


def test_a_pod_of_another_namespace_is_not() -> None:
    pod = a_pod(namespace="other")

    assert [*EgressGateway(namespace="shop").egress(pod, an_allocation(pod))] == []


def test_what_goes_out_is_led_to_the_eni_and_translated_to_its_own_address() -> None:
    text = text_of(EgressGateway(), NODE)

    assert "meta mark set meta mark & 0xffffff00 | 0x2" in text
    assert 'oifname "ens6" ip saddr @pods ip daddr != @near snat to 10.0.0.5' in text


def test_without_the_eni_it_is_dropped() -> None:
    text = text_of(EgressGateway(), evolve(NODE, enis=NODE.enis[:1]))

    assert "ct direction original drop" in text
    assert "snat" not in text
