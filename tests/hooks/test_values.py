from __future__ import annotations

import doctest
import re
from ipaddress import ip_address, ip_interface, ip_network

import pytest
from attrs import evolve
from attrs.exceptions import FrozenInstanceError

from eniplug.hooks import Allocation, EniView, Lease, Nic, NodeSettings, Pod, values
from eniplug.hooks.errors import UnsupportedError
from eniplug.testing.builders import NODE, PRIMARY, SECOND, a_pod

UNNAMED = Pod(container_id="c0ffee", ifname="eth0", network="vpc")


# -- pods ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("namespace", "name", "digits"),
    [
        ("default", "web-0", "0d7763386da"),
        ("kube-system", "coredns-57ff979f67-qqbdh", "b5faff8a083"),
    ],
)
def test_the_host_link_is_named_as_the_aws_vpc_cni_names_it(
    namespace: str, name: str, digits: str
) -> None:
    pod = a_pod(namespace=namespace, name=name)

    assert pod.host_ifname == f"eni{digits}"
    assert evolve(pod, veth_prefix="veth").host_ifname == f"veth{digits}"


def test_each_interface_of_a_pod_has_a_host_link_of_its_own() -> None:
    first = a_pod()
    second = evolve(first, ifname="net1")

    assert first.host_ifname != second.host_ifname


def test_further_interfaces_have_the_aws_vpc_cnis_names() -> None:
    pod = Pod(
        container_id="c",
        ifname="eth0",
        network="vpc",
        namespace="default",
        name="web-0",
    )

    assert [pod.ifname_of(index) for index in (0, 1, 2)] == [
        "eth0",
        "mNicIf1",
        "mNicIf2",
    ]
    # printf default.web-0.1 | sha1sum
    assert pod.host_ifname_of(1) == "enib813f772d20"
    assert pod.host_ifname_of(0) == pod.host_ifname == "eni0d7763386da"


@pytest.mark.parametrize(
    ("annotations", "expected"),
    [
        (None, False),
        ({}, False),
        ({"k8s.amazonaws.com/nicConfig": "multi-nic-attachment"}, True),
        ({"k8s.amazonaws.com/nicConfig": "true"}, False),
    ],
)
def test_a_pod_asks_for_every_card_by_awss_annotation(
    annotations: dict[str, str] | None, expected: bool
) -> None:
    assert evolve(UNNAMED, annotations=annotations).wants_every_card is expected


def test_a_pods_host_link_does_not_depend_on_its_container() -> None:
    pod = a_pod()

    assert evolve(pod, container_id="other").host_ifname == pod.host_ifname


@pytest.mark.parametrize("pod", [a_pod(namespace=""), a_pod(name="")])
def test_a_pod_without_a_name_is_told_by_its_container(pod: Pod) -> None:
    assert evolve(pod, container_id="other").host_ifname != pod.host_ifname
    assert evolve(pod, ifname="net1").host_ifname != pod.host_ifname


def test_a_host_link_name_fits_the_kernel() -> None:
    assert re.fullmatch(
        r"veth[0-9a-f]{11}", evolve(UNNAMED, veth_prefix="veth").host_ifname
    )


def test_a_mac_is_local_unicast_and_always_the_same() -> None:
    mac = UNNAMED.mac("pod")

    assert re.fullmatch(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}", mac)
    assert int(mac[:2], 16) & 0b11 == 0b10
    assert mac == evolve(UNNAMED, namespace="default", name="web").mac("pod")


def test_macs_differ_by_salt_interface_and_container() -> None:
    others = (evolve(UNNAMED, ifname="net1"), evolve(UNNAMED, container_id="d"))

    macs = [UNNAMED.mac("pod"), UNNAMED.mac("host"), *(o.mac("pod") for o in others)]

    assert len(set(macs)) == 4


@pytest.mark.parametrize(
    "runtime",
    [
        {"bandwidth": {"ingressRate": 8000}},
        {"bandwidth": {"IngressRate": 8000}},
        {"Bandwidth": {"INGRESSRATE": 8000}},
    ],
)
def test_runtime_config_is_read_without_regard_to_case(
    runtime: dict[str, dict[str, int]],
) -> None:
    pod = a_pod(runtime=runtime)

    assert pod.given("bandwidth", "ingressRate") == 8000


@pytest.mark.parametrize(
    "path",
    [("ips",), ("bandwidth", "burst"), ("bandwidth", "ingressRate", "deeper")],
)
def test_what_the_runtime_did_not_give_is_none(path: tuple[str, ...]) -> None:
    pod = a_pod(runtime={"bandwidth": {"ingressRate": 8000}})

    assert pod.given(*path) is None


def test_the_whole_runtime_config_is_given_without_a_path() -> None:
    assert a_pod(runtime={"ips": ["10.0.0.9/24"]}).given() == {"ips": ["10.0.0.9/24"]}


