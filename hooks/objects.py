"""Objects: pieces of kernel or cloud state that a plugin declares and the core makes.

A hook yields objects; the core applies, compares, undoes and restores them.  An
object's ``key`` is its identity, its whole value is what is wanted: the same key with
another value is a conflict.  All are frozen, hashable and valid from birth.

Links are named, never numbered: the core resolves indexes.  The kinds are a closed
set.  Each has a ``rank`` (its place in the order of work, lowest first; undo goes the
other way) and says whether it vanishes with its link.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from enum import StrEnum
from functools import lru_cache
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
)
from textwrap import shorten
from typing import Any, ClassVar, Final, Literal, TypeAlias, get_args

from attrs import Attribute, field, fields, frozen, validators

Ip: TypeAlias = IPv4Address | IPv6Address
Interface: TypeAlias = IPv4Interface | IPv6Interface
Network: TypeAlias = IPv4Network | IPv6Network
Family: TypeAlias = Literal[4, 6]
NftFamily: TypeAlias = Literal["ip", "ip6", "inet"]
Key: TypeAlias = tuple[object, ...]
Tags: TypeAlias = tuple[tuple[str, str], ...]

_INTERFACES: Final = (IPv4Interface, IPv6Interface)


class Side(StrEnum):
    """Where an object lives: the node's network namespace, the pod's, or EC2."""

    HOST = "host"
    POD = "pod"
    CLOUD = "cloud"


HOST: Final = Side.HOST
POD: Final = Side.POD
CLOUD: Final = Side.CLOUD

MAIN_TABLE: Final = 254
"""The kernel's table ``main`` (linux/rtnetlink.h, RT_TABLE_MAIN)."""

PROTOCOL: Final = 197
"""Our own routing protocol number: marks routes and rules as eniplug's."""

BOOT: Final = 3
"""RTPROT_BOOT, which ``ip route`` does not print."""

NFT_PROTOCOLS: Final[Mapping[str, int]] = {"tcp": 6, "udp": 17, "sctp": 132}
"""The protocols that an `NftElement` may name (IANA, "Protocol Numbers")."""

_NAME = re.compile(r"[^\s/:\0]{1,15}")
_LONGEST = 15  # bytes of a name; IFNAMSIZ counts the final zero as well
_MAC = re.compile(r"[0-9a-f]{2}(:[0-9a-f]{2}){5}")
_NFT_NAME = r"[A-Za-z][A-Za-z0-9_-]{0,63}"
_SYSCTL = re.compile(r"net(/[A-Za-z0-9_.@-]+)+")


def _interface(_: object, attribute: Attribute[Interface], value: object) -> None:
    if not isinstance(value, _INTERFACES):
        msg = f"{attribute.name}: {value!r} is no address with its length"
        raise ValueError(msg)


@lru_cache(4096)
def _is_link_name(value: str) -> bool:
    fits = _NAME.fullmatch(value) and len(value.encode()) <= _LONGEST
    return bool(fits) and value not in {".", ".."}


def _link_name(_: object, attribute: Attribute[str], value: str) -> None:
    """Hold to the kernel's rule for names (dev_valid_name in net/core/dev.c)."""
    if not _is_link_name(value):
        msg = f"{attribute.name}: {value!r} is no interface name (1 to 15 bytes)"
        raise ValueError(msg)


def _mac(_: object, attribute: Attribute[str], value: str) -> None:
    if not _MAC.fullmatch(value) or int(value[:2], 16) & 1:
        msg = f"{attribute.name}: {value!r} is no unicast MAC address in lower case"
        raise ValueError(msg)


def _u32(_: object, attribute: Attribute[int], value: int) -> None:
    if not 0 <= value < 1 << 32:
        msg = f"{attribute.name}: {value} does not fit in 32 bits"
        raise ValueError(msg)


def _sysctl_path(_: object, attribute: Attribute[str], value: str) -> None:
    if not _SYSCTL.fullmatch(value) or ".." in value.split("/"):
        msg = f"{attribute.name}: {value!r} is no file under net/"
        raise ValueError(msg)


def _element(_: object, attribute: Attribute[str], value: str) -> None:
    """Hold to the form in which nft prints addresses, protocols and ports."""
    for part in value.split(" . "):
        try:
            port = part.isdecimal() and str(int(part)) == part and int(part) < 1 << 16
            plain = port or part in NFT_PROTOCOLS or str(ip_address(part)) == part
        except ValueError:
            plain = False
        if not plain or "%" in part:
            msg = f"{attribute.name}: {part!r} is no address, protocol or port"
            raise ValueError(msg)


