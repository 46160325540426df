"""bandwidth: how fast a pod may receive and send.

What goes to the pod is held back by a token bucket on its host link; what comes from
it is redirected to an ifb with a bucket of its own.  A pod that nobody limits has none
of this.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from decimal import Decimal
from math import ceil
from typing import Final, Literal, TypeAlias, get_args

from attrs import evolve, frozen

from eniplug.hooks import (
    Allocation,
    Ifb,
    Nic,
    Object,
    Pod,
    Qdisc,
    Redirect,
    hookimpl,
)
from eniplug.hooks.errors import ConfigError, UnsupportedError
from eniplug.hooks.objects import LONGEST_BURST
from eniplug.hooks.values import ifb_name

Way: TypeAlias = Literal["ingress", "egress"]

WAYS: Final[tuple[Way, ...]] = get_args(Way)
"""As the pod sees it: what it receives, and what it sends."""

NO_BURST: Final = frozenset({2**31 - 1, 2**32 - 1, 8 * (2**32 - 1) - 1})
"""Bursts that runtimes send where none is given: dockershim, containerd, CRI-O."""

MOST: Final = 2**32 - 1
"""The kernel's burst and limit have 32 bits."""

LEAST_BURST: Final = 32 * 1024
"""Bytes: three jumbo frames, so that one large packet does not empty the bucket."""

FRAME: Final = 18
"""Bytes of an Ethernet frame beside its payload, with a VLAN tag."""

ANNOTATION: Final = "kubernetes.io/{}-bandwidth"

SUFFIXES: Final[Mapping[str, Decimal]] = {
    **{name: Decimal(10) ** (3 * n) for n, name in enumerate("num", -3)},
    "": Decimal(1),
    **{name: Decimal(10) ** (3 * n) for n, name in enumerate("kMGTPE", 1)},
    **{f"{name}i": Decimal(2) ** (10 * n) for n, name in enumerate("KMGTPE", 1)},
}
"""Of Kubernetes' quantities (apimachinery, pkg/api/resource)."""

_QUANTITY: Final = re.compile(
    r"([+-]?(?:[0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE][+-]?[0-9]{1,2})?)"
    r"([numkMGTPE]|[KMGTPE]i)?"
)


