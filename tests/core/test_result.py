from __future__ import annotations

from ipaddress import ip_address, ip_interface, ip_network

import pytest
from attrs import evolve

from eniplug.core.result import allocation_of, result_of
from eniplug.hooks import Address, Allocation, Eni, Lease, Object, Pod, Route, Veth
from eniplug.hooks.errors import ConfigError, DecodeError

POD = Pod(container_id="c1", ifname="eth0", network="vpc")
ALLOCATION = Allocation.of(
    POD,
    Lease(
        address=ip_address("10.0.0.7"),
        eni=Eni(id="eni-1", link="ens5", mac="02:00:00:00:00:05", device=0),
    ),
)
GATEWAY = ip_address("169.254.1.1")
OBJECTS: tuple[Object, ...] = (
    Veth(
        name="eni1", peer="eth0", mac="02:00:00:00:00:01", peer_mac="02:00:00:00:00:02"
    ),
    Address(link="eth0", address=ip_interface("10.0.0.7/32")),
    Route(destination=ip_network("169.254.1.1/32"), link="eth0"),
    Route(destination=ip_network("0.0.0.0/0"), link="eth0", via=GATEWAY),
)
PREV = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "veth1", "mac": "02:00:00:00:00:03"},
        {"name": "eth0", "mac": "02:00:00:00:00:04", "sandbox": "/run/netns/x"},
    ],
    "ips": [{"interface": 1, "address": "10.1.0.2/24", "gateway": "10.1.0.1"}],
    "routes": [{"dst": "0.0.0.0/0"}],
    "dns": {"nameservers": ["10.0.0.2"]},
}


def test_a_result_is_read_off_the_objects() -> None:
    result = result_of(OBJECTS, POD, ALLOCATION, "/run/netns/x")

    assert result == {
        "interfaces": [
            {"name": "eni1", "mac": "02:00:00:00:00:01", "mtu": 9001},
            {
                "name": "eth0",
                "mac": "02:00:00:00:00:02",
                "mtu": 9001,
                "sandbox": "/run/netns/x",
            },
        ],
        "ips": [{"address": "10.0.0.7/32", "interface": 1, "gateway": "169.254.1.1"}],
        "routes": [
            {"dst": "169.254.1.1/32"},
            {"dst": "0.0.0.0/0", "gw": "169.254.1.1"},
        ],
    }


def test_of_a_way_out_only_the_links_are_told() -> None:
    way: tuple[Object, ...] = (
        Veth(
            name="eni2",
            peer="v4if0",
            mac="02:00:00:00:00:03",
            peer_mac="02:00:00:00:00:04",
        ),
        Address(link="v4if0", address=ip_interface("169.254.172.2/32")),
        Route(destination=ip_network("0.0.0.0/0"), link="v4if0", via=GATEWAY, metric=1),
    )

    plain = result_of(OBJECTS, POD, ALLOCATION, "/run/netns/x")
    told = result_of((*OBJECTS, *way), POD, ALLOCATION, "/run/netns/x")

    links = told.pop("interfaces")
    assert [link["name"] for link in links] == ["eni1", "eth0", "eni2", "v4if0"]
    assert told == {key: plain[key] for key in ("ips", "routes")}


def test_prev_result_is_passed_on_and_added_to() -> None:
    pod, before = evolve(POD, prev=PREV), repr(PREV)

    assert result_of((), pod, ALLOCATION, "/run/netns/x") == PREV
    added = result_of(OBJECTS, pod, ALLOCATION, "/run/netns/x")
    assert added["ips"][1]["interface"] == 3
    assert repr(PREV) == before


def test_a_foreign_plugins_allocation_is_read_from_prev_result() -> None:
    (nic,) = allocation_of(evolve(POD, prev=PREV)).nics

    assert nic.host_ifname == "veth1"
    assert nic.mac == "02:00:00:00:00:04"
    assert nic.addresses == (ip_interface("10.1.0.2/24"),)
    assert nic.gateways == (ip_address("10.1.0.1"),)
    assert nic.eni is None


def test_without_prev_result_an_entry_needs_an_address_plugin() -> None:
    with pytest.raises(ConfigError, match="no address plugin"):
        allocation_of(POD)


@pytest.mark.parametrize(
    "prev",
    [
        {},
        {"interfaces": [{"name": "eth1", "sandbox": "/x"}]},
        {"interfaces": [{"name": "eth0"}]},
        PREV | {"ips": [{"interface": 1, "address": "nonsense"}]},
    ],
)
def test_a_prev_result_that_does_not_tell_of_the_pod_is_refused(
    prev: dict[str, object],
) -> None:
    with pytest.raises(DecodeError):
        allocation_of(evolve(POD, prev=prev))