def _value(this: object, attribute: Attribute[str], value: str) -> None:
    if value:
        _element(this, attribute, value)


def _tags(_: object, attribute: Attribute[Any], value: Tags) -> None:
    """Hold to EC2's rules (EC2 User Guide, "Tag restrictions")."""
    for key, text in value:
        if not 0 < len(key) < 129 or len(text) > 256 or key.startswith("aws:"):  # noqa: PLR2004
            msg = f"{attribute.name}: {key!r}={text!r} is no tag of EC2"
            raise ValueError(msg)


def _short(self: Any) -> str:
    """Write an object for a message: only what is not as usual, and no long texts."""
    told = [
        f"{field.name}={shorten(str(value), 60)}"
        for field in fields(type(self))
        if (value := getattr(self, field.name)) != field.default
    ]
    return f"{type(self).__name__}({', '.join(told)})"


_mtu = validators.and_(validators.ge(68), validators.le(65535))


@frozen(kw_only=True)
class Claim:
    """Something of the node that one attachment at a time has; it makes nothing.

    ``what`` names it for people, as in ``host port 80/tcp``.  ``where`` is the part of
    it that is claimed; none is all of it, which meets every part.
    """

    rank: ClassVar[int] = 0
    with_link: ClassVar[bool] = False

    what: str = field(validator=validators.min_len(1))
    where: str = ""
    side: Side = field(default=HOST, validator=validators.in_([HOST]))

    def __str__(self) -> str:
        return f"{self.what} on {self.where}" if self.where else self.what

    @property
    def key(self) -> Key:
        """Both fields."""
        return "Claim", self.side, self.what, self.where


@frozen(kw_only=True)
class Veth:
    """A pair of links: ``name`` on the node, ``peer`` in the pod; both are up."""

    rank: ClassVar[int] = 1
    with_link: ClassVar[bool] = False
    __str__ = _short

    name: str = field(validator=_link_name)
    peer: str = field(validator=_link_name)
    mac: str = field(validator=_mac)
    peer_mac: str = field(validator=_mac)
    mtu: int = field(default=9001, validator=_mtu)
    side: Side = field(default=HOST, validator=validators.in_([HOST]))

    @property
    def key(self) -> Key:
        """The host link's name."""
        return "Veth", self.side, self.name


@frozen(kw_only=True)
class Ifb:
    """A link without a wire: what is redirected to it passes its qdisc and goes on.

    A qdisc holds back what leaves a link; so what a pod sends is held back as it leaves
    an ifb.  It is up.
    """

    rank: ClassVar[int] = 1
    with_link: ClassVar[bool] = False
    __str__ = _short

    name: str = field(validator=_link_name)
    mac: str = field(validator=_mac)
    mtu: int = field(default=9001, validator=_mtu)
    side: Side = field(default=HOST, validator=validators.in_([HOST]))

    @property
    def key(self) -> Key:
        """The name."""
        return "Ifb", self.side, self.name


LinkSetting: TypeAlias = Literal[
    "up",
    "mtu",
    "group",
    "forwarding",
    "proxy_arp",
    "rp_filter",
    "route_localnet",
    "arp_ignore",
    "arp_announce",
    "accept_local",
    "send_redirects",
]


@frozen(kw_only=True)
class LinkState:
    """One property of a link: ``up`` (0 or 1), ``mtu``, ``group`` or an IPv4 setting.

    An IPv4 setting is a name under net/ipv4/conf/<link>/ (ip-sysctl.rst).
    """

    rank: ClassVar[int] = 2
    with_link: ClassVar[bool] = True
    __str__ = _short

    link: str = field(validator=_link_name)
    setting: LinkSetting = field(validator=validators.in_(get_args(LinkSetting)))
    value: int = field(validator=_u32)
    side: Side = HOST

    @property
    def key(self) -> Key:
        """The link and the property's name."""
        return "LinkState", self.side, self.link, self.setting


@frozen(kw_only=True)
class Sysctl:
    """A file under /proc/sys/net, as in ``net/ipv4/ip_forward``."""

    rank: ClassVar[int] = 2
    with_link: ClassVar[bool] = False
    __str__ = _short

    path: str = field(validator=_sysctl_path)
    value: str
    side: Side = HOST

    @property
    def key(self) -> Key:
        """The path."""
        return "Sysctl", self.side, self.path


