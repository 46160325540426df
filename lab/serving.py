"""A threading server on a listening socket that somebody else opened.

The socket may be of another network namespace: it stays there, whatever thread
accepts from it.
"""

from __future__ import annotations

import logging
import socket
import sys
import threading
from contextlib import suppress
from socketserver import BaseRequestHandler, BaseServer, TCPServer, ThreadingMixIn
from typing import Any

_log = logging.getLogger(__name__)


class Server(ThreadingMixIn, TCPServer):
    """Serves from the moment it is made until `close`; owns the socket."""

    daemon_threads = False

    def __init__(self, sock: socket.socket, handler: type[BaseRequestHandler]) -> None:
        BaseServer.__init__(self, sock.getsockname(), handler)
        self.socket = sock
        self._open: set[socket.socket] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(
            target=self.serve_forever, args=(0.05,), daemon=True
        )
        self._thread.start()

    def process_request(self, request: Any, client_address: Any) -> None:
        """Serve a connection in a thread of its own."""
        with self._lock:
            self._open.add(request)
        super().process_request(request, client_address)

    def shutdown_request(self, request: Any) -> None:
        """End a connection."""
        with self._lock:
            self._open.discard(request)
        super().shutdown_request(request)

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Log what went wrong, unless the client just went away."""
        if not isinstance(sys.exc_info()[1], ConnectionError | TimeoutError):
            _log.exception("a request of %s failed", client_address)

    def close(self) -> None:
        """Serve nobody any more; every thread has ended when this returns."""
        self.shutdown()
        self._thread.join()
        with self._lock:
            for each in self._open:
                with suppress(OSError):  # its client was faster
                    each.shutdown(socket.SHUT_RDWR)
        self.server_close()
