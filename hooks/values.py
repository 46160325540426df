"""What a hook is given: frozen values, and nothing else to know.

A hook sees the pod, the addresses it got, and the node.  Whatever a plugin computes
follows from these alone, so the same input gives the same objects.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from functools import cached_property
from ipaddress import IPv4Address, IPv4Interface, IPv6Address, IPv6Interface
from typing import Any, Literal, Protocol, Self

from attrs import field, frozen, validators

from eniplug.hooks.capacity import Kind
from eniplug.hooks.errors import UnsupportedError
from eniplug.hooks.objects import MAIN_TABLE, Family, Interface, Ip, Network

POD_GROUP = 0xE000
"""A pod's host link is in link group POD_GROUP + mark of its ENI, in every layout."""

GATEWAYS: Mapping[Family, Ip] = {
    4: IPv4Address("169.254.1.1"),
    6: IPv6Address("fe80::1"),
}
"""The next hop inside every pod; it exists only as a static neighbour entry."""

NIC_CONFIG = "k8s.amazonaws.com/nicConfig"
"""The annotation by which a pod asks for more than one interface."""

EVERY_CARD = "multi-nic-attachment"
"""What it asks for: an interface on every network card; no other value is known."""


def _whole(address: Ip) -> Interface:
    """Return an address at full length; as a number, which is not parsed again."""
    kind = IPv4Interface if isinstance(address, IPv4Address) else IPv6Interface
    return kind(int(address))


def _gateway(address: Ip, index: int) -> Ip:
    """Return the next hop for an address of the interface with this number."""
    first = GATEWAYS[4 if isinstance(address, IPv4Address) else 6]
    return first + index if index else first


def ifb_name(host_ifname: str) -> str:
    """Name the ifb of a host link, so that each is found by the other's name.

    >>> ifb_name("eni68caf03a5f4")
    'ifb68caf03a5f4'
    """
    return f"ifb{host_ifname[-11:]}"


@frozen(kw_only=True, hash=False, slots=False)
class Pod:
    """One pod's network, as the container runtime asked for it.

    ``namespace``, ``name`` and ``uid`` come from CNI_ARGS and may be empty.
    ``annotations`` is None when the runtime did not tell them.  ``runtime`` is the
    entry's runtimeConfig as it came; read it with `given`.  ``prev`` is prevResult in
    the form of CNI 1.1.0.  ``slot`` is the smallest free integer of this node, the
    pod's from ADD to the end of DEL: compute any number for a pod from it.  ``trace``
    is the ADD's ``traceparent`` and ``tracestate`` (W3C Trace Context), if it had them.
    """

    container_id: str
    ifname: str
    network: str
    namespace: str = ""
    name: str = ""
    uid: str = ""
    annotations: Mapping[str, str] | None = None
    runtime: Mapping[str, Any] = field(factory=dict)
    mtu: int = 9001
    veth_prefix: str = "eni"
    prev: Mapping[str, Any] | None = None
    slot: int = 0
    trace: Mapping[str, str] = field(factory=dict)

    def given(self, *path: str) -> Any:
        """Look into runtimeConfig without regard to case; None if it is not there.

        containerd sends ``IngressRate`` where the CNI conventions say ``ingressRate``.
        """
        value: Any = self.runtime
        for name in path:
            if not isinstance(value, Mapping):
                return None
            wanted = name.casefold()
            value = next(
                (v for k, v in value.items() if str(k).casefold() == wanted), None
            )
        return value

    @property
    def wants_every_card(self) -> bool:
        """Whether it asks for an interface on every network card."""
        return (self.annotations or {}).get(NIC_CONFIG) == EVERY_CARD

    @cached_property
    def host_ifname(self) -> str:
        """The host link: prefix and 11 hex digits.

        For a named pod's eth0 the digits are those of the AWS VPC CNI: SHA-1 of
        ``<namespace>.<name>``.  Further interfaces add their name; a pod that has no
        name is told by its container id.
        """
        return self.host_ifname_of(0)

    def ifname_of(self, index: int) -> str:
        """The interface with this number; the names are the AWS VPC CNI's."""
        return f"mNicIf{index}" if index else self.ifname

    def host_ifname_of(self, index: int) -> str:
        """The host link of the interface with this number; that of 0 has none in it."""
        if not (self.namespace and self.name):
            text = f"{self.container_id}.{self.ifname}"
        elif self.ifname == "eth0":
            text = f"{self.namespace}.{self.name}"
        else:
            text = f"{self.namespace}.{self.name}.{self.ifname}"
        if index:
            text = f"{text}.{index}"
        return self.veth_prefix + hashlib.sha1(text.encode()).hexdigest()[:11]

    def mac(self, salt: str, index: int = 0) -> str:
        """Return a locally administered MAC address, always the same for one salt.

        ``index`` is the number of the interface that it is for.
        """
        text = f"{self.container_id}/{self.ifname_of(index)}/{salt}"
        digits = hashlib.sha256(text.encode()).digest()[:6]
        first = digits[0] & 0xFC | 0x02
        return bytes((first, *digits[1:])).hex(":")