@frozen(kw_only=True)
class Address:
    """An address on a link, with no route of the kernel's own beside it."""

    rank: ClassVar[int] = 3
    with_link: ClassVar[bool] = True
    __str__ = _short

    link: str = field(validator=_link_name)
    address: Interface = field(validator=_interface)
    side: Side = POD

    @property
    def key(self) -> Key:
        """The link and the address with its length."""
        return "Address", self.side, self.link, self.address


@frozen(kw_only=True)
class NftTable:
    """A whole nftables table; ``text`` is what stands between its braces.

    Node objects only.  All tables that change at one time change in one transaction.
    """

    rank: ClassVar[int] = 3
    with_link: ClassVar[bool] = False
    __str__ = _short

    family: NftFamily = field(validator=validators.in_(get_args(NftFamily)))
    name: str = field(validator=validators.matches_re(_NFT_NAME))
    text: str
    side: Side = field(default=HOST, validator=validators.in_([HOST]))

    @property
    def key(self) -> Key:
        """The family and the name."""
        return "NftTable", self.side, self.family, self.name


@frozen(kw_only=True)
class Neighbor:
    """A permanent neighbour entry: no ARP or neighbour discovery is needed."""

    rank: ClassVar[int] = 4
    with_link: ClassVar[bool] = True
    __str__ = _short

    link: str = field(validator=_link_name)
    address: Ip
    mac: str = field(validator=_mac)
    side: Side = POD

    @property
    def key(self) -> Key:
        """The link and the neighbour's address."""
        return "Neighbor", self.side, self.link, self.address


Discipline: TypeAlias = Literal["tbf", "ingress"]

LONGEST_BURST: Final = 274
"""Seconds: the kernel keeps a burst as time, in 32 bits of 64 ns (PSCHED_TICKS2NS)."""


@frozen(kw_only=True)
class Qdisc:
    """A link's queueing discipline.

    ``tbf``, a token bucket, holds back what leaves the link: ``rate`` is in bytes a
    second, ``burst`` and ``limit`` (what may wait) in bytes, Ethernet headers counted.
    ``ingress`` has no values: it is where a `Redirect` of what comes in hangs.
    """

    rank: ClassVar[int] = 4
    with_link: ClassVar[bool] = True
    __str__ = _short

    link: str = field(validator=_link_name)
    discipline: Discipline = field(validator=validators.in_(get_args(Discipline)))
    rate: int = 0
    burst: int = field(default=0, validator=_u32)
    limit: int = field(default=0, validator=_u32)
    side: Side = HOST

    def __attrs_post_init__(self) -> None:
        values = (self.rate, self.burst, self.limit)
        if self.discipline == "ingress" and any(values):
            msg = f"qdisc ingress of {self.link} takes no rate, burst or limit"
            raise ValueError(msg)
        if self.discipline == "tbf" and (
            not all(values)
            or not 0 < self.rate < 1 << 64
            or self.burst > self.rate * LONGEST_BURST
        ):
            msg = f"qdisc tbf of {self.link}: {values} is no rate, burst and limit"
            raise ValueError(msg)

    @property
    def key(self) -> Key:
        """The link, and which way."""
        way = "in" if self.discipline == "ingress" else "out"
        return "Qdisc", self.side, self.link, way


@frozen(kw_only=True)
class Redirect:
    """All that comes in by ``link`` leaves by ``to``, and then goes on as it came.

    It needs a `Qdisc` ``ingress`` on ``link``, and an `Ifb` as ``to``.
    """

    rank: ClassVar[int] = 5
    with_link: ClassVar[bool] = True
    __str__ = _short

    link: str = field(validator=_link_name)
    to: str = field(validator=_link_name)
    priority: int = field(default=1, validator=validators.in_(range(1, 1 << 16)))
    side: Side = HOST

    @property
    def key(self) -> Key:
        """The link and the priority."""
        return "Redirect", self.side, self.link, self.priority


@frozen(kw_only=True)
class Route:
    """A unicast route by way of ``link``; without ``via`` its scope is link."""

    rank: ClassVar[int] = 5
    with_link: ClassVar[bool] = True
    __str__ = _short

    destination: Network
    link: str = field(validator=_link_name)
    via: Ip | None = None
    src: Ip | None = None
    table: int = field(default=MAIN_TABLE, validator=_u32)
    metric: int = field(default=0, validator=_u32)
    tos: int = field(default=0, validator=validators.in_(range(256)))
    onlink: bool = False
    protocol: int = field(default=BOOT, validator=validators.in_(range(256)))
    side: Side = POD

    @property
    def key(self) -> Key:
        """What the kernel tells routes apart by; for IPv6 the next hop as well."""
        hop = (self.link, self.via) if self.destination.version == 6 else ()  # noqa: PLR2004
        return (
            "Route",
            self.side,
            self.table,
            self.destination,
            self.tos,
            self.metric,
            *hop,
        )