@frozen
class Limit:
    """What one direction may carry: bits a second, and bits at once; 0: not given."""

    rate: int = 0
    burst: int = 0

    def checked(self, place: str) -> Limit:
        """Hold it to the rules of the reference plugin; raises ValueError."""
        for name, value in (("rate", self.rate), ("burst", self.burst)):
            if type(value) is not int or not 0 <= value < 1 << 64:
                msg = f"{place}: {name} {value!r} is no whole number of 64 bits"
                raise ValueError(f"{msg}, 0 or more")
        if self.rate and not self.burst:
            msg = f"{place}: if rate is set, burst must also be set"
            raise ValueError(msg)
        if self.burst and not self.rate:
            msg = f"{place}: if burst is set, rate must also be set"
            raise ValueError(msg)
        if self.burst // 8 >= MOST:
            msg = f"{place}: burst cannot be more than 4GB"
            raise ValueError(msg)
        if self.rate and min(self.rate, self.burst) < 8:  # noqa: PLR2004
            msg = f"{place}: rate and burst must be a byte (8 bits) at least"
            raise ValueError(msg)
        return evolve(self, burst=0) if self.burst in NO_BURST else self

    def bucket(self, link: str, mtu: int) -> Qdisc:
        """Say it in the kernel's terms; no value is larger than the kernel can keep."""
        rate = self.rate // 8
        burst = self.burst // 8 or max(LEAST_BURST, rate * 5 // 1000)
        # A frame that is larger than the burst would never pass.
        burst = min(max(burst, mtu + FRAME), rate * LONGEST_BURST, MOST)
        limit = min(max(burst, LEAST_BURST) + rate * 25 // 1000, MOST)
        return Qdisc(link=link, discipline="tbf", rate=rate, burst=burst, limit=limit)


@frozen(eq=False, kw_only=True)
class Bandwidth:
    """Limits what a pod receives (ingress) and sends (egress).

    A limit of the options holds for every pod; else the runtime's, else the pod's
    annotation.
    """

    ingressRate: int = 0  # noqa: N815 - the reference plugin's names, in all four
    """Bits a second to each pod; 0: not limited here."""

    ingressBurst: int = 0  # noqa: N815
    """Bits to a pod at once."""

    egressRate: int = 0  # noqa: N815
    """Bits a second from each pod; 0: not limited here."""

    egressBurst: int = 0  # noqa: N815
    """Bits from a pod at once."""

    def __attrs_post_init__(self) -> None:
        for way in WAYS:
            self._fixed(way)

    def _fixed(self, way: Way) -> Limit:
        """Read the options; raises ValueError."""
        if way == "ingress":
            limit = Limit(self.ingressRate, self.ingressBurst)
        else:
            limit = Limit(self.egressRate, self.egressBurst)
        return limit.checked(way)

    @hookimpl
    def setup_netns(self, pod: Pod, allocation: Allocation) -> Iterator[Object]:
        """Declare the buckets; nothing for a pod that is not limited."""
        ingress, egress = (self._limit(pod, way) for way in WAYS)
        for nic in allocation.nics:
            if (ingress or egress) and not nic.host_ifname:
                msg = f"bandwidth: prevResult tells of no host link of {nic.ifname!r}"
                remedy = "a limit needs a main plugin that makes a veth pair"
                raise UnsupportedError(msg, remedy)
            if ingress:
                yield ingress.bucket(nic.host_ifname, pod.mtu)
            if egress:
                yield from _from_pod(pod, nic, egress)

    def _limit(self, pod: Pod, way: Way) -> Limit | None:
        try:
            limits = self._fixed(way), _asked(pod, way), _annotated(pod, way)
        except ValueError as error:
            remedy = "correct the pod's bandwidth, in bits a second and bits"
            raise ConfigError(str(error), remedy) from error
        return next((one for one in limits if one.rate), None)


def _asked(pod: Pod, way: Way) -> Limit:
    """Read runtimeConfig; raises ValueError."""
    place = "runtimeConfig.bandwidth"
    given = pod.given("bandwidth")
    if given is not None and not isinstance(given, Mapping):
        msg = f"{place}: {given!r} is no object"
        raise ValueError(msg)
    rate, burst = (pod.given("bandwidth", way + name) for name in ("Rate", "Burst"))
    limit = Limit(0 if rate is None else rate, 0 if burst is None else burst)
    return limit.checked(f"{place}: {way}")


def _annotated(pod: Pod, way: Way) -> Limit:
    """Read the pod's annotation, as the kubelet reads it; raises ValueError."""
    name = ANNOTATION.format(way)
    text = (pod.annotations or {}).get(name)
    if text is None:
        return Limit()
    rate = _quantity(text)
    if rate is None or not 10**3 <= rate <= 10**15:
        msg = f"annotation {name}: {text!r} is no quantity from 1k to 1P"
        raise ValueError(msg)
    return Limit(rate)


def _quantity(text: str) -> int | None:
    """Read one of Kubernetes' quantities, rounded up; None for what is none."""
    found = _QUANTITY.fullmatch(text)
    return found and ceil(Decimal(found[1]) * SUFFIXES[found[2] or ""])


def _from_pod(pod: Pod, nic: Nic, limit: Limit) -> Iterator[Object]:
    name = ifb_name(nic.host_ifname)
    mac = pod.mac("ifb" if nic.index == 0 else f"ifb{nic.index}")
    yield Ifb(name=name, mac=mac, mtu=pod.mtu)
    yield limit.bucket(name, pod.mtu)
    yield Qdisc(link=nic.host_ifname, discipline="ingress")
    yield Redirect(link=nic.host_ifname, to=name)
