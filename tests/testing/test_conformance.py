"""Every built-in plugin keeps the laws."""

from __future__ import annotations

from eniplug.hooks import Pod
from eniplug.plugins.egress_v4 import EgressV4
from eniplug.plugins.egress_v6 import EgressV6
from eniplug.plugins.flat_routes import FlatRoutes
from eniplug.plugins.host_ports import HostPorts
from eniplug.plugins.pod_veth import PodVeth
from eniplug.plugins.policy_routes import PolicyRoutes
from eniplug.plugins.prefix_delegation import PrefixDelegation
from eniplug.plugins.secondary_ip import SecondaryIp
from eniplug.plugins.snat import Snat
from eniplug.testing.builders import a_pod, a_six_allocation, an_allocation
from eniplug.testing.conformance import Conformance, conformance


def asking(number: int) -> Pod:
    """A pod that asks for a TCP and a UDP port of its own."""
    ports = [
        {"hostPort": 8080 + number, "containerPort": 80, "protocol": "tcp"},
        {"hostPort": 53 + number, "containerPort": 53, "protocol": "udp"},
    ]
    return a_pod(number, slot=number, mtu=1500, runtime={"portMappings": ports})


ASKING = [asking(number) for number in range(2)]
PODS = [a_pod(n, slot=n, mtu=1500) for n in range(2)]

TestSecondaryIp = conformance(SecondaryIp)
TestPrefixDelegation = conformance(PrefixDelegation)
TestPodVeth = conformance(PodVeth)
TestFlatRoutes = conformance(FlatRoutes)
TestPolicyRoutes = conformance(PolicyRoutes)
TestSnat = conformance(Snat)


class TestEgressV4(Conformance):
    plugin = EgressV4()
    cases = tuple((pod, a_six_allocation(pod, pod.slot)) for pod in PODS)
    beside = ("pod-veth", "flat-routes")


class TestEgressV6(Conformance):
    plugin = EgressV6()
    cases = tuple((pod, an_allocation(pod, pod.slot)) for pod in PODS)
    beside = ("pod-veth", "flat-routes")


class TestHostPorts(Conformance):
    plugin = HostPorts()
    cases = tuple((pod, an_allocation(pod, pod.slot)) for pod in ASKING)