@frozen(kw_only=True)
class Rule:
    """A policy rule: what matches is looked up in ``table``."""

    rank: ClassVar[int] = 6
    with_link: ClassVar[bool] = False
    __str__ = _short

    priority: int = field(validator=_u32)
    table: int = field(validator=_u32)
    family: Family = 4
    src: Network | None = None
    dst: Network | None = None
    mark: int | None = None
    mask: int = field(default=0xFFFFFFFF, validator=_u32)
    iif: str | None = None
    protocol: int = field(default=0, validator=validators.in_(range(256)))
    side: Side = HOST

    def __attrs_post_init__(self) -> None:
        for net in (self.src, self.dst):
            if net is not None and net.version != self.family:
                msg = f"rule {self.priority}: {net} is not of family IPv{self.family}"
                raise ValueError(msg)

    @property
    def key(self) -> Key:
        """Every field: the kernel has no other identity for a rule."""
        return (
            "Rule",
            self.side,
            self.family,
            self.priority,
            self.table,
            self.src,
            self.dst,
            self.mark,
            self.mask,
            self.iif,
            self.protocol,
        )


@frozen(kw_only=True)
class NftElement:
    """An element of a set or map in an `NftTable`.

    ``element``, and in a map ``value``, are addresses, protocols and ports as nft
    prints them, with `` . `` between them: ``tcp . 80``.  The table is its plugin's
    own, so another value in its place is a leftover, and is replaced.
    """

    rank: ClassVar[int] = 6
    with_link: ClassVar[bool] = False
    __str__ = _short

    family: NftFamily = field(validator=validators.in_(get_args(NftFamily)))
    table: str = field(validator=validators.matches_re(_NFT_NAME))
    set: str = field(validator=validators.matches_re(_NFT_NAME))
    element: str = field(validator=_element)
    value: str = field(default="", validator=_value)
    side: Side = field(default=HOST, validator=validators.in_([HOST]))

    @property
    def key(self) -> Key:
        """The set or map, and the element."""
        return (
            "NftElement",
            self.side,
            self.family,
            self.table,
            self.set,
            self.element,
        )


@frozen(kw_only=True)
class StaleFlows:
    """Conntrack entries that are deleted once a pod has come, and once it has gone.

    A UDP flow is translated as its first packet was for as long as packets come: one
    that is older than its port never gets to the pod, and one that outlives it goes on
    to an address that is nobody's.  ``port`` is the one that the client sends to.
    """

    rank: ClassVar[int] = 7
    with_link: ClassVar[bool] = False
    __str__ = _short

    family: Family = field(validator=validators.in_([4, 6]))
    protocol: Literal["udp"] = field(validator=validators.in_(["udp"]))
    port: int = field(validator=validators.in_(range(1, 1 << 16)))
    side: Side = field(default=HOST, validator=validators.in_([HOST]))

    @property
    def key(self) -> Key:
        """Every field."""
        return "StaleFlows", self.side, self.family, self.protocol, self.port


@frozen(kw_only=True)
class ElasticIp:
    """A public IPv4 address for one of the pod's own, as long as the pod lives.

    ``eni`` is the id of the ENI that has the ``private`` one.  The cloud worker gets
    the public one from EC2 and gives it back.  The pod begins without it, unless it is
    ``waited`` for.  ``tags``, pairs of key and value, go beside the agent's own.
    """

    rank: ClassVar[int] = 9
    with_link: ClassVar[bool] = False
    __str__ = _short

    private: IPv4Address
    eni: str = field(validator=validators.min_len(1))
    waited: bool = False
    tags: Tags = field(default=(), validator=_tags)
    side: Side = field(default=CLOUD, validator=validators.in_([CLOUD]))

    @property
    def key(self) -> Key:
        """The private address."""
        return "ElasticIp", self.side, self.private


Object: TypeAlias = (
    Veth
    | LinkState
    | Sysctl
    | Address
    | NftTable
    | Neighbor
    | Route
    | Rule
    | NftElement
    | Claim
    | StaleFlows
    | Ifb
    | Qdisc
    | Redirect
    | ElasticIp
)

KINDS: Final[tuple[type[Object], ...]] = get_args(Object)
