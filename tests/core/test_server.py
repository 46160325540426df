from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from eniplug.cni import wire
from eniplug.core.server import Handler, Server

pytestmark = pytest.mark.root

ENVIRON = {"CNI_COMMAND": "ADD", "CNI_CONTAINERID": "c1", "CNI_IFNAME": "eth0"}


def echo(
    request: wire.Request, here: Callable[[], bool]
) -> tuple[int, bytes, Callable[[], None]]:
    del here
    known = request.netns is not None and os.fstat(request.netns).st_ino
    return 3, f"{request.environ['CNI_CONTAINERID']} {known}".encode(), lambda: None


@pytest.fixture
def served(tmp_path: Path) -> Iterator[Callable[[Handler], Path]]:
    servers: list[Server] = []

    def serve(handler: Handler) -> Path:
        server = Server(tmp_path / "agent.sock", handler, patience=0.5)
        server.open()
        servers.append(server)
        return tmp_path / "agent.sock"

    yield serve
    for server in servers:
        server.refuse()
        server.close(0.5)


def connect(path: Path) -> socket.socket:
    connection = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    connection.settimeout(5)
    connection.connect(str(path))
    return connection


def answer(connection: socket.socket) -> tuple[int, bytes] | None:
    data = b""
    while part := connection.recv(4096):
        data += part
    return wire.decode_answer(data) if data else None


def ask(path: Path, descriptors: list[int] | None = None) -> tuple[int, bytes] | None:
    request = wire.encode_request(bytes(16), ENVIRON, b"{}")
    with connect(path) as connection:
        socket.send_fds(connection, [request], descriptors or [])
        return answer(connection)


def test_a_request_is_answered(served: Callable[[Handler], Path]) -> None:
    assert ask(served(echo)) == (3, b"c1 False")


def test_the_namespaces_descriptor_arrives_and_is_closed(
    served: Callable[[Handler], Path],
) -> None:
    path = served(echo)
    ask(path)
    with open("/proc/self/ns/net") as own:
        inode = os.fstat(own.fileno()).st_ino
        before = len(os.listdir("/proc/self/fd"))

        assert ask(path, [own.fileno()] * 3) == (3, f"c1 {inode}".encode())

        deadline = time.monotonic() + 5
        while len(os.listdir("/proc/self/fd")) != before:
            assert time.monotonic() < deadline


def test_the_socket_is_roots_alone(served: Callable[[Handler], Path]) -> None:
    assert served(echo).stat().st_mode & 0o777 == 0o600


def test_a_silent_client_holds_nobody_up_and_is_dropped(
    served: Callable[[Handler], Path],
) -> None:
    path = served(echo)
    with connect(path) as silent:
        silent.send(b"eni")

        assert ask(path) == (3, b"c1 False")
        assert silent.recv(1) == b""


@pytest.mark.parametrize(
    "data", [b"GET / HTTP/1.1\r\n\r\n", b"eniplug\x02", b"\0" * 99]
)
def test_what_is_no_request_is_dropped(
    served: Callable[[Handler], Path], data: bytes
) -> None:
    with connect(served(echo)) as stranger:
        stranger.send(data)

        assert stranger.recv(1) == b""


def test_a_request_may_come_in_pieces(served: Callable[[Handler], Path]) -> None:
    request = wire.encode_request(bytes(16), ENVIRON, b"{}")
    with connect(served(echo)) as connection:
        for byte in request:
            connection.send(bytes([byte]))

        assert answer(connection) == (3, b"c1 False")


def test_a_handler_knows_whether_its_caller_is_still_there(
    served: Callable[[Handler], Path],
) -> None:
    seen: list[bool] = []
    go, done = threading.Event(), threading.Event()

    def look(
        request: wire.Request, here: Callable[[], bool]
    ) -> tuple[int, bytes, Callable[[], None]]:
        del request
        seen.append(here())
        go.wait(5)
        seen.append(here())
        done.set()
        return 0, b"", lambda: None

    with connect(served(look)) as connection:
        connection.send(wire.encode_request(bytes(16), ENVIRON, b"{}"))
        deadline = time.monotonic() + 5
        while not seen:
            assert time.monotonic() < deadline
    go.set()

    assert done.wait(5)
    assert seen == [True, False]


def test_an_error_in_the_handler_closes_the_connection_and_nothing_else(
    served: Callable[[Handler], Path],
) -> None:
    def fail(
        request: wire.Request, here: Callable[[], bool]
    ) -> tuple[int, bytes, Callable[[], None]]:
        del request, here
        msg = "a bug"
        raise ValueError(msg)

    path = served(fail)

    assert ask(path) is None
    assert ask(path) is None


def test_what_comes_after_the_answer_does_not_delay_it(
    served: Callable[[Handler], Path],
) -> None:
    later = threading.Event()

    def wait() -> None:
        later.wait(5)

    def slow(
        request: wire.Request, here: Callable[[], bool]
    ) -> tuple[int, bytes, Callable[[], None]]:
        del request, here
        return 0, b"", wait

    assert ask(served(slow)) == (0, b"")
    assert not later.is_set()
    later.set()


def test_what_runs_is_given_its_time_when_a_server_closes(tmp_path: Path) -> None:
    began, go, ended = threading.Event(), threading.Event(), threading.Event()

    def slow(
        request: wire.Request, here: Callable[[], bool]
    ) -> tuple[int, bytes, Callable[[], None]]:
        del request, here
        began.set()
        go.wait(5)
        return 0, b"late", ended.set

    server = Server(tmp_path / "agent.sock", slow)
    server.open()
    with connect(tmp_path / "agent.sock") as caller:
        caller.send(wire.encode_request(bytes(16), ENVIRON, b"{}"))
        assert began.wait(5)
        server.refuse()
        threading.Timer(0.05, go.set).start()

        server.close(5)

        assert ended.is_set()
        assert answer(caller) == (0, b"late")


def test_a_dead_agents_socket_is_replaced(tmp_path: Path) -> None:
    code = "import socket,sys; s=socket.socket(socket.AF_UNIX); s.bind(sys.argv[1])"
    subprocess.run([sys.executable, "-c", code, tmp_path / "agent.sock"], check=True)
    server = Server(tmp_path / "agent.sock", echo)

    server.open()

    assert ask(tmp_path / "agent.sock") == (3, b"c1 False")
    server.refuse()
    server.close(0.5)
    assert not (tmp_path / "agent.sock").exists()