@frozen(kw_only=True)
class Eni:
    """An elastic network interface that is attached to this node and set up.

    ``link`` is its name on the node.  ``table`` is the routing table of its own
    default route (main for the primary ENI).  ``mark`` is 1 for the primary ENI and
    a number in 2..127 of its own for each other; it does not change while it is here.
    ``addresses`` are its own, one per family, with the subnet's length; ``gateways``
    the subnet's routers, in the same order.
    """

    id: str
    link: str
    mac: str
    device: int
    card: int = 0
    mark: int = 1
    table: int = MAIN_TABLE
    addresses: tuple[Interface, ...] = ()
    gateways: tuple[Ip, ...] = ()
    subnet: str = ""

    @property
    def primary(self) -> bool:
        """Whether this is the interface the instance was born with."""
        return self.device == 0 and self.card == 0

    def address(self, family: Family) -> Interface | None:
        """Return its own address of that family, or None."""
        return next((a for a in self.addresses if a.version == family), None)

    def gateway(self, family: Family) -> Ip | None:
        """Return the subnet's router of that family, or None."""
        return next((g for g in self.gateways if g.version == family), None)


@frozen(kw_only=True)
class Lease:
    """One address out of the pool, the ENI it belongs to, and its prefix if any."""

    address: Ip
    eni: Eni
    prefix: Network | None = None


@frozen(kw_only=True)
class Nic:
    """One interface of a pod.

    ``addresses`` have full length (/32, /128); ``gateways`` are next hops inside the
    pod, one per family.  ``eni`` is None behind a foreign main plugin.  ``index`` is
    its number in the pod; that of CNI_IFNAME is 0, and the default route is by it.
    """

    ifname: str
    host_ifname: str
    mac: str
    host_mac: str
    addresses: tuple[Interface, ...]
    gateways: tuple[Ip, ...] = ()
    eni: Eni | None = None
    index: int = 0

    @classmethod
    def of(cls, pod: Pod, index: int, leases: Sequence[Lease]) -> Self:
        """Make the interface with this number, of leases that are of one ENI."""
        return cls(
            ifname=pod.ifname_of(index),
            host_ifname=pod.host_ifname_of(index),
            mac=pod.mac("pod", index),
            host_mac=pod.mac("host", index),
            addresses=tuple([_whole(lease.address) for lease in leases]),
            gateways=tuple([_gateway(lease.address, index) for lease in leases]),
            eni=leases[0].eni,
            index=index,
        )


@frozen(kw_only=True)
class Allocation:
    """What a pod was given: one `Nic` for an ordinary pod."""

    nics: tuple[Nic, ...]

    @classmethod
    def of(cls, pod: Pod, *leases: Lease) -> Self:
        """Make one interface of these leases, which must share an ENI.

        >>> from ipaddress import ip_address
        >>> pod = Pod(container_id="c", ifname="eth0", network="vpc")
        >>> eni = Eni(id="eni-1", link="ens5", mac="02:00:00:00:00:01", device=0)
        >>> lease = Lease(address=ip_address("10.0.0.7"), eni=eni)
        >>> Allocation.of(pod, lease).nics[0].addresses
        (IPv4Interface('10.0.0.7/32'),)
        """
        enis = {lease.eni.id for lease in leases}
        if len(enis) != 1:
            msg = f"one interface needs addresses of one ENI, not of {sorted(enis)}"
            raise UnsupportedError(msg)
        return cls(nics=(Nic.of(pod, 0, leases),))

    @classmethod
    def of_cards(cls, pod: Pod, leases: Sequence[Lease]) -> Self:
        """Make one interface of each lease; the first is CNI_IFNAME."""
        return cls(
            nics=tuple(Nic.of(pod, index, (one,)) for index, one in enumerate(leases))
        )


