"""IMDSv2 for every instance from one socket (EC2 User Guide, "Instance metadata").

Who asks is told by the source address, which the VPC's source check makes true.  The
hop limit of the answer to a token request is a real IP TTL, so that a pod behind one
more hop gets no token, as on EC2.
"""

from __future__ import annotations

import json
import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from ipaddress import IPv4Address
from typing import Any, Final, Protocol, TypeAlias, cast

from eniplug.lab.facts import EniFacts, Nobody, NodeFacts
from eniplug.lab.faults import Faults
from eniplug.lab.serving import Server

Tree: TypeAlias = "dict[str, Tree | str]"
Clock: TypeAlias = Callable[[], float]

ROLE: Final = "eniplug-lab-node"
LONGEST: Final = 21600
"""Most seconds that a token may live."""

_ROOT = re.compile(r"latest|\d{4}-\d{2}-\d{2}")
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"


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
    document = {"instance-identity": cast(Tree, {"document": _document(node)})}
    return {"dynamic": cast(Tree, document), "meta-data": meta}


def _interface(node: NodeFacts, eni: EniFacts) -> Tree:
    def lines(items: Any) -> str:
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


class Who(Protocol):
    """Tells which node has an address, or None."""

    def __call__(self, address: str) -> NodeFacts | None:
        """Look up the source address of a request."""
        ...


class ImdsServer(Server):
    """Serves IMDS over HTTP on one socket."""

    def __init__(
        self,
        sock: socket.socket,
        who: Who,
        memory: Memory,
        clock: Clock = time.monotonic,
    ) -> None:
        self.who = who
        self.memory = memory
        self._clock = clock
        self._tokens: dict[str, tuple[str, float]] = {}
        self._tokens_lock = threading.Lock()
        super().__init__(sock, _Handler)

    def issue(self, instance: str, seconds: int) -> str:
        """Return a new token that is good for one instance."""
        token = secrets.token_urlsafe(42)
        now = self._clock()
        with self._tokens_lock:
            live = {k: v for k, v in self._tokens.items() if v[1] > now}
            self._tokens = {**live, token: (instance, now + seconds)}
        return token

    def accepts(self, token: str, instance: str) -> bool:
        """Tell whether a token is this instance's and still good."""
        with self._tokens_lock:
            owner, dies = self._tokens.get(token, ("", 0.0))
        return owner == instance and self._clock() < dies


class _Handler(BaseHTTPRequestHandler):
    """One request per connection, as EC2's does."""

    protocol_version, server_version, sys_version = "HTTP/1.1", "EC2ws", ""
    server: ImdsServer
    timeout = 10
    wbufsize = -1  # headers and body in one segment: no 40 ms of delayed ACK

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent: the log is the supervisor's."""

    def do_PUT(self) -> None:
        """Give a token."""
        node = self._node()
        if node is None:
            return
        if self.path != "/latest/api/token":
            dated = self.path.endswith("/api/token")
            self._say(403 if dated else 404)
            return
        if self.headers.get("X-Forwarded-For"):  # came through a proxy
            self._say(403)
            return
        ttl = self.headers.get(_TTL, "")
        if not (ttl.isascii() and ttl.isdigit()) or not 1 <= int(ttl) <= LONGEST:
            self._say(400)
            return
        self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, node.hop_limit)
        self._say(200, self.server.issue(node.instance_id, int(ttl)), {_TTL: ttl})

    def do_GET(self) -> None:
        """Tell a value, or the names under a directory."""
        node = self._node()
        if node is None:
            return
        token = self.headers.get("X-aws-ec2-metadata-token")
        if token is None:
            refused = node.token_required
        else:
            refused = not self.server.accepts(token, node.instance_id)
        if refused:
            self._say(401)
            return
        found = self._look_up(node)
        if found is None:
            self._say(404)
        elif isinstance(found, str):
            self._say(200, found)
        else:
            names = (k + "/" * isinstance(v, dict) for k, v in found.items())
            self._say(200, "\n".join(names))

    def _node(self) -> NodeFacts | None:
        node = self.server.who(self.client_address[0])
        if node is None or not node.imds:
            self._say(403)
            return None
        return node

    def _look_up(self, node: NodeFacts) -> Tree | str | None:
        root, *names = [p for p in self.path.partition("?")[0].split("/") if p] or [""]
        if not _ROOT.fullmatch(root):
            return {"latest": {}} if not root else None
        found: Tree | str = tree(node, self.server.memory.enis(node.instance_id))
        for name in names:
            if isinstance(found, str) or name not in found:
                return None
            found = found[name]
        return found

    def _say(
        self, status: int, text: str = "", headers: Mapping[str, str] | None = None
    ) -> None:
        body = text.encode()
        self.send_response(status)
        self.send_header("Content-Type", "text/plain")
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Connection", "close")
        for name, value in (headers or {}).items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(body)
