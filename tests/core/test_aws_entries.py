from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from eniplug.cni.conflist import parse_conflist
from eniplug.cni.errors import CniError
from eniplug.cni.protocol import parse_config
from eniplug.core.entries import own_entries, plugins_of, plugins_to_remove
from eniplug.core.settings import Settings
from eniplug.hooks.errors import ConfigError

EXAMPLE = Path(__file__).parents[2] / "examples" / "conflists" / "aws.conflist"

IPV6 = {"ENABLE_IPv4": "false", "ENABLE_IPv6": "true", "ENABLE_PREFIX_DELEGATION": "1"}
V4_RANGE = {"type": "host-local", "ranges": [[{"subnet": "169.254.172.0/22"}]]}
V6_RANGE = {"type": "host-local", "ranges": [[{"subnet": "fd00::ac:00/118"}]]}
V4_WAY = {"name": "egress-v4", "subnet": "169.254.172.0/22"}
V6_WAY = {"name": "egress-v6", "subnet": "fd00::ac:0/118"}

LIST = ("pod-veth", "policy-routes")
IPV6_PREFIXES = {"name": "prefix-delegation", "family": "ipv6"}


def example(**changes: Mapping[str, object]) -> bytes:
    """The AWS conflist, with fields of its entries changed; None takes one away."""
    conflist = json.loads(EXAMPLE.read_text())
    conflist["plugins"] = [
        {
            name: value
            for name, value in (
                entry | changes.get(entry["type"].replace("-", "_"), {})
            ).items()
            if value is not None
        }
        for entry in conflist["plugins"]
    ]
    return json.dumps(conflist).encode()


def picked(
    environ: Mapping[str, str] | None = None, **changes: Mapping[str, object]
) -> list[list[Any]]:
    conflist = parse_conflist(example(**changes), "aws.conflist")
    settings = Settings.from_environ(environ or {})
    entries = own_entries(conflist, settings, "aws.conflist")
    assert [entry.type for entry in entries] == ["aws-cni", "egress-cni"]
    return [list(entry.plugins) for entry in entries if entry.plugins]


# -- aws-cni ---------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("environ", "plugins"),
    [
        ({}, ("secondary-ip", *LIST, "snat")),
        ({"ENABLE_PREFIX_DELEGATION": "false"}, ("secondary-ip", *LIST, "snat")),
        ({"ENABLE_PREFIX_DELEGATION": "true"}, ("prefix-delegation", *LIST, "snat")),
        ({"ENABLE_IPv4": "true"}, ("secondary-ip", *LIST, "snat")),
        (IPV6, (IPV6_PREFIXES, *LIST)),
    ],
)
def test_the_environment_picks_the_plugins_of_an_aws_cni_entry(
    environ: dict[str, str], plugins: tuple[object, ...]
) -> None:
    assert picked({**environ, "ENABLE_V4_EGRESS": "false"}) == [list(plugins)]


@pytest.mark.parametrize(
    "environ",
    [
        {"ENABLE_IPv4": "false"},
        {"ENABLE_IPv4": "true", "ENABLE_IPv6": "true"},
        {"ENABLE_IPv6": "true"},
        {"ENABLE_IPv6": "true", "ENABLE_PREFIX_DELEGATION": "false"},
    ],
)
def test_switches_that_aws_refuses_are_refused_in_one_line(
    environ: dict[str, str],
) -> None:
    with pytest.raises(ConfigError, match="ENABLE_IPv") as found:
        picked(environ)

    assert "\n" not in found.value.message


@pytest.mark.parametrize("mtu", ["9001", 9001, "1500", "", None])
def test_an_mtu_may_be_a_string_a_number_or_not_there(mtu: object) -> None:
    assert picked(aws_cni={"mtu": mtu}, egress_cni={"mtu": mtu})


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("mtu", "9002"),
        ("mtu", "575"),
        ("mtu", "__MTU__"),
        ("mtu", 1500.5),
        ("mtu", True),
        ("vethPrefix", "eniplug"),
        ("vethPrefix", "eth"),
        ("vethPrefix", 3),
        ("podSGEnforcingMode", "lax"),
        ("podSGEnforcingMode", 1),
        ("pluginLogFile", 1),
        ("pluginLogLevel", ["DEBUG"]),
    ],
)
def test_a_bad_field_of_aws_cni_is_named_with_its_place(
    field: str, value: object
) -> None:
    with pytest.raises(CniError) as found:
        picked(aws_cni={field: value})

    assert found.value.message.startswith(f"aws.conflist: plugins[0].{field}: ")


# -- egress-cni ------------------------------------------------------------------------

V4_ON = {"enabled": "true", "nodeIP": "10.0.17.50", "ipam": V4_RANGE}
V6_ON = {"enabled": "true", "nodeIP": "2600:1f14::5", "ipam": V6_RANGE}


