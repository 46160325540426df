"""The AWS VPC CNI's conflist entries, read as lists of plugins.

Its conflist runs unchanged (amazon-vpc-cni-k8s, misc/10-aws.conflist, as it stands on a
node): an entry of type aws-cni or egress-cni says with its fields, and the agent's
environment with AWS's switches, what an entry of type eniplug says with a list.  All
scalars may be strings, since that is how AWS's start script fills them in.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any, Final, get_args

from eniplug.cni.errors import INVALID_CONFIG, CniError
from eniplug.cni.protocol import NetConf
from eniplug.cni.shapes import mapping, sequence, text, wrong
from eniplug.core.settings import RandomPorts, Settings
from eniplug.hooks import Family, Ip, Network
from eniplug.hooks.errors import ConfigError

MAIN: Final = "aws-cni"
EGRESS: Final = "egress-cni"

MTUS: Final = range(576, 9002)
"""Bytes; AWS's own executables take 9001 for anything else."""

_SWITCHES: Final[Mapping[Any, bool]] = {"true": True, "false": False}

_LOGS: Final = ("pluginLogFile", "pluginLogLevel")
"""Accepted, and nothing is written there: the agent's log has every request."""


def main_plugins(conf: NetConf, settings: Settings) -> Sequence[Any]:
    """Return the plugins of an aws-cni entry: the node looks as AWS's leaves it.

    Raises CniError 6 or 7 naming the field, ConfigError for switches that AWS's program
    refuses as well.
    """
    _common(conf)
    _one_of(conf, "podSGEnforcingMode", ("strict", "standard"))
    if not settings.enable_ipv6:
        if settings.enable_ipv4 is False:
            msg = "ENABLE_IPv4=false without ENABLE_IPv6=true leaves pods no address"
            raise ConfigError(msg, "set one of the two true for an aws-cni entry")
        prefixes = settings.enable_prefix_delegation
        address = "prefix-delegation" if prefixes else "secondary-ip"
        return (address, "pod-veth", "policy-routes", "snat")
    if settings.enable_ipv4:
        msg = "ENABLE_IPv4=true and ENABLE_IPv6=true: an aws-cni entry has one family"
        remedy = "set one false, or name prefix-delegation in an entry of type eniplug"
        raise ConfigError(msg, remedy)
    if not settings.enable_prefix_delegation:
        msg = "ENABLE_IPv6=true wants ENABLE_PREFIX_DELEGATION=true with an aws-cni"
        raise ConfigError(f"{msg} entry", "set it: IPv6 pods have addresses of a /80")
    address6 = {"name": "prefix-delegation", "family": "ipv6"}
    return (address6, "pod-veth", "policy-routes")


def egress_plugins(conf: NetConf, settings: Settings) -> Sequence[Any]:
    """Return the plugins of an egress-cni entry: none when it is not enabled.

    ``nodeIP`` tells the family of the way out, as AWS's executable has it; without one
    it is the family that the pods do not have.  Raises CniError 6 or 7 naming the
    field, ConfigError when entry and environment contradict each other.
    """
    _common(conf)
    ports = _one_of(conf, "randomizeSNAT", get_args(RandomPorts))
    node, subnet = _node_ip(conf), _subnet(conf)
    to_ipv4 = settings.enable_ipv6 if node is None else isinstance(node, IPv4Address)
    way: Family = 4 if to_ipv4 else 6
    if not _enabled(conf, way, settings):
        return ()
    if settings.enable_ipv6 is not None and settings.enable_ipv6 is not to_ipv4:
        raise _contradiction("ENABLE_IPv6", settings.enable_ipv6, f"nodeIP {node}")
    if ports and ports != settings.randomize_snat:
        name, told = "AWS_VPC_K8S_CNI_RANDOMIZESNAT", settings.randomize_snat
        raise _contradiction(name, told, f"randomizeSNAT {ports}")
    if subnet is None:
        return (f"egress-v{way}",)
    if subnet.version != way:
        msg = f"{_SUBNET}: wants a range of IPv{way}, not {subnet}"
        raise CniError(INVALID_CONFIG, msg)
    return ({"name": f"egress-v{way}", "subnet": str(subnet)},)


def _enabled(conf: NetConf, way: Family, settings: Settings) -> bool:
    """Tell whether the way out is there; where the entry is silent, a setting says."""
    said = _switch(conf, "enabled")
    told = {4: settings.enable_v4_egress, 6: settings.enable_v6_egress}[way]
    if said is None:
        return {4: True, 6: False}[way] if told is None else told
    if told is not None and told is not said:
        raise _contradiction(f"ENABLE_V{way}_EGRESS", told, f"enabled {_word(said)}")
    return said


def _common(conf: NetConf) -> None:
    if conf.mtu is not None and conf.mtu not in MTUS:
        msg = f"mtu: wants {MTUS.start} to {MTUS.stop - 1}, not {conf.mtu}"
        raise CniError(INVALID_CONFIG, msg)
    for name in _LOGS:
        text(conf.rest.get(name, ""), name)


def _one_of(conf: NetConf, name: str, words: Sequence[str]) -> str:
    """Read one of these words; empty is the same as not given."""
    word = text(conf.rest.get(name, ""), name)
    if word and word not in words:
        msg = f"{name}: wants {' or '.join(words)}, not {word!r}"
        raise CniError(INVALID_CONFIG, msg)
    return word


def _switch(conf: NetConf, name: str) -> bool | None:
    value = conf.rest.get(name)
    if value in (None, ""):
        return None
    found = _SWITCHES.get(value, value) if isinstance(value, str) else value
    if not isinstance(found, bool):
        msg = f"{name}: wants true or false, not {value!r}"
        raise CniError(INVALID_CONFIG, msg)
    return found


def _node_ip(conf: NetConf) -> Ip | None:
    """Read the node's address; what is translated to is the primary ENI's own."""
    value = text(conf.rest.get("nodeIP", ""), "nodeIP")
    try:
        found = ip_address(value) if value else None
    except ValueError:
        msg = f"nodeIP: wants an address of the node, not {value!r}"
        raise CniError(INVALID_CONFIG, msg) from None
    if isinstance(found, IPv6Address) and (found.is_link_local or found.is_multicast):
        msg = f"nodeIP: wants a global address, not {value}"
        raise CniError(INVALID_CONFIG, msg)
    return found


_SUBNET: Final = "ipam.ranges[0][0].subnet"


def _subnet(conf: NetConf) -> Network | None:
    """Read host-local's one range; it itself is not run, nor are its files made."""
    ipam = mapping(conf.rest.get("ipam") or {}, "ipam")
    ranges = sequence(ipam.get("ranges") or (), "ipam.ranges")
    if not ranges:
        return None
    first = sequence(ranges[0], "ipam.ranges[0]")
    if len(ranges) != 1 or len(first) != 1:
        raise wrong(ranges, "ipam.ranges", "one set of one range")
    value = text(mapping(first[0], "ipam.ranges[0][0]").get("subnet"), _SUBNET)
    try:
        return ip_network(value)
    except ValueError as error:
        msg = f"{_SUBNET}: wants a range of addresses: {error}"
        raise CniError(INVALID_CONFIG, msg) from None


def _contradiction(name: str, told: object, field: str) -> ConfigError:
    msg = f"{name}={_word(told)} contradicts {field} of the conflist's egress-cni entry"
    return ConfigError(msg, "change the one or the other")


def _word(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)
