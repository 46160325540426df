from __future__ import annotations

import pytest

from eniplug.core.modes import check_modes
from eniplug.core.settings import Settings
from eniplug.hooks.errors import ConfigError


def check(*plugins: object, **environ: str) -> None:
    entries: list[dict[str, object]] = [
        {"type": "portmap"},
        {"type": "eniplug", "plugins": list(plugins)},
    ]
    check_modes(Settings.from_environ(environ), entries)


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
