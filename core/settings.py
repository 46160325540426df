"""The operator's settings: environment variables under the names that AWS documents.

Names, defaults and ways of writing are those of the AWS VPC CNI (README of
amazon-vpc-cni-k8s, "CNI Configuration Variables"), so that what operators know keeps
working.  Where that program logs an unusable value and quietly takes its default, this
one refuses to start: a typing error must not become another network.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from ipaddress import IPv4Network, ip_address
from pathlib import Path
from typing import (
    Any,
    Final,
    Generic,
    Literal,
    Self,
    TypeAlias,
    TypeVar,
    cast,
    get_args,
)

from attrs import evolve, field, fields, frozen

from eniplug.hooks.capacity import Targets
from eniplug.hooks.errors import ConfigError
from eniplug.hooks.values import NodeSettings

T_co = TypeVar("T_co", covariant=True)
T = TypeVar("T")
RandomPorts: TypeAlias = Literal["prng", "hashrandom", "none"]

TRUE: Final = frozenset({"1", "t", "T", "TRUE", "true", "True"})
FALSE: Final = frozenset({"0", "f", "F", "FALSE", "false", "False"})
LOG_LEVELS: Final = ("debug", "info", "warn", "error", "fatal")
RESERVED_PREFIXES: Final = frozenset({"eth", "lo", "vlan"})
RESERVED_TAG: Final = "k8s.amazonaws.com"

LONGEST_WAIT: Final = 3600.0
LONGEST_TAG: Final = (128, 256)
"""Characters of a tag's key and value (EC2 user guide, "Tag restrictions")."""

_INTEGER = re.compile(r"[+-]?[0-9]+")
_DECIMAL = re.compile(r"[0-9]+(\.[0-9]+)?")
_VETH_PREFIX = re.compile(r"[^\s/:%]{0,4}")


@frozen
class _Form(Generic[T_co]):
    """How one kind of value is written: the words for it, and its parser.

    ``parse`` raises ValueError.
    """

    accepts: str
    parse: Callable[[str], T_co]


@frozen
class Listen:
    """An address of this node, and a TCP port of it."""

    host: str
    port: int

    def __str__(self) -> str:
        return (
            f"[{self.host}]:{self.port}"
            if ":" in self.host
            else f"{self.host}:{self.port}"
        )


def _setting(name: str, form: _Form[T], default: T) -> T:
    """Declare a field that comes from the variable ``name``."""
    return field(default=default, metadata={"name": name, "form": form})


def _boolean(text: str) -> bool:
    if text not in TRUE | FALSE:
        raise ValueError(text)
    return text in TRUE


def _integer(text: str) -> int:
    # int() alone would also take blanks, underscores and other scripts' digits.
    if not _INTEGER.fullmatch(text):
        raise ValueError(text)
    return int(text)


def _between(low: int, high: int | None = None) -> _Form[int]:
    def parse(text: str) -> int:
        number = _integer(text)
        if number < low or (high is not None and number > high):
            raise ValueError(text)
        return number

    words = f"of {low} or more" if high is None else f"from {low} to {high}"
    return _Form(f"an integer {words}", parse)


def _cap(text: str) -> int | None:
    number = _integer(text)
    return number if number > 0 else None


def _mark(text: str) -> int:
    # Go's base prefixes, in which a bare leading 0 means octal.
    octal = re.fullmatch(r"0[0-7]+", text)
    number = int(text, 8 if octal else 0)
    if not 1 <= number < 1 << 32:
        raise ValueError(text)
    return number


def _seconds(text: str) -> float:
    if not _DECIMAL.fullmatch(text) or float(text) > LONGEST_WAIT:
        raise ValueError(text)
    return float(text)


def _cidrs(text: str) -> tuple[IPv4Network, ...]:
    items = (item.strip() for item in text.split(","))
    return tuple(
        dict.fromkeys(IPv4Network(item, strict=False) for item in items if item)
    )


def _veth_prefix(text: str) -> str:
    if not _VETH_PREFIX.fullmatch(text) or text in RESERVED_PREFIXES:
        raise ValueError(text)
    return text


def _random(text: str) -> RandomPorts:
    if text not in get_args(RandomPorts):
        raise ValueError(text)
    return cast("RandomPorts", text)


def _log_level(text: str) -> str:
    if text.lower() not in LOG_LEVELS:
        raise ValueError(text)
    return text.lower()


def _tags(text: str) -> tuple[tuple[str, str], ...]:
    tags = json.loads(text or "{}")
    if not isinstance(tags, dict):
        raise ValueError(text)
    long_key, long_value = LONGEST_TAG
    for key, value in tags.items():
        fits = isinstance(value, str) and len(value) <= long_value
        fits = fits and 1 <= len(key) <= long_key
        if not fits or RESERVED_TAG in key or key.lower().startswith("aws:"):
            raise ValueError(text)
    return tuple(sorted(tags.items()))


def _listen(text: str) -> Listen | None:
    if text == "off":
        return None
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    if (":" in bare) != (host == f"[{bare}]"):
        raise ValueError(text)
    return Listen(str(ip_address(bare)), _between(1, 65535).parse(port))


