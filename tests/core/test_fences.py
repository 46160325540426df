from __future__ import annotations

from ipaddress import IPv4Address, ip_address, ip_interface, ip_network

import pytest

from eniplug.core.fences import PodFence, node_fence
from eniplug.hooks import (
    HOST,
    POD,
    Address,
    Allocation,
    Claim,
    ElasticIp,
    Eni,
    Lease,
    LinkState,
    Neighbor,
    NftElement,
    NftTable,
    Node,
    Object,
    Pod,
    Route,
    Rule,
    StaleFlows,
    Sysctl,
    Veth,
)

POD_1 = Pod(container_id="c1", ifname="eth0", network="vpc")
MINE = POD_1.host_ifname
OTHERS = Pod(container_id="c2", ifname="eth0", network="vpc").host_ifname
ENI = Eni(
    id="eni-1",
    link="ens5",
    mac="02:00:00:00:00:01",
    device=0,
    addresses=(ip_interface("10.0.0.4/24"),),
)
ALLOCATION = Allocation.of(POD_1, Lease(address=ip_address("10.0.0.7"), eni=ENI))
NODE = Node(
    instance_id="i-1",
    instance_type="m5.large",
    region="r",
    zone="a",
    vpc_cidrs=(ip_network("10.0.0.0/16"),),
    enis=(ENI,),
)
MAC = "02:00:00:00:00:02"
ME = ip_network("10.0.0.7/32")
EXTRA = ip_interface("169.254.172.2/32")
DECLARED: tuple[Object, ...] = (
    Veth(name="v4host", peer="v4if0", mac=MAC, peer_mac=MAC),
    Address(link="v4if0", address=EXTRA),
)


def fence(one: Object) -> str:
    return PodFence.of((*DECLARED, one), ALLOCATION, NODE)(one)


@pytest.mark.parametrize(
    "one",
    [
        LinkState(link=MINE, setting="mtu", value=1500),
        LinkState(link="v4host", setting="group", value=1),
        LinkState(link="lo", setting="up", value=1, side=POD),
        Sysctl(path=f"net/ipv6/conf/{MINE}/forwarding", value="1"),
        Sysctl(path="net/core/somaxconn", value="1", side=POD),
        Address(link="eth0", address=ip_interface("10.0.0.7/32")),
        Address(link="eth0", address=ip_interface("192.168.0.7/32")),
        Address(link=MINE, address=ip_interface("10.0.0.4/32"), side=HOST),
        Neighbor(link=MINE, address=ip_address("10.0.0.7"), mac=MAC, side=HOST),
        Route(destination=ME, link=MINE, side=HOST),
        Route(destination=EXTRA.network, link="v4host", table=512, side=HOST),
        Route(destination=ip_network("0.0.0.0/0"), link="eth0"),
        Rule(priority=1, table=2, src=ME),
        Rule(priority=1, table=2, dst=ME),
        Rule(priority=1, table=2, iif=MINE),
        Rule(priority=1, table=2, side=POD),
        Claim(what="host port 80/tcp"),
        ElasticIp(private=IPv4Address("10.0.0.7"), eni="eni-1"),
        NftElement(family="inet", table="acme", set="ports", element="tcp . 80"),
        StaleFlows(family=4, protocol="udp", port=53),
    ],
    ids=str,
)
def test_what_is_the_pods_may_be_declared(one: Object) -> None:
    assert fence(one) == ""


@pytest.mark.parametrize(
    ("one", "words"),
    [
        (LinkState(link=OTHERS, setting="mtu", value=1500), "not the pod's"),
        (LinkState(link="ens5", setting="mtu", value=1500), "link ens5"),
        (Sysctl(path="net/ipv4/ip_forward", value="1"), "node_objects"),
        (Sysctl(path=f"net/ipv4/conf/{OTHERS}/rp_filter", value="0"), "node_objects"),
        (Sysctl(path="net/ipv4/conf/all/rp_filter", value="0"), "node_objects"),
        (Address(link="eth0", address=ip_interface("10.0.0.8/32")), "10.0.0.8"),
        (Address(link="eth0", address=ip_interface("10.0.0.4/32")), "10.0.0.4"),
        (
            Address(link="ens5", address=ip_interface("10.0.0.4/32"), side=HOST),
            "link ens5",
        ),
        (
            Neighbor(link="ens5", address=ip_address("10.0.0.7"), mac=MAC, side=HOST),
            "link ens5",
        ),
        (Route(destination=ME, link=OTHERS, side=HOST), "not the pod's"),
        (
            Route(destination=ip_network("10.0.0.8/32"), link=MINE, side=HOST),
            "address of its own",
        ),
        (
            Route(destination=ip_network("0.0.0.0/0"), link=MINE, side=HOST),
            "address of its own",
        ),
        (Rule(priority=1, table=2), "names its address"),
        (Rule(priority=1, table=2, src=ip_network("10.0.0.0/24")), "names its address"),
        (Rule(priority=1, table=2, iif="ens5"), "names its address"),
        (NftTable(family="inet", name="acme", text=""), "node_objects"),
        (ElasticIp(private=IPv4Address("10.0.0.8"), eni="eni-1"), "not given"),
        (ElasticIp(private=IPv4Address("10.0.0.7"), eni="eni-2"), "not given"),
    ],
    ids=str,
)
def test_what_is_anothers_or_the_nodes_is_not_the_pods(one: Object, words: str) -> None:
    assert words in fence(one)


@pytest.mark.parametrize(
    "one",
    [
        Sysctl(path="net/ipv4/ip_forward", value="1", side=POD),
        Claim(what="host port 80/tcp"),
        StaleFlows(family=4, protocol="udp", port=53),
        ElasticIp(private=IPv4Address("10.0.0.7"), eni="eni-1"),
        Veth(name="v4host", peer="v4if0", mac=MAC, peer_mac=MAC),
    ],
    ids=str,
)
def test_what_is_a_pods_is_not_the_nodes(one: Object) -> None:
    assert node_fence(one)


def test_the_node_may_have_what_pods_share() -> None:
    assert node_fence(Sysctl(path="net/ipv4/ip_forward", value="1")) == ""
    assert node_fence(NftTable(family="inet", name="acme", text="")) == ""
