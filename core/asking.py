"""How a command asks the agent that runs on this node."""

from __future__ import annotations

import json
import os
import socket
from pathlib import Path
from typing import Any, Final

from eniplug.cni import wire
from eniplug.hooks.errors import AgentAwayError, EniplugError

SOCKET: Final = Path("/run/eniplug/agent.sock")
"""Where the agent listens, unless ``--run-dir`` says otherwise."""

PATIENCE: Final = 10.0
"""Seconds that the agent has to answer; it asks nobody else for it."""


def ask(path: Path, what: str, about: str = "") -> dict[str, Any]:
    """Ask, and return the answer.

    Raises AgentAwayError when none comes, and EniplugError with the agent's own words
    when it refuses.
    """
    environ = {wire.ASK: what, wire.ABOUT: about}
    try:
        request = wire.encode_request(os.urandom(wire.ID_BYTES), environ, b"")
    except wire.WireError as error:
        raise EniplugError(str(error), "ask for a shorter name") from error
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
            connection.settimeout(PATIENCE)
            connection.connect(str(path))
            connection.sendall(request)
            status, output = wire.read_answer(connection)
        said = json.loads(output)
    except (OSError, ValueError, wire.WireError) as error:
        msg = f"no answer from the agent at {path}: {error}"
        raise AgentAwayError(msg) from error
    if not isinstance(said, dict):
        msg = f"what answers at {path} is no agent"
        raise AgentAwayError(msg)
    if status:
        raise EniplugError(said.get("msg", "refused"), said.get("details", ""))
    return said
