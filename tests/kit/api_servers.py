"""A Kubernetes API server on loopback: one Node object's, and events that it keeps.

It answers as kube-apiserver does, as far as that goes: a token is asked for, errors are
Status objects, and an event is held to the rules of validation (kubernetes:
pkg/apis/core/validation/events.go).
"""

from __future__ import annotations

import json
import re
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any, Final

TOKEN: Final = "let-me-in"
NAME: Final = "ip-10-0-1-2.ec2.internal"
TAINT: Final = {"key": "node.kubernetes.io/unschedulable", "effect": "NoSchedule"}

_SUBDOMAIN = re.compile(
    r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
)
_EVENTS = re.compile(r"/api/v1/namespaces/([^/]+)/events")


class ApiServer(ThreadingHTTPServer):
    """What it has and does a test may change at any time.

    ``away`` hangs up without an answer; ``refuses`` has a status by method.
    """

    def __init__(self, port: int = 0) -> None:
        super().__init__(("127.0.0.1", port), _Handler)
        self.taints: list[dict[str, str]] = []
        self.pods: str | None = "29"
        self.events: list[dict[str, Any]] = []
        self.asked: list[str] = []
        self.away = False
        self.refuses: dict[str, int] = {}

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self.server_address[1]}"

    def kubeconfig(self, folder: Path, token: str = TOKEN) -> str:
        """Write a kubeconfig that leads here; returns its path."""
        return kubeconfig(folder, self.url, token)

    def node(self) -> dict[str, Any]:
        """The Node object, with what kubelet and the control plane put there too."""
        other = {"key": "node.kubernetes.io/unreachable", "effect": "NoExecute"}
        resources = {"cpu": "2", "memory": "7913616Ki"}
        if self.pods is not None:
            resources["pods"] = self.pods
        return {
            "apiVersion": "v1",
            "kind": "Node",
            "metadata": {"name": NAME, "labels": {"kubernetes.io/os": "linux"}},
            "spec": {"taints": [other, *self.taints]},
            "status": {"capacity": resources, "allocatable": resources},
        }


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # one segment for each answer: the client need not acknowledge a half

    @property
    def _api(self) -> ApiServer:
        assert isinstance(self.server, ApiServer)
        return self.server

    def do_GET(self) -> None:
        self._answer("GET", None)

    def do_POST(self) -> None:
        length = int(self.headers["Content-Length"])
        self._answer("POST", json.loads(self.rfile.read(length)))

    def _answer(self, method: str, body: dict[str, Any] | None) -> None:
        api = self._api
        api.asked.append(f"{method} {self.path}")
        if api.away:
            self.close_connection = True
            return
        if self.headers["Authorization"] != f"Bearer {TOKEN}":
            self._refuse(401, "Unauthorized")
        elif method in api.refuses:
            self._refuse(api.refuses[method], f"{method} is refused")
        elif method == "GET" and self.path == f"/api/v1/nodes/{NAME}":
            self._send(200, api.node())
        elif body is not None and (found := _EVENTS.fullmatch(self.path)):
            self._take(found[1], body)
        else:
            self._refuse(404, f"{self.path} not found")

    def _take(self, namespace: str, event: dict[str, Any]) -> None:
        metadata, about = event["metadata"], event["involvedObject"]
        taken = {e["metadata"]["name"] for e in self._api.events}
        if metadata["namespace"] != namespace or about["namespace"] != namespace:
            self._refuse(422, "involvedObject.namespace does not match event.namespace")
        elif len(metadata["name"]) > 253 or not _SUBDOMAIN.fullmatch(metadata["name"]):
            self._refuse(422, f"metadata.name {metadata['name']} is no subdomain")
        elif metadata["name"] in taken:
            self._refuse(409, f"{metadata['name']} already exists")
        else:
            self._api.events.append(event)
            self._send(201, event)

    def _refuse(self, code: int, message: str) -> None:
        status = {"apiVersion": "v1", "kind": "Status", "status": "Failure"}
        self._send(code, status | {"message": message, "code": code})

    def _send(self, code: int, said: dict[str, Any]) -> None:
        text = json.dumps(said).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


def kubeconfig(folder: Path, url: str, token: str = TOKEN) -> str:
    """Write a kubeconfig, which is YAML and may be JSON; returns its path."""
    path = folder / "kubeconfig"
    # Without TLS there is nothing to verify; to read the system's CAs takes 0.4 s.
    cluster = {"server": url, "insecure-skip-tls-verify": True}
    user = {"token": token}
    path.write_text(
        json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
                "contexts": [
                    {"name": "here", "context": {"cluster": "c", "user": "u"}}
                ],
            }
        )
    )
    return str(path)


@contextmanager
def api_server(port: int = 0) -> Generator[ApiServer]:
    """Serve until the end; 0: on any port."""
    with ApiServer(port) as server:
        thread = Thread(target=server.serve_forever, args=(0.01,), daemon=True)
        thread.start()
        try:
            yield server
        finally:
            server.shutdown()
            thread.join()
