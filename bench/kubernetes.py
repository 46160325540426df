"""As much of a Kubernetes API server as an agent asks for: its Node object."""

from __future__ import annotations

import json
from collections.abc import Generator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import Thread
from typing import Final

from bench.node import BenchNode

NAME: Final = "node1"


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self) -> None:
        """Answer with the Node object, whatever is asked."""
        metadata = {"name": NAME}
        status = {"capacity": {"pods": "250"}}
        kind = {"apiVersion": "v1", "kind": "Node"}
        text = json.dumps({**kind, "metadata": metadata, "status": status}).encode()
        self.send_response(200)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Keep quiet."""


@contextmanager
def api_server(node: BenchNode) -> Generator[dict[str, str]]:
    """Serve on a node's loopback; yields the settings that lead an agent there."""
    server = node.inside.call(ThreadingHTTPServer, ("127.0.0.1", 0), _Handler)
    with server:
        Thread(target=server.serve_forever, args=(0.05,), daemon=True).start()
        url = f"http://127.0.0.1:{server.server_address[1]}"
        config = {
            "apiVersion": "v1",
            "kind": "Config",
            "current-context": "here",
            "clusters": [{"name": "c", "cluster": {"server": url}}],
            "users": [{"name": "u", "user": {"token": "t"}}],
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
        }
        path = node.folder / "kubeconfig"
        path.write_text(json.dumps(config))  # YAML may be JSON
        try:
            yield {"KUBECONFIG": str(path), "MY_NODE_NAME": NAME}
        finally:
            server.shutdown()
