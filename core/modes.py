"""The conflist picks the mode; AWS's switches may say the same, and nothing else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from eniplug.core.ec2 import EniFacts
from eniplug.core.manager import wanted
from eniplug.core.settings import Settings
from eniplug.hooks.errors import ConfigError

IPV4: Final = frozenset({4})
IPV6: Final = frozenset({6})
ANNOTATIONS: Final = "io.kubernetes.cri.pod-annotations"
"""The capability under which containerd passes a pod's annotations."""

PREFIXES: Final = "prefix-delegation"
FAMILIES: Final[Mapping[str, frozenset[int]]] = {
    "ipv4": frozenset({4}),
    "ipv6": frozenset({6}),
    "dual-stack": frozenset({4, 6}),
}


def check_modes(settings: Settings, entries: Iterable[Sequence[Any]]) -> None:
    """Hold the settings against the plugins that the conflist's entries ask for.

    Raises ConfigError, one line, when they contradict each other.
    """
    plugins = _plugins(entries)
    prefixes, families = PREFIXES in plugins, _families(plugins)
    said = {
        "ENABLE_PREFIX_DELEGATION": (settings.enable_prefix_delegation, prefixes),
        "ENABLE_IPv4": (settings.enable_ipv4, bool(families & IPV4)),
        "ENABLE_IPv6": (settings.enable_ipv6, bool(families & IPV6)),
    }
    for name, (told, so) in said.items():
        if told is not None and told is not so:
            msg = f"{name}={str(told).lower()} contradicts the conflist, whose plugins"
            msg += f" are {', '.join(plugins)}"
            raise ConfigError(msg, "change the one or the other: the conflist decides")
    targets = settings.targets
    if prefixes and families & IPV4 and not (targets.counted or targets.warm_prefix):
        msg = "prefix-delegation with WARM_PREFIX_TARGET=0 keeps no address ready"
        remedy = "set WARM_PREFIX_TARGET, WARM_IP_TARGET or MINIMUM_IP_TARGET above 0"
        raise ConfigError(msg, remedy)


def check_cards(
    plugins: Iterable[Sequence[Any]], entries: Iterable[Mapping[str, Any]]
) -> None:
    """Hold that pods can ask for an interface on every card, and be given it.

    ``plugins`` are those that the conflist's ``entries`` ask for.  Raises ConfigError.
    """
    if _families(_plugins(plugins)) != IPV4:
        msg = "ENABLE_MULTI_NIC=true needs a conflist whose pods have IPv4 alone"
        raise ConfigError(msg, "pods with IPv6 have one interface: take it away")
    able = [entry.get("capabilities") or {} for entry in entries]
    if not any(one.get(ANNOTATIONS) is True for one in able):
        msg = f"ENABLE_MULTI_NIC=true, and no entry has the capability {ANNOTATIONS}"
        remedy = "add it to the first entry: a pod asks by an annotation"
        raise ConfigError(msg, remedy)


def check_primary(primary: EniFacts, entries: Iterable[Sequence[Any]]) -> None:
    """Hold the primary ENI against the families that pods are to have.

    The node speaks to its pods with an address of its own; EC2 would delegate a prefix
    to an ENI that has none.  Raises ConfigError.
    """
    if _families(_plugins(entries)) & IPV6 and not primary.addresses6:
        msg = f"pods are to have IPv6, and the primary ENI {primary.id} has no IPv6 "
        msg += f"address (subnet {primary.subnet}, "
        msg += f"{primary.subnet_cidr6 or 'which has no IPv6 range'})"
        raise ConfigError(msg, "assign it one, and have the node's system take it up")


def _plugins(entries: Iterable[Sequence[Any]]) -> dict[str, Mapping[str, Any]]:
    """The options of each plugin that the entries ask for."""
    return {
        one.name: one.options for entry in entries if entry for one in wanted(entry)
    }


def _families(plugins: Mapping[str, Mapping[str, Any]]) -> frozenset[int]:
    """The families of the addresses that pods are given."""
    family = str(plugins.get(PREFIXES, {}).get("family", "ipv4"))
    return FAMILIES.get(family, frozenset())
