from __future__ import annotations

import http.client
import socket
import time
from collections.abc import Iterator
from contextlib import suppress

import pytest

from eniplug.core.http import PLACES, STALLED, Health, Http, Page
from eniplug.core.settings import Listen
from eniplug.hooks.errors import ConfigError
from eniplug.testing.clock import HandClock
from kit.threads import running


def fail() -> Page:
    msg = "a bug"
    raise RuntimeError(msg)


@pytest.fixture
def served() -> Iterator[int]:
    """The port on which the pages are."""
    http = Http(
        Listen("127.0.0.1", 0), {"/healthz": lambda: Page(b"ok\n"), "/bug": fail}
    )
    http.open()
    yield http.port
    http.close()


def get(port: int, path: str, method: str = "GET") -> tuple[int, bytes]:
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=30)
    try:
        connection.request(method, path)
        answer = connection.getresponse()
        return answer.status, answer.read()
    finally:
        connection.close()


def test_a_page_is_answered(served: int) -> None:
    assert get(served, "/healthz") == (200, b"ok\n")
    assert get(served, "/healthz?verbose") == (200, b"ok\n")


def test_what_is_no_page_is_answered_with_those_there_are(served: int) -> None:
    assert get(served, "/") == (404, b"there are: /healthz /bug\n")
    assert get(served, "/healthz", "POST")[0] == 501


def test_a_page_that_fails_spoils_no_other(served: int) -> None:
    with pytest.raises(http.client.RemoteDisconnected):
        get(served, "/bug")

    assert get(served, "/healthz")[0] == 200


def test_silent_clients_hold_nobody_up(served: int) -> None:
    silent = [socket.create_connection(("127.0.0.1", served)) for _ in range(4)]

    assert get(served, "/healthz")[0] == 200

    for one in silent:
        one.close()


def test_more_clients_than_places_are_turned_away_and_no_longer(served: int) -> None:
    silent = [
        socket.create_connection(("127.0.0.1", served)) for _ in range(2 * PLACES)
    ]
    with pytest.raises(OSError):  # noqa: PT011 - reset or disconnected
        get(served, "/healthz")

    for one in silent:
        one.close()

    end = time.monotonic() + 30
    while time.monotonic() < end:
        with suppress(OSError):
            assert get(served, "/healthz")[0] == 200
            return
    pytest.fail("the places did not come free")


def test_it_listens_on_ipv6_too() -> None:
    served = Http(Listen("::1", 0), {"/healthz": lambda: Page(b"ok\n")})
    served.open()
    try:
        with socket.create_connection(("::1", served.port), timeout=30) as connection:
            connection.sendall(b"GET /healthz HTTP/1.0\r\n\r\n")
            assert connection.makefile("rb").readline().split()[1] == b"200"
    finally:
        served.close()


def test_an_address_that_is_taken_is_refused_with_its_setting() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]

        with pytest.raises(ConfigError) as raised:
            Http(Listen("127.0.0.1", port), {}).open()

    assert raised.value.message == (
        f"ENIPLUG_METRICS_ADDR=127.0.0.1:{port}: Address already in use"
    )
    assert "off" in raised.value.details


def test_off_opens_nothing() -> None:
    served = Http(None, {})

    served.open()
    served.close()


def test_an_agent_that_starts_is_healthy_however_long_that_takes() -> None:
    clock = HandClock()
    health = Health(clock)
    clock.advance(3600.0)

    assert health.healthz().status == 200
    assert health.readyz().status == 503


def test_an_agent_whose_heart_has_stopped_is_not_healthy() -> None:
    clock = HandClock()
    health = Health(clock, serving=True)
    health.beat()
    assert health.readyz().status == 200

    clock.advance(STALLED)
    assert health.healthz().status == 200
    clock.advance(1.0)

    assert health.healthz() == Page(b"no heartbeat for 31 s\n", health.healthz().status)
    assert health.healthz().status == 503
    health.beat()
    assert health.healthz().status == 200


def test_at_the_end_nobody_is_answered_and_no_thread_is_left() -> None:
    http = Http(Listen("127.0.0.1", 0), {"/healthz": lambda: Page(b"ok\n")})
    http.open()
    port = http.port
    assert get(port, "/healthz") == (200, b"ok\n")

    http.close()

    assert "http" not in running()
    with pytest.raises(ConnectionRefusedError):
        get(port, "/healthz")
