from __future__ import annotations

from ipaddress import IPv4Address, IPv4Network, IPv6Address

import pytest
from attrs import evolve

from eniplug.core.ec2 import EniFacts
from eniplug.core.modes import check_cards, check_modes, check_primary
from eniplug.core.settings import Settings
from eniplug.hooks.errors import ConfigError


def check(*plugins: object, **environ: str) -> None:
    check_modes(Settings.from_environ(environ), [plugins])


DUAL = {"name": "prefix-delegation", "family": "dual-stack"}
SIX = {"name": "prefix-delegation", "family": "ipv6"}


@pytest.mark.parametrize(
    ("plugin", "environ"),
    [
        ("secondary-ip", {}),
        ("secondary-ip", {"ENABLE_PREFIX_DELEGATION": "false", "ENABLE_IPv4": "true"}),
        ("prefix-delegation", {"ENABLE_PREFIX_DELEGATION": "true"}),
        (DUAL, {"ENABLE_IPv4": "true", "ENABLE_IPv6": "true"}),
        (SIX, {"ENABLE_IPv4": "false", "ENABLE_IPv6": "true"}),
        (SIX, {"WARM_PREFIX_TARGET": "0"}),
        (DUAL, {"ENABLE_MULTI_NIC": "false"}),
        ("prefix-delegation", {"WARM_PREFIX_TARGET": "0", "WARM_IP_TARGET": "3"}),
    ],
)
def test_switches_that_say_what_the_conflist_says_pass(
    plugin: object, environ: dict[str, str]
) -> None:
    check(plugin, "pod-veth", **environ)


@pytest.mark.parametrize(
    ("plugin", "environ"),
    [
        ("secondary-ip", {"ENABLE_PREFIX_DELEGATION": "true"}),
        ("prefix-delegation", {"ENABLE_PREFIX_DELEGATION": "false"}),
        ("prefix-delegation", {"ENABLE_IPv6": "true"}),
        (SIX, {"ENABLE_IPv4": "true"}),
        (DUAL, {"ENABLE_IPv4": "false"}),
        ("prefix-delegation", {"WARM_PREFIX_TARGET": "0"}),
    ],
)
def test_a_contradiction_is_one_line_that_names_the_setting(
    plugin: object, environ: dict[str, str]
) -> None:
    with pytest.raises(ConfigError) as found:
        check(plugin, "pod-veth", **environ)

    assert next(iter(environ)) in found.value.message
    assert "\n" not in found.value.message


PRIMARY = EniFacts(
    id="eni-1",
    mac="02:00:00:00:00:01",
    subnet="subnet-1",
    subnet_cidr=IPv4Network("10.0.0.0/24"),
    address=IPv4Address("10.0.0.4"),
    device=0,
)


def check_node(primary: EniFacts, *plugins: object) -> None:
    check_primary(primary, [[*plugins, "pod-veth"]])


@pytest.mark.parametrize("plugin", [SIX, DUAL])
def test_pods_with_ipv6_need_a_node_with_ipv6(plugin: object) -> None:
    own = evolve(PRIMARY, addresses6=(IPv6Address("2001:db8::4"),))

    check_node(own, plugin)
    with pytest.raises(ConfigError, match="primary ENI eni-1 has no IPv6 address"):
        check_node(PRIMARY, plugin)


@pytest.mark.parametrize("plugin", ["secondary-ip", "prefix-delegation"])
def test_pods_with_ipv4_do_not(plugin: str) -> None:
    check_node(PRIMARY, plugin)


def check_entries(plugin: object, *, told: object = True) -> None:
    able = {"io.kubernetes.cri.pod-annotations": told}
    check_cards([[plugin]], [{"type": "eniplug", "capabilities": able}, {}])


@pytest.mark.parametrize("plugin", ["secondary-ip", "prefix-delegation"])
@pytest.mark.parametrize("told", [None, False, "true"])
def test_network_cards_need_a_runtime_that_tells_annotations(
    plugin: str, told: object
) -> None:
    check_entries(plugin)

    with pytest.raises(ConfigError, match="pod-annotations"):
        check_entries(plugin, told=told)


@pytest.mark.parametrize("plugin", [SIX, DUAL])
def test_network_cards_are_for_pods_with_ipv4_alone(plugin: object) -> None:
    with pytest.raises(ConfigError, match="ENABLE_MULTI_NIC=true"):
        check_entries(plugin)