def _path(text: str) -> Path:
    if not text or "\0" in text:
        raise ValueError(text)
    return Path(text)


_BOOLEAN = _Form(
    "true or false (also 1, t, T, TRUE, True, 0, f, F, FALSE, False)", _boolean
)
_CIDRS = _Form("IPv4 CIDRs with commas between them", _cidrs)
_COUNT = _between(0)
_MTU = _between(576, 9001)


@frozen(kw_only=True)
class Settings:
    """All settings of one agent; the defaults are AWS's."""

    warm_eni_target: int = _setting("WARM_ENI_TARGET", _COUNT, 1)
    """Whole ENIs' worth of free addresses to keep."""

    warm_ip_target: int = _setting("WARM_IP_TARGET", _COUNT, 0)
    """Free addresses to keep; 0: not set.  Overrides WARM_ENI_TARGET."""

    minimum_ip_target: int = _setting("MINIMUM_IP_TARGET", _COUNT, 0)
    """Floor of all addresses; 0: not set.  Overrides WARM_ENI_TARGET."""

    warm_prefix_target: int = _setting("WARM_PREFIX_TARGET", _COUNT, 1)
    """Whole prefixes' worth of free addresses to keep; the default is of AWS's
    manifest, and the program's own, 0, would keep a new node without any."""

    enable_prefix_delegation: bool | None = _setting(
        "ENABLE_PREFIX_DELEGATION", _BOOLEAN, None
    )
    """Held against the conflist, which picks the mode; None: not told."""

    enable_multi_nic: bool = _setting("ENABLE_MULTI_NIC", _BOOLEAN, False)
    """Whether ENIs on network cards other than 0 serve pods too."""

    enable_ipv4: bool | None = _setting("ENABLE_IPv4", _BOOLEAN, None)
    """Held against the conflist, which picks the families; None: not told."""

    enable_ipv6: bool | None = _setting("ENABLE_IPv6", _BOOLEAN, None)
    """Held against the conflist, which picks the families; None: not told."""

    enable_v4_egress: bool | None = _setting("ENABLE_V4_EGRESS", _BOOLEAN, None)
    """Whether an egress-cni entry lets IPv6 pods reach IPv4; None: not told."""

    enable_v6_egress: bool | None = _setting("ENABLE_V6_EGRESS", _BOOLEAN, None)
    """Whether an egress-cni entry lets IPv4 pods reach IPv6; None: not told."""

    enable_subnet_discovery: bool = _setting("ENABLE_SUBNET_DISCOVERY", _BOOLEAN, True)
    """Whether new ENIs are made in the tagged subnet with most free addresses."""

    disable_leaked_eni_cleanup: bool = _setting(
        "DISABLE_LEAKED_ENI_CLEANUP", _BOOLEAN, False
    )
    """Whether ENIs that other nodes left behind are let be."""

    disable_network_resource_provisioning: bool = _setting(
        "DISABLE_NETWORK_RESOURCE_PROVISIONING", _BOOLEAN, False
    )
    """Whether EC2 is asked for nothing, and gets nothing back."""

    enable_imds_only_mode: bool = _setting("ENABLE_IMDS_ONLY_MODE", _BOOLEAN, False)
    """Whether EC2 is never asked: IMDS says what there is.  Implies the two above."""

    manage_enis_non_schedulable: bool = _setting(
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE", _BOOLEAN, False
    )
    """Whether EC2 is asked, and given back to, also while the node is cordoned."""

    node_name: str = _setting("MY_NODE_NAME", _Form("a name", str), "")
    """The Node object's name; empty: Kubernetes is not asked."""

    pod_events: bool = _setting("ENIPLUG_POD_EVENTS", _BOOLEAN, True)
    """Whether a pod whose ADD is refused has an event that says why."""

    max_eni: int | None = _setting(
        "MAX_ENI", _Form("an integer (below 1: no cap)", _cap), None
    )
    """Cap on ENIs, beside the instance type's own; None: no cap."""

    max_pods: int | None = _setting("ENIPLUG_MAX_PODS", _between(1), None)
    """Pods that this node may run; None: what Kubernetes says, else the instance type
    allows."""

    ip_cooldown_period: int = _setting("IP_COOLDOWN_PERIOD", _COUNT, 30)
    """Seconds before an address that was given back is given out again."""

    add_wait: float = _setting(
        "ENIPLUG_ADD_WAIT", _Form("seconds from 0 to 3600", _seconds), 30.0
    )
    """Seconds that an ADD waits for an address."""

    eni_mtu: int = _setting("AWS_VPC_ENI_MTU", _MTU, 9001)
    """MTU of the ENIs' links, bytes."""

    own_pod_mtu: int | None = _setting("POD_MTU", _MTU, None)
    """MTU of the pods' links, bytes; None: the ENIs'."""

    veth_prefix: str = _setting(
        "AWS_VPC_K8S_CNI_VETHPREFIX",
        _Form("at most 4 characters, and not eth, lo or vlan", _veth_prefix),
        "eni",
    )
    """How the host links' names begin."""

    external_snat: bool = _setting("AWS_VPC_K8S_CNI_EXTERNALSNAT", _BOOLEAN, False)
    """Somebody else translates the pods' addresses."""

    exclude_snat_cidrs: tuple[IPv4Network, ...] = _setting(
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", _CIDRS, ()
    )
    """Reached untranslated, as the VPC is."""

    external_service_cidrs: tuple[IPv4Network, ...] = _setting(
        "AWS_EXTERNAL_SERVICE_CIDRS", _CIDRS, ()
    )
    """Looked up in the main table, whatever the pod's ENI."""

    randomize_snat: RandomPorts = _setting(  # noqa: RUF009 - this is attrs' field()
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT",
        _Form("prng, hashrandom or none", _random),
        "prng",
    )
    """How source ports are chosen."""

    node_port_support: bool = _setting("AWS_VPC_CNI_NODE_PORT_SUPPORT", _BOOLEAN, True)
    """Whether replies to node ports leave as the request came."""

    put_back_main_rules: bool = _setting("ENIPLUG_PUT_BACK_MAIN_RULES", _BOOLEAN, False)
    """Whether the kernel's own rules are put back when somebody deletes them."""

    connmark: int = _setting(
        "AWS_VPC_K8S_CNI_CONNMARK",
        _Form("an integer from 1 to 0xffffffff, also with 0x, 0o or 0b", _mark),
        0x80,
    )
    """Mark and mask of connections that leave by the primary ENI."""

    cluster_name: str = _setting("CLUSTER_NAME", _Form("a name", str), "")
    """Tagged on ENIs that are made here; empty: not told."""

    additional_eni_tags: tuple[tuple[str, str], ...] = _setting(
        "ADDITIONAL_ENI_TAGS",
        _Form(
            "a JSON object of strings, of keys without k8s.amazonaws.com or aws:", _tags
        ),
        (),
    )
    """More tags for ENIs that are made here, as pairs."""

    manage_untagged_eni: bool = _setting("MANAGE_UNTAGGED_ENI", _BOOLEAN, True)
    """Whether ENIs that carry no tag of this instance are used too."""

    log_level: str = _setting(
        "AWS_VPC_K8S_CNI_LOGLEVEL",
        _Form(f"{', '.join(LOG_LEVELS)} in any case", _log_level),
        "debug",
    )
    """Level of the agent's log, in lower case."""

    metrics_addr: Listen | None = _setting(  # noqa: RUF009 - this is attrs' field()
        "ENIPLUG_METRICS_ADDR",
        _Form(
            "an address and a port, as 127.0.0.1:61678 or [::1]:61678, or off", _listen
        ),
        Listen("127.0.0.1", 61678),
    )
    """Where /healthz, /readyz and /metrics are; None: nowhere."""

    conflist: Path | None = _setting(  # noqa: RUF009 - this is attrs' field()
        "ENIPLUG_CONFLIST", _Form("a path", _path), None
    )
    """The node's conflist; None: the one that is shipped."""

    @classmethod
    def from_environ(cls, environ: Mapping[str, str]) -> Self:
        """Read all settings; what is not set has its default.

        Raises ConfigError, one line that names the variable, its value and what is
        accepted.
        """
        given: dict[str, Any] = {}
        for attribute in fields(cls):
            name, form = attribute.metadata["name"], attribute.metadata["form"]
            if name not in environ:
                continue
            try:
                given[attribute.name] = form.parse(environ[name])
            except ValueError as error:
                msg = f"{name}={environ[name]!r}: accepted is {form.accepts}"
                raise ConfigError(msg) from error
        settings = cls(**given)
        if settings.pod_mtu > settings.eni_mtu:
            msg = (
                f"POD_MTU={settings.pod_mtu}: accepted is an integer from 576 to"
                f" AWS_VPC_ENI_MTU, which is {settings.eni_mtu}"
            )
            raise ConfigError(msg)
        if settings.enable_imds_only_mode:
            return evolve(
                settings,
                disable_leaked_eni_cleanup=True,
                disable_network_resource_provisioning=True,
            )
        return settings

    @property
    def pod_mtu(self) -> int:
        """MTU of the pods' links, bytes."""
        return self.eni_mtu if self.own_pod_mtu is None else self.own_pod_mtu

    @property
    def targets(self) -> Targets:
        """What plan_capacity keeps ready."""
        return Targets(
            warm_eni=self.warm_eni_target,
            warm_ip=self.warm_ip_target,
            minimum_ip=self.minimum_ip_target,
            warm_prefix=self.warm_prefix_target,
        )

    @property
    def node(self) -> NodeSettings:
        """What plugins may heed."""
        return NodeSettings(
            external_snat=self.external_snat,
            exclude_snat_cidrs=self.exclude_snat_cidrs,
            external_service_cidrs=self.external_service_cidrs,
            randomize_snat=self.randomize_snat,
            node_port_support=self.node_port_support,
            connmark=self.connmark,
            eni_mtu=self.eni_mtu,
        )
