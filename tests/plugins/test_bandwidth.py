from __future__ import annotations

import json
import os
import subprocess
from ipaddress import ip_interface
from typing import Any

import pytest

from eniplug.core.manager import Catalogue, Wanted
from eniplug.hooks import Allocation, Ifb, Nic, Object, Pod, Qdisc, Redirect
from eniplug.hooks.errors import ConfigError, OptionError, UnsupportedError
from eniplug.plugins.bandwidth import Bandwidth
from eniplug.testing.builders import a_pod, an_allocation

NOT_GIVEN = 2**32 - 1


def declared(pod: Pod, plugin: Bandwidth | None = None) -> tuple[Object, ...]:
    found = (plugin or Bandwidth()).setup_netns(pod, an_allocation(pod))
    return tuple(found)


def asked(**values: Any) -> Pod:
    """A pod for which the runtime asks for this."""
    return a_pod(runtime={"bandwidth": values})


def rates(pod: Pod, plugin: Bandwidth | None = None) -> tuple[int, int]:
    """Bits a second in and out; 0 is no limit."""
    found = {
        one.link[:3]: one.rate * 8
        for one in declared(pod, plugin)
        if isinstance(one, Qdisc) and one.discipline == "tbf"
    }
    return found.get("eni", 0), found.get("ifb", 0)


def bucket(**values: Any) -> Qdisc:
    (one,) = declared(asked(**values))
    assert isinstance(one, Qdisc)
    return one


def test_a_pod_that_nobody_limits_has_nothing() -> None:
    containerd = {"IngressRate": 0, "IngressBurst": 0, "EgressRate": 0}

    assert declared(a_pod()) == ()
    assert declared(a_pod(annotations={"team": "web"})) == ()
    assert declared(a_pod(runtime={"bandwidth": None})) == ()
    assert declared(asked(**containerd, EgressBurst=0)) == ()


def test_what_a_pod_receives_passes_a_bucket_on_its_host_link() -> None:
    pod = asked(ingressRate=10_000_000, ingressBurst=800_000)

    assert declared(pod) == (
        Qdisc(
            link=pod.host_ifname,
            discipline="tbf",
            rate=1_250_000,
            burst=100_000,
            limit=100_000 + 31_250,
        ),
    )


def test_what_a_pod_sends_passes_an_ifb() -> None:
    pod = asked(EgressRate=10_000_000, EgressBurst=NOT_GIVEN)
    ifb = "ifb" + pod.host_ifname.removeprefix("eni")

    assert declared(pod) == (
        Ifb(name=ifb, mac=pod.mac("ifb")),
        Qdisc(
            link=ifb, discipline="tbf", rate=1_250_000, burst=32768, limit=32768 + 31250
        ),
        Qdisc(link=pod.host_ifname, discipline="ingress"),
        Redirect(link=pod.host_ifname, to=ifb),
    )


def test_the_ifb_has_the_mtu_of_the_entry() -> None:
    pod = a_pod(
        mtu=1500, runtime={"bandwidth": {"egressRate": 8000, "egressBurst": 800_000}}
    )

    assert isinstance(ifb := declared(pod)[0], Ifb)
    assert ifb.mtu == 1500