@frozen(kw_only=True)
class NodeSettings:
    """The operator's settings that plugins may heed; AWS's names in brackets."""

    external_snat: bool = False
    """[AWS_VPC_K8S_CNI_EXTERNALSNAT] somebody else translates pods' addresses."""

    exclude_snat_cidrs: tuple[Network, ...] = ()
    """[AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS] reached untranslated, as the VPC is."""

    external_service_cidrs: tuple[Network, ...] = ()
    """[AWS_EXTERNAL_SERVICE_CIDRS] looked up in the main table, rule 1535."""

    randomize_snat: Literal["prng", "hashrandom", "none"] = "prng"
    """[AWS_VPC_K8S_CNI_RANDOMIZESNAT] how source ports are chosen."""

    node_port_support: bool = True
    """[AWS_VPC_CNI_NODE_PORT_SUPPORT] replies to node ports leave as they came."""

    connmark: int = 0x80
    """[AWS_VPC_K8S_CNI_CONNMARK] mark and mask: leaves by the primary ENI."""

    eni_mtu: int = 9001
    """[AWS_VPC_ENI_MTU] MTU of the ENIs' links, bytes."""


@frozen(kw_only=True)
class Node:
    """The node: what EC2 says of it, and the operator's settings.

    ``enis`` are those that are managed and set up, the primary ENI first.
    """

    instance_id: str
    instance_type: str
    region: str
    zone: str
    vpc_cidrs: tuple[Network, ...]
    enis: tuple[Eni, ...]
    settings: NodeSettings = field(factory=NodeSettings)

    @property
    def primary(self) -> Eni:
        """The ENI that the instance was born with."""
        return self.enis[0]

    @property
    def near(self) -> tuple[Network, ...]:
        """What pods reach with their own address: the VPC and what is excluded."""
        both = {*self.vpc_cidrs, *self.settings.exclude_snat_cidrs}
        return tuple(
            sorted(both, key=lambda n: (n.version, n.network_address, n.prefixlen))
        )


@frozen(kw_only=True)
class Keep:
    """The wish that a pod's addresses rest for whoever takes them by this key.

    Nobody else gets them for so many ``seconds``; they count as cooling meanwhile.
    """

    key: str = field(validator=validators.min_len(1))
    seconds: float = field(validator=validators.gt(0))


class Pool(Protocol):
    """A desk at the pool, open while one ADD's allocate_ip runs."""

    def take(
        self,
        family: Family = 4,
        *,
        address: Ip | None = None,
        eni: str | None = None,
        prefer: Kind | None = None,
        kept: str | None = None,
    ) -> Lease:
        """Take an address at once; what was taken goes back if the ADD fails.

        ``address`` asks for just this one, ``eni`` for one of that ENI; ``prefer``
        says which to take first, one of a prefix or one that is single.  ``kept`` is a
        `Keep`'s key: the address that rests for it, if there is one.

        Raises PoolEmptyError when there is none; let it pass: the core waits for
        addresses and calls the hook again.
        """
        ...

    def take_pair(self, *, prefer: Kind | None = None) -> tuple[Lease, Lease]:
        """Take an IPv4 and an IPv6 address of one ENI, both or none.

        Raises PoolEmptyError when no ENI has both.
        """
        ...

    def take_each_card(self, *, prefer: Kind | None = None) -> tuple[Lease, ...]:
        """Take an IPv4 address of every managed network card, in order, all or none.

        Raises PoolEmptyError when a card has none, UnsupportedError where
        ENABLE_MULTI_NIC is off.
        """
        ...

    def held(self, **match: str) -> int:
        """Count the pods on this node that hold addresses.

        ``match`` narrows it to a namespace or name: ``held(namespace="web")``.
        """
        ...
