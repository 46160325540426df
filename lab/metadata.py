"""What IMDS tells: the tree of a node's metadata, and how late it learns of changes.

Keys are those of the EC2 User Guide, "Instance metadata categories".
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterable
from ipaddress import IPv4Address
from typing import Final, TypeAlias

from eniplug.lab.facts import EniFacts, Nobody, NodeFacts
from eniplug.lab.faults import Faults

Tree: TypeAlias = "dict[str, Tree | str]"
Clock: TypeAlias = Callable[[], float]

ROLE: Final = "eniplug-lab-node"


class Memory(Nobody):
    """What IMDS knows of ENIs: the truth of some time ago, as the faults say.

    A listener; it takes every change with the time from which it is told.
    """

    def __init__(self, faults: Faults, clock: Clock = time.monotonic) -> None:
        self._clock = clock
        self._lock = threading.Lock()
        self._changes: dict[str, dict[str, list[tuple[float, EniFacts | None]]]] = {}
        self._frozen: float | None = None
        self.set_faults(faults)

    def set_faults(self, faults: Faults) -> None:
        """Take other lags for what happens from now on; freeze or go on."""
        with self._lock:
            self._faults = faults
            if not faults.imds_stale:
                self._frozen = None
            elif self._frozen is None:
                self._frozen = self._clock()

    def instance(self, node: NodeFacts) -> None:
        """Know a new instance at once, also while all else is frozen."""
        with self._lock:
            self._changes[node.instance_id] = {
                eni.id: [(float("-inf"), eni)] for eni in node.enis
            }

    def instance_gone(self, node: NodeFacts) -> None:
        """Forget an instance."""
        with self._lock:
            self._changes.pop(node.instance_id, None)

    def attached(self, eni: EniFacts) -> None:
        """Tell of a new ENI after imds_lag_s."""
        self._note(eni, eni, self._faults.imds_lag_s)

    def detached(self, eni: EniFacts) -> None:
        """Tell no more of an ENI."""
        self._note(eni, None, 0)

    def addresses(self, eni: EniFacts) -> None:
        """Tell of other addresses after imds_address_lag_s."""
        if eni.attachment == "attached":
            self._note(eni, eni, self._faults.imds_address_lag_s)

    def attribute(self, eni: EniFacts) -> None:
        """Tell of other groups."""
        if eni.attachment == "attached":
            self._note(eni, eni, 0)

    def _note(self, eni: EniFacts, state: EniFacts | None, lag: float) -> None:
        with self._lock:
            known = self._changes.setdefault(eni.instance, {})
            changes = known.setdefault(eni.id, [])
            due = self._clock() + lag
            if changes and state is not None:  # in order: an ENI before its addresses
                due = max(due, changes[-1][0])
            changes.append((due, state))

    def enis(self, instance: str) -> tuple[EniFacts, ...]:
        """Return an instance's ENIs as IMDS tells of them now."""
        with self._lock:
            now = self._clock() if self._frozen is None else self._frozen
            told: list[EniFacts] = []
            for changes in self._changes.get(instance, {}).values():
                past = [change for change in changes if change[0] <= now]
                del changes[: max(0, len(past) - 1)]
                if past and past[-1][1] is not None:
                    told.append(past[-1][1])
        return tuple(sorted(told, key=lambda eni: (eni.card, eni.device)))


def tree(node: NodeFacts, enis: tuple[EniFacts, ...]) -> Tree:
    """Return all that IMDS has for a node; a key with nothing to say is not there."""
    name = _name(node.address)
    groups = "\n".join(name for _, name in node.eni.groups)
    meta: Tree = {
        "ami-id": node.image,
        "hostname": name,
        "iam": {"security-credentials": {ROLE: _credentials()}},
        "instance-id": node.instance_id,
        "instance-life-cycle": "on-demand",
        "instance-type": node.instance_type,
        "local-hostname": name,
        "local-ipv4": str(node.address),
        "mac": node.mac,
        "network": {"interfaces": {"macs": {e.mac: _interface(node, e) for e in enis}}},
        "placement": {
            "availability-zone": node.zone,
            "availability-zone-id": node.zone_id,
            "region": node.region,
        },
        "security-groups": groups,
        "services": {"domain": "amazonaws.com", "partition": "aws"},
    }
    if node.public_ip:
        meta |= {"public-ipv4": str(node.public_ip)}
        meta |= {"public-hostname": _public_name(node.public_ip)}
    return {
        "dynamic": {"instance-identity": {"document": _document(node)}},
        "meta-data": meta,
    }


def _interface(node: NodeFacts, eni: EniFacts) -> Tree:
    def lines(items: Iterable[object]) -> str:
        return "\n".join(map(str, items))

    values: Tree = {
        "device-number": str(eni.device),
        "interface-id": eni.id,
        "ipv4-prefix": lines(eni.prefixes),
        "ipv6-prefix": lines(eni.prefixes6),
        "ipv6s": lines(eni.addresses6),
        "local-hostname": _name(eni.primary),
        "local-ipv4s": lines(eni.addresses),
        "mac": eni.mac,
        "network-card": str(eni.card) if eni.card else "",
        "owner-id": node.account,
        "security-group-ids": lines(id_ for id_, _ in eni.groups),
        "security-groups": lines(name for _, name in eni.groups),
        "subnet-id": eni.subnet,
        "subnet-ipv4-cidr-block": str(eni.cidr),
        "subnet-ipv6-cidr-blocks": str(eni.cidr6) if eni.cidr6 else "",
        "vpc-id": node.vpc,
        "vpc-ipv4-cidr-block": str(node.vpc_cidrs[0]),
        "vpc-ipv4-cidr-blocks": lines(node.vpc_cidrs),
        "vpc-ipv6-cidr-blocks": lines(node.vpc_cidrs6),
    }
    public = next((each.public for each in node.enis if each.id == eni.id), None)
    if public:
        values["ipv4-associations"] = {str(public): str(eni.primary)}
        values["public-hostname"] = _public_name(public)
        values["public-ipv4s"] = str(public)
    return {key: values[key] for key in sorted(values) if values[key]}


def _name(address: IPv4Address) -> str:
    return f"ip-{str(address).replace('.', '-')}.ec2.internal"


def _public_name(address: IPv4Address) -> str:
    return f"ec2-{str(address).replace('.', '-')}.compute-1.amazonaws.com"


def _credentials() -> str:
    """Return what the SDKs take for a role's credentials; nobody checks them."""
    now = time.time()
    values = {
        "Code": "Success",
        "LastUpdated": _stamp(now),
        "Type": "AWS-HMAC",
        "AccessKeyId": "ASIALABLABLABLABLABL",
        "SecretAccessKey": "lab",
        "Token": "lab",
        "Expiration": _stamp(now + 6 * 3600),
    }
    return json.dumps(values, indent=2)


def _stamp(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def _document(node: NodeFacts) -> str:
    values = {
        "accountId": node.account,
        "architecture": "x86_64",
        "availabilityZone": node.zone,
        "imageId": node.image,
        "instanceId": node.instance_id,
        "instanceType": node.instance_type,
        "privateIp": str(node.address),
        "region": node.region,
        "version": "2017-09-30",
    }
    return json.dumps(values, indent=2)
