from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from socketserver import StreamRequestHandler

import pytest

from eniplug.lab.serving import Server
from kit.threads import running


class Echo(StreamRequestHandler):
    def handle(self) -> None:
        line = self.rfile.readline()
        if line == b"fail\n":
            msg = "the handler is broken"
            raise RuntimeError(msg)
        self.wfile.write(line)


@pytest.fixture
def server() -> Iterator[Server]:
    server = Server(socket.create_server(("127.0.0.1", 0)), Echo)
    yield server
    server.close()


def connect(server: Server) -> socket.socket:
    return socket.create_connection(server.server_address[:2], timeout=5)  # type: ignore[arg-type]


def test_clients_are_served_side_by_side(server: Server) -> None:
    with connect(server) as silent, connect(server) as busy:
        busy.sendall(b"one\n")

        assert busy.recv(10) == b"one\n"
        silent.sendall(b"two\n")
        assert silent.recv(10) == b"two\n"


def test_close_hangs_up_on_everybody_and_leaves_no_thread(server: Server) -> None:
    with connect(server) as silent, connect(server) as busy:
        busy.sendall(b"one\n")
        busy.recv(10)

        server.close()

        assert silent.recv(10) == b""
        assert running() == [threading.main_thread().name]
        with pytest.raises(ConnectionRefusedError):
            connect(server)


def test_a_broken_handler_is_logged_and_others_are_served(
    server: Server, caplog: pytest.LogCaptureFixture
) -> None:
    with connect(server) as broken, connect(server) as fine:
        broken.sendall(b"fail\n")
        assert broken.recv(10) == b""
        fine.sendall(b"one\n")

        assert fine.recv(10) == b"one\n"
    assert "the handler is broken" in caplog.text
