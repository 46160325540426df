"""The instance metadata service (IMDSv2) as this program needs it.

EC2 user guide, "Instance metadata categories" and "Use IMDSv2": a session token first,
then plain text under ``/latest/meta-data/``.  A key that has nothing to say is a 404;
here it is empty.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import closing
from http.client import HTTPConnection, HTTPException
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network
from typing import Final, Protocol, TypeVar
from urllib.parse import urlsplit

from eniplug.core.ec2 import EniFacts
from eniplug.hooks.capacity import Block
from eniplug.hooks.errors import CloudError

ENDPOINT: Final = "http://169.254.169.254"
ENDPOINT_VARIABLE: Final = "AWS_EC2_METADATA_SERVICE_ENDPOINT"

TOKEN_TTL: Final = 21600
"""Seconds that a session token lasts; the service allows no more."""

TOKEN_MARGIN: Final = 60.0
"""Seconds before its end at which a token is replaced."""

CONNECT: Final = 1.0
READ: Final = 2.0
"""Seconds that a connection, and each part of an answer, may take."""

OK: Final = 200
UNAUTHORIZED: Final = 401
NOT_FOUND: Final = 404


T = TypeVar("T")


class Metadata(Protocol):
    """What this node asks of the metadata service; all but the first five by MAC.

    Each method raises CloudError when there is no answer, the first five also when
    the answer is empty.
    """

    def instance_id(self) -> str:
        """Return the instance's id."""
        ...

    def instance_type(self) -> str:
        """Return the instance's type."""
        ...

    def region(self) -> str:
        """Return the region's name."""
        ...

    def zone(self) -> str:
        """Return the availability zone's name."""
        ...

    def mac(self) -> str:
        """Return the primary ENI's MAC address."""
        ...

    def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses of the ENIs that the service knows."""
        ...

    def interface_id(self, mac: str) -> str:
        """Return an ENI's id; empty if the service does not know it."""
        ...

    def eni(self, mac: str) -> EniFacts | None:
        """Return an ENI as the service shows it: without tags, type and attachment.

        None if the service does not know it, or if it is without an address of IPv4
        (EFA-only).
        """
        ...

    def local_ipv4s(self, mac: str) -> tuple[IPv4Address, ...]:
        """Return an ENI's addresses, its own first."""
        ...

    def blocks(self, mac: str) -> frozenset[Block]:
        """Return all that an ENI has for pods: secondary addresses and prefixes."""
        ...

    def vpc_cidrs(self, mac: str) -> tuple[IPv4Network, ...]:
        """Return the CIDRs of an ENI's VPC."""
        ...

    def security_groups(self, mac: str) -> tuple[str, ...]:
        """Return the ids of an ENI's security groups."""
        ...


