"""IMDSv2 for every instance from one socket (EC2 User Guide, "Instance metadata").

Who asks is told by the source address, which the VPC's source check makes true.  The
hop limit of the answer to a token request is a real IP TTL, so that a pod behind one
more hop gets no token, as on EC2.
"""

from __future__ import annotations

import re
import secrets
import socket
import threading
import time
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler
from typing import Final, TypeAlias, cast

from eniplug.lab.facts import NodeFacts
from eniplug.lab.metadata import Clock, Memory, Tree, tree
from eniplug.lab.serving import Server

LONGEST: Final = 21600
"""Most seconds that a token may live."""

_ROOT = re.compile(r"latest|\d{4}-\d{2}-\d{2}")
_SECONDS = re.compile(r"[0-9]{1,5}")
_TTL = "X-aws-ec2-metadata-token-ttl-seconds"

Who: TypeAlias = Callable[[str], NodeFacts | None]
"""Tells which node the source address of a request is."""


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

    protocol_version = "HTTP/1.1"
    timeout = 10
    wbufsize = -1  # headers and body in one segment: no 40 ms of delayed ACK

    def version_string(self) -> str:
        """Return what IMDS calls itself."""
        return "EC2ws"

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
        if not _SECONDS.fullmatch(ttl) or not 1 <= int(ttl) <= LONGEST:
            self._say(400)
            return
        self.connection.setsockopt(socket.IPPROTO_IP, socket.IP_TTL, node.hop_limit)
        self._say(200, self._imds.issue(node.instance_id, int(ttl)), {_TTL: ttl})

    def do_GET(self) -> None:
        """Tell a value, or the names under a directory."""
        node = self._node()
        if node is None:
            return
        token = self.headers.get("X-aws-ec2-metadata-token")
        if token is None:
            refused = node.token_required
        else:
            refused = not self._imds.accepts(token, node.instance_id)
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

    @property
    def _imds(self) -> ImdsServer:
        return cast("ImdsServer", self.server)

    def _node(self) -> NodeFacts | None:
        node = self._imds.who(self.client_address[0])
        if node is None or not node.imds:
            self._say(403)
            return None
        return node

    def _look_up(self, node: NodeFacts) -> Tree | str | None:
        root, *names = [p for p in self.path.partition("?")[0].split("/") if p] or [""]
        if not _ROOT.fullmatch(root):
            return {"latest": {}} if not root else None
        found: Tree | str = tree(node, self._imds.memory.enis(node.instance_id))
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
