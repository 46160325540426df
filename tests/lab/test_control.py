from __future__ import annotations

import json
import socket
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from eniplug.lab.control import Server, ask
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.sweep import claim, clear, release, sweep
from kit.names import MINE

pytestmark = pytest.mark.root

NAMES = Names(f"{MINE}-control")


def refuse() -> None:
    msg = "not today"
    raise LabError(msg, "come back tomorrow")


def fail() -> None:
    raise ZeroDivisionError


gate = threading.Barrier(2)

COMMANDS: dict[str, Any] = {
    "add": lambda left, right: left + right,
    "refuse": refuse,
    "fail": fail,
    "meet": lambda: gate.wait(5) >= 0,
}


@pytest.fixture(autouse=True)
def _server() -> Iterator[None]:
    clear(NAMES)
    held = claim(NAMES)
    made = Server(NAMES, COMMANDS)
    try:
        yield
    finally:
        made.close()
        sweep(NAMES)
        release(NAMES, held)


def test_a_command_is_answered() -> None:
    assert ask(NAMES, "add", left=1, right=2) == 3
    assert ask(NAMES, "add", left="a", right="b") == "ab"


def test_a_refusal_arrives_with_its_remedy() -> None:
    with pytest.raises(LabError, match="not today") as caught:
        ask(NAMES, "refuse")

    assert caught.value.remedy == "come back tomorrow"


def test_a_failure_is_told_and_ends_nothing(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(LabError, match="ZeroDivisionError"):
        ask(NAMES, "fail")

    assert ask(NAMES, "add", left=1, right=1) == 2
    assert "Traceback" in capfd.readouterr().err


@pytest.mark.parametrize("line", [b"nonsense\n", b"[]\n", b'{"command": "none"}\n'])
def test_nonsense_is_answered_with_an_error(line: bytes) -> None:
    with socket.socket(socket.AF_UNIX) as sock:
        sock.connect(str(NAMES.control))
        sock.sendall(line)
        answer = json.loads(sock.makefile().readline())

    assert "error" in answer


def test_two_commands_run_at_the_same_time() -> None:
    other = threading.Thread(target=ask, args=(NAMES, "meet"))
    other.start()

    assert ask(NAMES, "meet")
    other.join()


def test_without_a_lab_the_client_says_how_to_get_one() -> None:
    with pytest.raises(LabError, match=f"no lab named '{MINE}-none' is up") as caught:
        ask(Names(f"{MINE}-none"), "status")

    assert caught.value.remedy == "run `eniplug lab up`"