class Imds:
    """`Metadata` over HTTP, at the standard address unless the environment names one.

    ``clock`` gives seconds that never go back.
    """

    def __init__(
        self,
        environ: Mapping[str, str] = os.environ,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._root = (environ.get(ENDPOINT_VARIABLE) or ENDPOINT).rstrip("/")
        self._clock = clock
        self._token = ""
        self._token_until = float("-inf")

    def instance_id(self) -> str:
        """Return the instance's id."""
        return self._needed("instance-id")

    def instance_type(self) -> str:
        """Return the instance's type."""
        return self._needed("instance-type")

    def region(self) -> str:
        """Return the region's name."""
        return self._needed("placement/region")

    def zone(self) -> str:
        """Return the availability zone's name."""
        return self._needed("placement/availability-zone")

    def mac(self) -> str:
        """Return the primary ENI's MAC address."""
        return self._needed("mac").lower()

    def macs(self) -> tuple[str, ...]:
        """Return the MAC addresses of the ENIs that the service knows."""
        lines = self._lines("network/interfaces/macs/")
        return tuple(line.rstrip("/").lower() for line in lines)

    def interface_id(self, mac: str) -> str:
        """Return an ENI's id; empty if the service does not know it."""
        return self._get(_of(mac, "interface-id"))

    def eni(self, mac: str) -> EniFacts | None:
        """Return an ENI as the service shows it: without tags, type and attachment."""
        device = self._number(_of(mac, "device-number"))
        if device is None:
            return None
        addresses = self.local_ipv4s(mac)
        cidrs = self._each(_of(mac, "subnet-ipv4-cidr-block"), IPv4Network)
        cidrs6 = self._each(_of(mac, "subnet-ipv6-cidr-blocks"), IPv6Network)
        if not addresses or not cidrs:
            return None
        return EniFacts(
            id=self.interface_id(mac),
            mac=mac,
            subnet=self._get(_of(mac, "subnet-id")),
            subnet_cidr=cidrs[0],
            address=addresses[0],
            vpc=self._get(_of(mac, "vpc-id")),
            secondary=addresses[1:],
            prefixes=self._each(_of(mac, "ipv4-prefix"), IPv4Network),
            subnet_cidr6=next(iter(cidrs6), None),
            addresses6=self._each(_of(mac, "ipv6s"), IPv6Address),
            prefixes6=self._each(_of(mac, "ipv6-prefix"), IPv6Network),
            device=device,
            card=self._number(_of(mac, "network-card")) or 0,
            status="in-use",
            groups=self.security_groups(mac),
        )

    def local_ipv4s(self, mac: str) -> tuple[IPv4Address, ...]:
        """Return an ENI's addresses, its own first."""
        return self._each(_of(mac, "local-ipv4s"), IPv4Address)

    def blocks(self, mac: str) -> frozenset[Block]:
        """Return all that an ENI has for pods: secondary addresses and prefixes."""
        prefixes = self._each(_of(mac, "ipv4-prefix"), IPv4Network)
        prefixes6 = self._each(_of(mac, "ipv6-prefix"), IPv6Network)
        return frozenset((*self.local_ipv4s(mac)[1:], *prefixes, *prefixes6))

    def vpc_cidrs(self, mac: str) -> tuple[IPv4Network, ...]:
        """Return the CIDRs of an ENI's VPC."""
        return self._each(_of(mac, "vpc-ipv4-cidr-blocks"), IPv4Network)

    def security_groups(self, mac: str) -> tuple[str, ...]:
        """Return the ids of an ENI's security groups."""
        return self._lines(_of(mac, "security-group-ids"))

    # -- inside ------------------------------------------------------------------------

    def _needed(self, path: str) -> str:
        text = self._get(path)
        if not text:
            msg = f"IMDS has no {path}"
            raise CloudError(msg)
        return text

    def _lines(self, path: str) -> tuple[str, ...]:
        return tuple(self._get(path).split())

    def _number(self, path: str) -> int | None:
        numbers = self._each(path, int)
        return numbers[0] if numbers else None

    def _each(self, path: str, parse: Callable[[str], T]) -> tuple[T, ...]:
        lines = self._lines(path)
        try:
            return tuple(parse(line) for line in lines)
        except ValueError as error:
            msg = f"IMDS says nonsense at {path}: {error}"
            raise CloudError(msg) from error

    def _get(self, path: str) -> str:
        """Read one key; "" if it is not there."""
        status, text = self._ask(path)
        if status == UNAUTHORIZED:
            # The service forgets tokens when the instance was stopped meanwhile.
            self._token_until = float("-inf")
            status, text = self._ask(path)
        if status == NOT_FOUND:
            return ""
        if status != OK:
            msg = f"IMDS answers {status} to {path}"
            raise CloudError(msg)
        return text

    def _ask(self, path: str) -> tuple[int, str]:
        headers = {"X-aws-ec2-metadata-token": self._session()}
        return self._send("GET", f"/latest/meta-data/{path}", headers)

    def _session(self) -> str:
        if self._clock() >= self._token_until:
            asked = self._clock()
            headers = {"X-aws-ec2-metadata-token-ttl-seconds": str(TOKEN_TTL)}
            status, text = self._send("PUT", "/latest/api/token", headers)
            if status != OK:
                msg = f"IMDS gives no token: {status}"
                raise CloudError(msg, "the instance's metadata options must allow it")
            self._token = text
            self._token_until = asked + TOKEN_TTL - TOKEN_MARGIN
        return self._token

    def _send(
        self, method: str, path: str, headers: Mapping[str, str]
    ) -> tuple[int, str]:
        """Ask once, by a connection of its own: the service keeps none open."""
        at = urlsplit(self._root)
        try:
            with closing(HTTPConnection(at.netloc, timeout=CONNECT)) as connection:
                connection.connect()
                connection.sock.settimeout(READ)
                connection.request(method, at.path + path, headers=headers)
                answer = connection.getresponse()
                text = answer.read().decode("utf-8", "replace").strip()
        except (OSError, HTTPException, ValueError) as error:
            msg = f"no answer from IMDS at {self._root}: {error}"
            raise CloudError(msg) from error
        return answer.status, text


def _of(mac: str, key: str) -> str:
    return f"network/interfaces/macs/{mac}/{key}"