@pytest.mark.parametrize("burst", [2**31 - 1, 2**32 - 1, 8 * (2**32 - 1) - 1])
@pytest.mark.parametrize(
    ("rate", "size"), [(1000, 32768), (10**6, 32768), (10**8, 62_500), (10**9, 625_000)]
)
def test_a_burst_that_means_not_given_is_ours(rate: int, size: int, burst: int) -> None:
    found = bucket(ingressRate=rate, ingressBurst=burst)

    assert (found.rate, found.burst) == (rate // 8, size)
    assert found.limit == size + rate // 8 * 25 // 1000


def test_a_burst_below_one_frame_is_one_frame() -> None:
    found = bucket(ingressRate=10**6, ingressBurst=8)

    assert found.burst == 9001 + 18
    assert found.limit == 32768 + 3125


@pytest.mark.parametrize(
    ("rate", "burst"),
    [(8, 8), (8000, 10**9), (10**18, NOT_GIVEN), (10**6, 8 * (2**32 - 1) - 9)],
)
def test_no_value_is_larger_than_the_kernel_can_keep(rate: int, burst: int) -> None:
    found = bucket(ingressRate=rate, ingressBurst=burst)

    assert found.burst * 10**9 // found.rate // 64 < 2**32
    assert found.burst < 2**32
    assert found.limit < 2**32


OPTIONS = Bandwidth(ingressRate=8_000_000, ingressBurst=NOT_GIVEN)
ANNOTATED = {
    "kubernetes.io/ingress-bandwidth": "2M",
    "kubernetes.io/egress-bandwidth": "3M",
}


def test_options_come_before_the_runtime_and_the_runtime_before_annotations() -> None:
    runtime = {"bandwidth": {"ingressRate": 16_000, "ingressBurst": 8000}}
    pod = a_pod(runtime=runtime, annotations=ANNOTATED)

    assert rates(pod) == (16_000, 3_000_000)
    assert rates(pod, OPTIONS) == (8_000_000, 3_000_000)
    assert rates(a_pod(annotations=ANNOTATED)) == (2_000_000, 3_000_000)
    assert rates(a_pod(annotations=None)) == (0, 0)


@pytest.mark.parametrize(
    ("text", "rate"),
    [
        ("1k", 1000),
        ("10M", 10_000_000),
        ("1.5M", 1_500_000),
        ("1Mi", 2**20),
        ("1e6", 1_000_000),
        ("2E6", 2_000_000),
        ("1P", 10**15),
        ("8000", 8000),
        ("8000000m", 8000),
    ],
)
def test_an_annotation_is_a_quantity(text: str, rate: int) -> None:
    pod = a_pod(annotations={"kubernetes.io/ingress-bandwidth": text})

    assert rates(pod) == (rate, 0)


@pytest.mark.parametrize(
    "text", ["", "fast", "10 M", "999", "1.1P", "-1M", "1KM", "NaN", "Infinity", "1E"]
)
def test_an_annotation_that_is_none_refuses_the_pod(text: str) -> None:
    pod = a_pod(annotations={"kubernetes.io/egress-bandwidth": text})

    with pytest.raises(ConfigError, match=r"egress-bandwidth.*1k to 1P"):
        declared(pod)


# What the reference plugin takes, and what it refuses with which words.
BAD: list[tuple[Any, str]] = [
    ({"ingressRate": 1000}, "if rate is set, burst must also be set"),
    ({"egressRate": 1000, "egressBurst": 0}, "if rate is set, burst must also be set"),
    ({"ingressBurst": 80_000}, "if burst is set, rate must also be set"),
    ({"egressRate": 0, "egressBurst": 8}, "if burst is set, rate must also be set"),
    (
        {"ingressRate": 10**6, "ingressBurst": 8 * (2**32 - 1)},
        "burst cannot be more than 4GB",
    ),
    ({"ingressRate": -1, "ingressBurst": 8000}, "no whole number"),
    ({"ingressRate": 8000, "ingressBurst": -8}, "no whole number"),
    ({"ingressRate": 2**64, "ingressBurst": 8000}, "no whole number"),
    ({"ingressRate": 1.5, "ingressBurst": 8000}, "no whole number"),
    ({"ingressRate": "5", "ingressBurst": 8000}, "no whole number"),
    ({"ingressRate": True, "ingressBurst": 8000}, "no whole number"),
    ({"ingressRate": 7, "ingressBurst": 8000}, "a byte"),
    ({"ingressRate": 8000, "ingressBurst": 7}, "a byte"),
    ([], "no object"),
    (5, "no object"),
]
GOOD: list[Any] = [
    None,
    {},
    {"ingressRate": None},
    {"INGRESSRATE": 8000, "ingressburst": 80_000},
    {"ingressRate": 500, "ingressBurst": 80_000},
    {"ingressRate": 10**6, "ingressBurst": 8 * (2**32 - 1) - 1},
    {"ingressRate": 8_000_000, "ingressBurst": 1_000_000},
]


@pytest.mark.parametrize(("bandwidth", "words"), BAD)
def test_a_bad_value_refuses_the_pod(bandwidth: Any, words: str) -> None:
    with pytest.raises(ConfigError, match=f"runtimeConfig.bandwidth: .*{words}"):
        declared(a_pod(runtime={"bandwidth": bandwidth}))


@pytest.mark.parametrize("bandwidth", GOOD)
def test_a_good_value_is_taken(bandwidth: Any) -> None:
    declared(a_pod(runtime={"bandwidth": bandwidth}))


REFERENCE = """
ip link set lo up
ip link add veth1 type veth peer name eth0
exec /usr/lib/cni/bandwidth
"""


def reference(bandwidth: Any) -> str:
    """What the reference plugin says; nothing when it is content."""
    done = subprocess.run(
        ["unshare", "-n", "sh", "-c", REFERENCE],
        env={
            "PATH": os.environ["PATH"],
            "CNI_COMMAND": "ADD",
            "CNI_CONTAINERID": "a",
            "CNI_IFNAME": "eth0",
            "CNI_NETNS": "/proc/self/ns/net",
            "CNI_PATH": "/usr/lib/cni",
        },
        input=json.dumps(
            {
                "cniVersion": "1.0.0",
                "name": "vpc",
                "type": "bandwidth",
                "runtimeConfig": {"bandwidth": bandwidth},
                "prevResult": {
                    "cniVersion": "1.0.0",
                    "interfaces": [{"name": "veth1"}, {"name": "eth0", "sandbox": "x"}],
                },
            }
        ),
        capture_output=True,
        text=True,
        timeout=20,
    )
    answer = json.loads(done.stdout)
    return str(answer.get("msg", ""))


@pytest.mark.root
def test_the_reference_plugin_answers_the_same() -> None:
    for bandwidth, words in BAD:
        said = reference(bandwidth)
        assert said, bandwidth
        assert words in said or words in {"no whole number", "a byte", "no object"}
    assert [said for good in GOOD if (said := reference(good))] == []


@pytest.mark.parametrize(
    ("options", "words"),
    [
        ({"ingressRate": 8000}, "if rate is set, burst must also be set"),
        ({"egressBurst": 8000}, "if burst is set, rate must also be set"),
        ({"egressRate": -1, "egressBurst": 8000}, "egress: rate -1 is no whole"),
        ({"egressRate": "8k", "egressBurst": 8000}, "wants int, not '8k'"),
        ({"egress_rate": 8000}, "did you mean 'egressRate'"),
    ],
)
def test_a_bad_option_is_refused_with_its_place(
    options: dict[str, Any], words: str
) -> None:
    with pytest.raises(OptionError, match=words):
        Catalogue().build([Wanted("bandwidth", options, "test: plugins[0]")])


def test_behind_a_main_plugin_without_a_host_link_a_limit_is_refused() -> None:
    pod = asked(ingressRate=8000, ingressBurst=80_000)
    nic = Nic(
        ifname="eth0",
        host_ifname="",
        mac="",
        host_mac="",
        addresses=(ip_interface("10.1.0.2/24"),),
    )

    with pytest.raises(UnsupportedError, match="no host link of 'eth0'"):
        tuple(Bandwidth().setup_netns(pod, Allocation(nics=(nic,))))
    assert not list(Bandwidth().setup_netns(a_pod(), Allocation(nics=(nic,))))
