"""An agent that does as a test says, behind a real unix socket."""

from __future__ import annotations

import array
import os
import socket
from collections.abc import Callable, Generator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, Thread

from attrs import define, field, frozen

from eniplug.cni.wire import Reader, Request, encode_answer

LIMIT = 30.0
"""Seconds after which anything that hangs here fails."""


@frozen
class Heard:
    """One request, and the inode of the namespace that came along (or None)."""

    request: Request
    netns: int | None


Script = Callable[[socket.socket, Heard], None]
"""What the agent does with a connection whose request has come."""


def answers(status: int = 0, stdout: bytes = b"") -> Script:
    """Answer at once."""
    return lambda connection, _: connection.sendall(encode_answer(status, stdout))


def says(data: bytes) -> Script:
    """Send these bytes, whole answer or not, and hang up."""
    return lambda connection, _: connection.sendall(data)


def waits_for(event: Event, then: Script) -> Script:
    """Say nothing until the event."""

    def script(connection: socket.socket, heard: Heard) -> None:
        assert event.wait(LIMIT)
        then(connection, heard)

    return script


@define
class FakeAgent:
    """Carries out one script for each connection, the last one for all that follow."""

    path: Path
    scripts: list[Script]
    heard: list[Heard] = field(factory=list)

    def serve(self, listener: socket.socket) -> None:
        """Accept until the listener is shut down."""
        while True:
            try:
                connection, _ = listener.accept()
            except OSError:
                return
            with connection:
                connection.settimeout(LIMIT)
                heard = _hear(connection)
                if heard is None:
                    continue
                self.heard.append(heard)
                script = self.scripts.pop(0) if self.scripts[1:] else self.scripts[0]
                try:
                    script(connection, heard)
                except ConnectionError:
                    continue  # the caller has gone, which is its right


def _hear(connection: socket.socket) -> Heard | None:
    reader = Reader()
    while reader.request is None:
        data, ancillary, _, _ = connection.recvmsg(1 << 16, socket.CMSG_SPACE(4 * 4))
        if not data:
            reader.close()
            return None
        descriptors = array.array("i")
        for _, _, payload in ancillary:
            descriptors.frombytes(payload)
        reader.feed(data, list(descriptors))
    netns = reader.request.netns
    if netns is None:
        return Heard(reader.request, None)
    inode = os.fstat(netns).st_ino
    os.close(netns)
    return Heard(reader.request, inode)


@contextmanager
def fake_agent(folder: Path, *scripts: Script) -> Generator[FakeAgent]:
    """Run an agent in a thread; its socket is in the folder."""
    agent = FakeAgent(folder / "agent.sock", list(scripts or (answers(),)))
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as listener:
        listener.bind(str(agent.path))
        listener.listen(8)
        thread = Thread(target=agent.serve, args=(listener,))
        thread.start()
        try:
            yield agent
        finally:
            listener.shutdown(socket.SHUT_RDWR)
            thread.join(LIMIT)
            assert not thread.is_alive()
