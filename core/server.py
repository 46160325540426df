"""The agent's socket: the front accepts and receives, request threads do the work.

One front thread holds the listener and every connection that has not sent its whole
request yet, so a client that connects and says nothing holds nobody up.  A complete
request goes to a pool of threads; the connection is closed after the answer.
"""

from __future__ import annotations

import array
import math
import os
import select
import socket
import struct
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path
from threading import Thread
from typing import Final

import structlog

from eniplug.cni.wire import Reader, Request, WireError, encode_answer
from eniplug.core.crew import Crew

log = structlog.get_logger()

PATIENCE: Final = 2.0
"""Seconds within which a client must have sent its request."""

RUNNING: Final = 1
"""Requests that run at a time.

With two the kernel could work for one while the other runs; but they fight for the
interpreter, and 50 pods take as long, with a tenth more of the processor.
"""

THREADS: Final = 320
"""More than the 256 ADDs that may run at a time, so that a DEL always finds one."""

Handler = Callable[[Request, Callable[[], bool]], tuple[int, bytes, Callable[[], None]]]
"""Takes a request and whether its caller is still there; gives exit status, standard
output, and what is to be done after the answer."""


class Server:
    """Listens on a unix socket that only root may use."""

    def __init__(
        self, path: Path, handler: Handler, *, patience: float = PATIENCE
    ) -> None:
        self._patience = patience
        self._path = path
        self._handler = handler
        self._events = select.epoll()
        self._crew = Crew(RUNNING, THREADS, "request")
        self._silent: dict[int, tuple[socket.socket, Reader, float]] = {}
        self._front = Thread(target=self._run, name="front", daemon=True)
        self._wake, self._woken = socket.socketpair()
        self._listener: socket.socket | None = None

    def open(self) -> None:
        """Begin to accept requests. Replaces a socket that a dead agent left."""
        listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        temporary = self._path.with_suffix(".new")
        temporary.unlink(missing_ok=True)
        listener.bind(str(temporary))
        temporary.chmod(0o600)
        listener.listen(1024)
        listener.setblocking(False)
        temporary.rename(self._path)
        self._listener = listener
        self._events.register(listener, select.EPOLLIN)
        self._events.register(self._woken, select.EPOLLIN)
        self._front.start()

    def refuse(self) -> None:
        """Accept nothing more; what runs goes on."""
        self._path.unlink(missing_ok=True)
        self._wake.send(b"x")
        self._front.join()
        for one in (self._listener, self._events, self._wake, self._woken):
            if one is not None:
                one.close()

    def close(self, grace: float) -> None:
        """Give running requests ``grace`` seconds."""
        self._crew.rests(grace)
        self._crew.dismiss()

    # -- the front ---------------------------------------------------------------------

    def _run(self) -> None:
        assert self._listener is not None
        listener, woken = self._listener.fileno(), self._woken.fileno()
        while True:
            wait = self._patience / 4 if self._silent else None
            for number, _ in self._events.poll(wait):
                if number == woken:
                    self._drop_silent(math.inf)
                    return
                if number == listener:
                    self._accept(self._listener)
                else:
                    connection, reader, _ = self._silent[number]
                    self._hear(connection, reader)
            if self._silent:
                late = self._drop_silent(time.monotonic() - self._patience)
                for _ in range(late):
                    log.warning("a client connected and said nothing")

    def _accept(self, listener: socket.socket) -> None:
        try:
            connection, _ = listener.accept()
        except OSError:
            return
        _, uid, _ = struct.unpack(
            "3i", connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, 12)
        )
        if uid == 0:
            self._hear(connection, Reader())
        else:
            connection.close()

    def _hear(self, connection: socket.socket, reader: Reader) -> None:
        """Take what has come: as a rule the whole request, when it is accepted."""
        try:
            data, descriptors = _receive(connection)
            reader.feed(data, descriptors)
        except BlockingIOError:
            self._await(connection, reader)
        except OSError:
            self._drop(connection, reader)
        except WireError as error:
            log.warning("not a request", error=str(error))
            self._drop(connection, reader)
        else:
            if reader.request is not None:
                self._let_go(connection)
                self._crew.give(partial(self._serve, connection, reader.request))
            elif data:
                self._await(connection, reader)
            else:
                self._drop(connection, reader)

    def _await(self, connection: socket.socket, reader: Reader) -> None:
        """Listen to it until the rest has come."""
        number = connection.fileno()
        if number not in self._silent:
            self._events.register(number, select.EPOLLIN)
            self._silent[number] = connection, reader, time.monotonic()

    def _drop_silent(self, before: float) -> int:
        """Close the connections that came before; returns how many."""
        late = [
            (connection, reader)
            for connection, reader, since in self._silent.values()
            if since < before
        ]
        for connection, reader in late:
            self._drop(connection, reader)
        return len(late)

    def _drop(self, connection: socket.socket, reader: Reader) -> None:
        self._let_go(connection)
        reader.close()
        connection.close()

    def _let_go(self, connection: socket.socket) -> None:
        """Listen to it no longer: the next with its number may be anybody's."""
        if self._silent.pop(connection.fileno(), None) is not None:
            self._events.unregister(connection)

    # -- a request's thread ------------------------------------------------------------

    def _serve(self, connection: socket.socket, request: Request) -> None:
        try:
            with connection:
                connection.settimeout(self._patience)
                status, output, after = self._handler(
                    request, lambda: _still_there(connection)
                )
                try:
                    connection.sendall(encode_answer(status, output))
                except OSError as error:
                    log.warning("the caller left before its answer", error=str(error))
            self._crew.put_off(partial(_follow_up, after))
        except Exception:
            log.exception("a request failed")
        finally:
            if request.netns is not None:
                os.close(request.netns)


def _follow_up(after: Callable[[], None]) -> None:
    try:
        after()
    except Exception:
        log.exception("what follows a request failed")


def _receive(connection: socket.socket) -> tuple[bytes, list[int]]:
    """Read bytes and descriptors; none of them is inherited by a child.

    Raises BlockingIOError where nothing has come yet.
    """
    data, ancillary, _, _ = connection.recvmsg(
        1 << 16,
        socket.CMSG_SPACE(4 * 4),
        socket.MSG_CMSG_CLOEXEC | socket.MSG_DONTWAIT,
    )
    descriptors = array.array("i")
    for level, kind, payload in ancillary:
        if level == socket.SOL_SOCKET and kind == socket.SCM_RIGHTS:
            whole = len(payload) - len(payload) % descriptors.itemsize
            descriptors.frombytes(payload[:whole])
    return data, list(descriptors)


def _still_there(connection: socket.socket) -> bool:
    """Tell whether the other side has not closed; does not wait."""
    gone = select.POLLRDHUP | select.POLLHUP | select.POLLERR
    poll = select.poll()
    poll.register(connection, gone)
    return not any(happened & gone for _, happened in poll.poll(0))