@pytest.mark.parametrize(
    ("environ", "fields", "way"),
    [
        (IPV6, V4_ON, [[V4_WAY]]),
        (IPV6, {**V4_ON, "enabled": True}, [[V4_WAY]]),
        (IPV6, {**V4_ON, "enabled": None}, [[V4_WAY]]),
        (IPV6, {**V4_ON, "enabled": "false"}, []),
        (IPV6, {**V4_ON, "ipam": None}, [["egress-v4"]]),
        (IPV6, {"enabled": "true", "ipam": None}, [["egress-v4"]]),
        ({**IPV6, "ENABLE_V4_EGRESS": "true"}, V4_ON, [[V4_WAY]]),
        ({**IPV6, "ENABLE_V4_EGRESS": "false"}, {**V4_ON, "enabled": None}, []),
        ({**IPV6, "ENABLE_V6_EGRESS": "false"}, V4_ON, [[V4_WAY]]),
        ({}, V6_ON, [[V6_WAY]]),
        ({"ENABLE_V6_EGRESS": "true"}, V6_ON, [[V6_WAY]]),
        ({"ENABLE_V6_EGRESS": "true"}, {**V6_ON, "enabled": ""}, [[V6_WAY]]),
        ({}, {**V6_ON, "enabled": None}, []),
        ({"ENABLE_V4_EGRESS": "true"}, {}, []),
        (
            {"AWS_VPC_K8S_CNI_RANDOMIZESNAT": "none"},
            {**V6_ON, "randomizeSNAT": "none"},
            [[V6_WAY]],
        ),
    ],
)
def test_entry_and_environment_pick_the_way_out(
    environ: dict[str, str], fields: dict[str, object], way: list[object]
) -> None:
    assert picked(environ, egress_cni=fields)[1:] == way


@pytest.mark.parametrize(
    ("environ", "fields", "name"),
    [
        ({**IPV6, "ENABLE_V4_EGRESS": "false"}, V4_ON, "ENABLE_V4_EGRESS=false"),
        ({"ENABLE_V6_EGRESS": "true"}, {}, "ENABLE_V6_EGRESS=true"),
        (IPV6, V6_ON, "ENABLE_IPv6=true"),
        ({"ENABLE_IPv6": "false"}, V4_ON, "ENABLE_IPv6=false"),
        ({}, {**V6_ON, "randomizeSNAT": "none"}, "AWS_VPC_K8S_CNI_RANDOMIZESNAT=prng"),
    ],
)
def test_entry_and_environment_must_not_contradict_each_other(
    environ: dict[str, str], fields: dict[str, object], name: str
) -> None:
    with pytest.raises(ConfigError, match="contradicts") as found:
        picked(environ, egress_cni=fields)

    assert name in found.value.message
    assert "\n" not in found.value.message


@pytest.mark.parametrize(
    ("place", "fields"),
    [
        ("enabled", {"enabled": "yes"}),
        ("enabled", {"enabled": 1}),
        ("mtu", {"mtu": "big"}),
        ("randomizeSNAT", {"randomizeSNAT": "random"}),
        ("nodeIP", {"nodeIP": "__NODEIP__"}),
        ("nodeIP", {"nodeIP": "fe80::1"}),
        ("ipam", {"ipam": "host-local"}),
        ("ipam.ranges", {"ipam": {"ranges": "169.254.172.0/22"}}),
        ("ipam.ranges", {"ipam": {"ranges": [*V4_RANGE["ranges"]] * 2}}),
        ("ipam.ranges[0]", {"ipam": {"ranges": ["169.254.172.0/22"]}}),
        ("ipam.ranges[0][0]", {"ipam": {"ranges": [["169.254.172.0/22"]]}}),
        ("ipam.ranges[0][0].subnet", {"ipam": {"ranges": [[{}]]}}),
        ("ipam.ranges[0][0].subnet", {"ipam": {"ranges": [[{"subnet": "10.1/8"}]]}}),
        ("ipam.ranges[0][0].subnet", {**V6_ON, "ipam": V4_RANGE}),
    ],
)
def test_a_bad_field_of_egress_cni_is_named_with_its_place(
    place: str, fields: dict[str, object]
) -> None:
    with pytest.raises(CniError) as found:
        picked(egress_cni=fields)

    assert found.value.message.startswith(f"aws.conflist: plugins[1].{place}: wants")


# -- requests --------------------------------------------------------------------------


def test_an_entry_of_another_type_has_the_plugins_that_it_lists() -> None:
    conf = {"cniVersion": "1.0.0", "name": "n", "type": "eniplug", "plugins": ["snat"]}

    found = plugins_of(parse_config(json.dumps(conf).encode()), Settings())

    assert found == ("snat",)


@pytest.mark.parametrize(
    ("fields", "plugins"),
    [
        ({}, ("bandwidth",)),
        ({"ingressRate": 9}, ({"name": "bandwidth", "ingressRate": 9},)),
        ({"plugins": ["snat"]}, ("snat",)),
    ],
)
def test_an_entry_that_runs_our_executable_as_bandwidth_names_that_plugin(
    fields: dict[str, object], plugins: tuple[object, ...]
) -> None:
    conf = {"cniVersion": "1.0.0", "name": "n", "type": "bandwidth", **fields}

    assert plugins_of(parse_config(json.dumps(conf).encode()), Settings()) == plugins


@pytest.mark.parametrize(
    "fields",
    [
        {"type": "aws-cni", "podSGEnforcingMode": 7},
        {"type": "aws-cni", "mtu": 100},
        {"type": "aws-cni"},
        {"type": "egress-cni", "enabled": "perhaps", "ipam": []},
    ],
)
def test_no_bad_field_or_setting_holds_a_del_up(fields: dict[str, object]) -> None:
    conf = {"cniVersion": "0.4.0", "name": "aws-cni", **fields}
    parsed = parse_config(json.dumps(conf).encode())

    found = plugins_to_remove(parsed, Settings(enable_ipv4=False))

    may_have_made = {"aws-cni": "pod-veth", "egress-cni": "egress-v6"}
    assert may_have_made[parsed.type] in found