def test_pods_are_compared_by_value_and_do_not_change() -> None:
    pod = a_pod()
    _ = pod.host_ifname  # is kept once it was asked for

    assert pod == a_pod()
    assert pod != a_pod(slot=1)
    with pytest.raises(FrozenInstanceError):
        pod.slot = 1  # type: ignore[misc]


# -- allocations -----------------------------------------------------------------------


def test_an_allocation_has_every_lease_on_one_interface() -> None:
    pod = a_pod()
    four = Lease(address=ip_address("10.0.0.7"), eni=SECOND)
    six = Lease(address=ip_address("2001:db8::7"), eni=SECOND)

    allocation = Allocation.of(pod, four, six)

    nic = Nic(
        ifname="eth0",
        host_ifname=pod.host_ifname,
        mac=pod.mac("pod"),
        host_mac=pod.mac("host"),
        addresses=(ip_interface("10.0.0.7/32"), ip_interface("2001:db8::7/128")),
        gateways=(ip_address("169.254.1.1"), ip_address("fe80::1")),
        eni=SECOND,
        index=0,
    )
    assert allocation == Allocation(nics=(nic,))
    assert hash(allocation) == hash(Allocation(nics=(nic,)))


def test_an_allocation_of_cards_has_an_interface_for_each_lease() -> None:
    other = evolve(PRIMARY, id="eni-9", card=1)
    leases = [
        Lease(address=ip_address("10.0.0.7"), eni=PRIMARY),
        Lease(address=ip_address("10.0.0.8"), eni=other),
    ]

    first, second = Allocation.of_cards(UNNAMED, leases).nics

    assert Allocation(nics=(first,)) == Allocation.of(UNNAMED, leases[0])
    assert (second.index, second.ifname, second.eni) == (1, "mNicIf1", other)
    assert second.host_ifname == UNNAMED.host_ifname_of(1) != first.host_ifname
    assert [str(one) for one in second.gateways] == ["169.254.1.2"]
    assert len({first.mac, first.host_mac, second.mac, second.host_mac}) == 4


def test_addresses_of_two_enis_are_refused() -> None:
    leases = [
        Lease(address=ip_address("10.0.0.7"), eni=PRIMARY),
        Lease(address=ip_address("10.0.0.8"), eni=SECOND),
    ]

    with pytest.raises(UnsupportedError, match=r"\['eni-1', 'eni-2'\]"):
        Allocation.of(a_pod(), *leases)


def test_no_address_is_refused() -> None:
    with pytest.raises(UnsupportedError, match=r"\[\]"):
        Allocation.of(a_pod())


# -- ENIs and the node -----------------------------------------------------------------


def test_only_the_first_device_of_the_first_card_is_primary() -> None:
    assert PRIMARY.primary
    assert not evolve(PRIMARY, device=1).primary
    assert not evolve(PRIMARY, card=1).primary


def test_an_eni_tells_its_address_and_router_of_a_family() -> None:
    six = ip_interface("2001:db8::5/64")
    router = ip_address("fe80::1")
    both = evolve(
        SECOND,
        addresses=(*SECOND.addresses, six),
        gateways=(*SECOND.gateways, router),
    )

    assert both.address(4) == ip_interface("10.0.0.5/24")
    assert both.gateway(4) == ip_address("10.0.0.1")
    assert (both.address(6), both.gateway(6)) == (six, router)
    assert (SECOND.address(6), SECOND.gateway(6)) == (None, None)


def test_the_first_eni_is_the_primary_one() -> None:
    assert NODE.primary is PRIMARY


def test_near_is_the_vpc_and_what_is_excluded_once_and_in_order() -> None:
    vpc, excluded = ip_network("10.0.0.0/16"), ip_network("10.0.0.0/8")
    six, first = ip_network("2001:db8::/56"), ip_network("9.0.0.0/8")
    settings = NodeSettings(exclude_snat_cidrs=(excluded, vpc, first))
    node = evolve(NODE, vpc_cidrs=(six, vpc), settings=settings)

    assert node.near == (first, excluded, vpc, six)


def test_settings_begin_as_awss_do() -> None:
    assert NodeSettings() == NodeSettings(
        external_snat=False,
        exclude_snat_cidrs=(),
        external_service_cidrs=(),
        randomize_snat="prng",
        node_port_support=True,
        connmark=0x80,
        eni_mtu=9001,
    )


def test_an_enis_total_is_all_that_pods_may_have() -> None:
    view = EniView(
        id="eni-1",
        primary=True,
        assigned=3,
        cooling=2,
        idle=(ip_address("10.0.0.7"),),
        slots=4,
        age=1.0,
    )

    assert view.total == 6


def test_the_examples_of_the_docstrings_are_true() -> None:
    results = doctest.testmod(values)

    assert results.attempted > 0
    assert results.failed == 0
