"""The agent's pages: `/healthz`, `/readyz` and `/metrics`, for kubelet and Prometheus.

A thread of its own accepts, and one for each of the few connections answers.  They
begin before EC2 and IMDS are asked, so that an agent that waits for those is not taken
for dead.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Callable, Mapping
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from threading import BoundedSemaphore, Thread
from typing import Any, Final

import structlog
from attrs import define, frozen

from eniplug.core.settings import Listen
from eniplug.hooks.errors import ConfigError

log = structlog.get_logger()

PLACES: Final = 16
"""Connections at a time; one more is closed at once."""

PATIENCE: Final = 5.0
"""Seconds that a client may say nothing."""

STALLED: Final = 30.0
"""Seconds without a heartbeat after which the agent is not healthy; it has one in 5."""

TEXT: Final = "text/plain; charset=utf-8"
PROMETHEUS: Final = "text/plain; version=0.0.4; charset=utf-8"


@frozen
class Page:
    """What is answered."""

    body: bytes
    status: HTTPStatus = HTTPStatus.OK
    kind: str = TEXT


Pages = Mapping[str, Callable[[], Page]]
"""Paths, and what answers them."""


@define(eq=False)
class Health:
    """Whether the agent lives, and whether it serves; written by the main thread.

    While it starts it may wait for EC2 as long as that takes: there is no heartbeat
    yet that could fail.
    """

    clock: Callable[[], float] = time.monotonic
    serving: bool = False
    beaten: float | None = None

    def beat(self) -> None:
        """Show that the main thread gets round to its work."""
        self.beaten = self.clock()

    def healthz(self) -> Page:
        """Answer whether the agent should be left alone: kubelet's liveness probe."""
        silent = 0.0 if self.beaten is None else self.clock() - self.beaten
        if silent > STALLED:
            text = f"no heartbeat for {silent:.0f} s\n"
            return Page(text.encode(), HTTPStatus.SERVICE_UNAVAILABLE)
        return Page(b"ok\n")

    def readyz(self) -> Page:
        """Answer whether the socket is open; a node that is full of pods is ready."""
        if not self.serving:
            return Page(b"starting or stopping\n", HTTPStatus.SERVICE_UNAVAILABLE)
        return Page(b"ok\n")


class Http:
    """Serves pages at an address until it is closed.  None serves nothing."""

    def __init__(self, listen: Listen | None, pages: Pages) -> None:
        self._listen = listen
        self._pages = pages
        self._server: _Server | None = None

    @property
    def port(self) -> int:
        """Where it listens: another than was asked for if that was 0."""
        assert self._server is not None
        return int(self._server.server_address[1])

    def open(self) -> None:
        """Begin to answer.  Raises ConfigError when the address cannot be had."""
        if self._listen is None:
            return
        try:
            self._server = _Server(self._listen, self._pages)
        except OSError as error:
            msg = f"ENIPLUG_METRICS_ADDR={self._listen}: {error.strerror}"
            raise ConfigError(
                msg, "stop what listens there, or set another address, or off"
            ) from error
        self._server.start()

    def close(self) -> None:
        """Answer nobody any more."""
        if self._server is not None:
            self._server.end()


class _Server(ThreadingHTTPServer):
    """Answers a few at a time, and waits for none at the end."""

    daemon_threads = True
    block_on_close = False
    request_queue_size = 4 * PLACES

    def __init__(self, listen: Listen, pages: Pages) -> None:
        self.pages = pages
        six = ":" in listen.host
        self.address_family = socket.AF_INET6 if six else socket.AF_INET
        self._places = BoundedSemaphore(PLACES)
        self._over = False
        self._thread = Thread(target=self._run, name="http", daemon=True)
        super().__init__((listen.host, listen.port), _Handler)

    def start(self) -> None:
        """Answer on a thread of its own, which wakes for nothing but connections."""
        self._thread.start()

    def end(self) -> None:
        """Answer no more; returns at once."""
        self._over = True
        self.socket.shutdown(socket.SHUT_RDWR)  # the thread's wait is over
        self._thread.join()
        self.server_close()

    def _run(self) -> None:
        while not self._over:
            self.handle_request()

    def server_bind(self) -> None:
        # Without the base class's look-up of the host's name, which may ask DNS.
        self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        self.socket.bind(self.server_address)
        self.server_address = self.socket.getsockname()

    def process_request(self, request: Any, client_address: Any) -> None:
        if self._places.acquire(blocking=False):
            super().process_request(request, client_address)
        else:
            self.shutdown_request(request)

    def process_request_thread(self, request: Any, client_address: Any) -> None:
        try:
            super().process_request_thread(request, client_address)
        finally:
            self._places.release()

    def handle_error(self, request: Any, client_address: Any) -> None:
        del request
        log.warning("a page failed", client=str(client_address), exc_info=True)


class _Handler(BaseHTTPRequestHandler):
    server_version = "eniplug"
    sys_version = ""
    timeout = PATIENCE

    def do_GET(self) -> None:
        assert isinstance(self.server, _Server)
        found = self.server.pages.get(self.path.partition("?")[0])
        if found is None:
            names = " ".join(self.server.pages)
            page = Page(f"there are: {names}\n".encode(), HTTPStatus.NOT_FOUND)
        else:
            page = found()
        self.send_response(page.status)
        self.send_header("Content-Type", page.kind)
        self.send_header("Content-Length", str(len(page.body)))
        self.end_headers()
        self.wfile.write(page.body)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002
        """Say nothing: probes come every few seconds."""
