from __future__ import annotations

from ipaddress import ip_address

from eniplug.cni.protocol import to_version
from eniplug.core.aws_result import egress_result, main_result
from eniplug.hooks import Allocation, Eni, Lease, Pod

POD = Pod(
    container_id="c1", ifname="eth0", network="vpc", namespace="default", name="web-0"
)


def test_a_pods_result_has_what_the_aws_vpc_cni_finds_at_del() -> None:
    second = Eni(id="eni-2", link="ens6", mac="02:00:00:00:00:02", device=1, table=2)
    lease = Lease(address=ip_address("10.0.1.15"), eni=second)

    result = main_result(Allocation.of(POD, lease), "/var/run/netns/x")

    assert to_version(result, "0.4.0") == {
        "cniVersion": "0.4.0",
        "interfaces": [
            {"name": "eni0d7763386da"},
            {"name": "eth0", "mac": "2", "sandbox": "/var/run/netns/x"},
            {"name": "dummy0d7763386da", "mac": "0", "sandbox": "1"},
        ],
        "ips": [{"version": "4", "interface": 1, "address": "10.0.1.15/32"}],
        "dns": {},
    }


def test_a_pod_of_the_primary_eni_names_the_main_table() -> None:
    primary = Eni(id="eni-1", link="ens5", mac="02:00:00:00:00:01", device=0)
    lease = Lease(address=ip_address("2600:1f14::7"), eni=primary)

    result = main_result(Allocation.of(POD, lease), "/x")

    assert result["interfaces"][1]["mac"] == "254"
    assert result["interfaces"][2]["sandbox"] == "0"
    assert result["ips"] == [{"address": "2600:1f14::7/128", "interface": 1}]


def test_a_way_out_adds_its_interfaces_and_no_address() -> None:
    prev = {"interfaces": [{"name": "a"}], "ips": [{"address": "fd::1/128"}]}
    more = {"name": "v4if0", "sandbox": "/x"}
    ours = {
        "interfaces": [{"name": "a"}, more],
        "ips": [{"address": "fd::1/128"}, {"address": "169.254.172.2/32"}],
        "routes": [{"dst": "0.0.0.0/0"}],
    }

    assert egress_result(ours, prev) == {**prev, "interfaces": [{"name": "a"}, more]}
