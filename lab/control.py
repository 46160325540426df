"""Commands to a lab's supervisor: one line of JSON each way over a unix socket.

A request is ``{"command": NAME, ...arguments}``, an answer ``{"answer": ...}`` or
``{"error": {"message", "remedy"}}``.
"""

from __future__ import annotations

import json
import os
import socket
import struct
import threading
import traceback
from collections.abc import Callable, Mapping
from socketserver import StreamRequestHandler, ThreadingUnixStreamServer
from typing import Any, cast

from eniplug.lab.errors import LabError
from eniplug.lab.names import Names

Command = Callable[..., Any]

ANSWER_WITHIN = 120.0
"""Seconds; an ADD may wait half a minute for addresses, and pods come in dozens."""


class _Handler(StreamRequestHandler):
    def handle(self) -> None:
        peer = self.request.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        _, uid, _ = struct.unpack("3i", peer)
        server = cast("Server", self.server)
        for line in self.rfile if uid == 0 else ():
            self.wfile.write(json.dumps(server.answer(line)).encode() + b"\n")


class Server(ThreadingUnixStreamServer):
    """Takes commands until it is closed; each connection has a thread."""

    daemon_threads = True
    request_queue_size = 64

    def __init__(self, names: Names, commands: Mapping[str, Command]) -> None:
        super().__init__(os.fspath(names.control), _Handler)
        self._commands = commands
        threading.Thread(target=self.serve_forever, args=(0.1,), daemon=True).start()

    def answer(self, line: bytes) -> dict[str, Any]:
        """Carry out one request; never raises."""
        try:
            request = json.loads(line)
            command = self._commands[request.pop("command")]
            return {"answer": command(**request)}
        except LabError as error:
            return {"error": {"message": error.message, "remedy": error.remedy}}
        except Exception as error:  # noqa: BLE001
            traceback.print_exc()
            message = f"the lab's supervisor failed: {error!r}"
            return {"error": {"message": message, "remedy": "see supervisor.log"}}

    def close(self) -> None:
        """Take no more commands."""
        self.shutdown()
        self.server_close()


def ask(
    names: Names, command: str, *, within: float = ANSWER_WITHIN, **arguments: Any
) -> Any:
    """Have the supervisor of a lab do something; return its answer.

    Raises LabError when no such lab is up, or with what the supervisor refuses.
    """
    request = json.dumps({"command": command, **arguments}).encode()
    with socket.socket(socket.AF_UNIX) as sock:
        sock.settimeout(within)
        try:
            sock.connect(os.fspath(names.control))
        except (FileNotFoundError, ConnectionRefusedError):
            msg = f"no lab named {names.lab!r} is up"
            raise LabError(msg, "run `eniplug lab up`") from None
        sock.sendall(request + b"\n")
        with sock.makefile("rb") as lines:
            line = lines.readline()
    if not line:
        msg = "the lab went down before it answered"
        raise LabError(msg, "run `eniplug lab up`")
    answer = json.loads(line)
    if "error" in answer:
        raise LabError(**answer["error"])
    return answer["answer"]
