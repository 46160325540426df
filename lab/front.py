"""The front of the lab's EC2: time, throttling, chosen errors, one call at a time.

moto has no lock and a threaded server has many threads, so each call has the whole
model to itself.  What a call costs in time is spent before, side by side.
"""

from __future__ import annotations

import io
import logging
import random
import socket
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs
from wsgiref.simple_server import WSGIRequestHandler
from xml.sax.saxutils import escape

from eniplug.lab.api import Api
from eniplug.lab.ec2 import Ec2
from eniplug.lab.faults import ANY, Faults
from eniplug.lab.interfaces import REGION
from eniplug.lab.rules import Ec2Error
from eniplug.lab.serving import Server

_STATUS = {
    "InternalError": 500,
    "RequestLimitExceeded": 503,
    "ServiceUnavailable": 503,
    "Unavailable": 503,
    "UnauthorizedOperation": 403,
    "AuthFailure": 401,
}
"""HTTP status by error code, where it is not 400 (EC2 API, "Error codes")."""

StartResponse = Callable[[str, list[tuple[str, str]]], object]

_log = logging.getLogger(__name__)


class Front:
    """The WSGI application; counts every call that reaches it."""

    def __init__(self, ec2: Ec2, faults: Faults) -> None:
        self._ec2 = ec2
        self._lock = threading.Lock()
        self._calls: Counter[str] = Counter()
        self.set_faults(faults)

    def set_faults(self, faults: Faults) -> None:
        """Take other faults; buckets are full again, chosen errors begin anew."""
        with self._lock:
            self._faults = faults
            self._buckets: dict[str, Bucket] = {}
            self._left = {action: times for action, (_, times) in faults.fail.items()}

    @property
    def calls(self) -> Counter[str]:
        """How often each action was called so far, refused calls included."""
        with self._lock:
            return self._calls.copy()

    def __call__(
        self, environ: dict[str, Any], start_response: StartResponse
    ) -> Iterable[bytes]:
        """Answer one call."""
        body = environ["wsgi.input"].read(int(environ.get("CONTENT_LENGTH") or 0))
        environ["wsgi.input"] = io.BytesIO(body)
        text = body.decode("utf-8", "replace") or environ.get("QUERY_STRING", "")
        action = parse_qs(text).get("Action", [""])[0]
        try:
            self._admit(action)
            _check_region(environ.get("HTTP_AUTHORIZATION", ""))
            with self._ec2.lock:
                status, headers, answer = Api(self._ec2).answer(environ)
        except Ec2Error as error:
            status, headers, answer = _refusal(error)
        except Exception:  # noqa: BLE001
            _log.exception("%s failed", action)
            message = "An internal error has occurred"
            status, headers, answer = _refusal(Ec2Error("InternalError", message, 500))
        headers = {k: str(v) for k, v in headers.items() if k.lower() != "status"}
        headers["Content-Length"] = str(len(answer))
        start_response(f"{status} {HTTPStatus(status).phrase}", list(headers.items()))
        return [answer]

    def _admit(self, action: str) -> None:
        """Let time pass and the faults have their way; raises Ec2Error."""
        with self._lock:
            self._calls[action] += 1
            faults = self._faults
            error = self._refuse(action)
        time.sleep(random.uniform(*faults.call_ms) / 1000)
        if error is not None:
            raise error

    def _refuse(self, action: str) -> Ec2Error | None:
        faults = self._faults
        if faults.down:
            return _error("Unavailable", "The lab's EC2 is down.")
        if action in faults.denied:
            message = (
                "You are not authorized to perform this operation. The node's role"
            )
            message += f" is not authorized to perform: ec2:{action}"
            return _error("UnauthorizedOperation", message)
        rate = faults.rate.get(action) or faults.rate.get(ANY)
        if rate and not self._buckets.setdefault(action, Bucket(*rate)).take():
            return _error("RequestLimitExceeded", "Request limit exceeded.")
        if self._left.get(action, 0) > 0:
            self._left[action] -= 1
            return _error(faults.fail[action][0], "A fault of the lab.")
        return None


class Bucket:
    """Request tokens: so many at once, so many a second (EC2 API, "Throttling")."""

    def __init__(
        self, size: float, refill: float, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._size = self._level = size
        self._refill = refill
        self._clock = clock
        self._at = clock()

    def take(self) -> bool:
        """Take a token, if there is one."""
        now = self._clock()
        self._level = min(self._size, self._level + (now - self._at) * self._refill)
        self._at = now
        if self._level < 1:
            return False
        self._level -= 1
        return True


def _error(code: str, message: str) -> Ec2Error:
    return Ec2Error(code, message, _STATUS.get(code, 400))


def _check_region(authorization: str) -> None:
    """Refuse what is signed for elsewhere: EC2 of a region knows no other's calls."""
    scope = authorization.partition("Credential=")[2].partition(",")[0].split("/")
    if len(scope) != 5 or scope[2:4] != [REGION, "ec2"]:  # noqa: PLR2004
        message = "AWS was not able to validate the provided access credentials: "
        message += f"a call must be signed for ec2 in {REGION}"
        raise _error("AuthFailure", message)


def _refusal(error: Ec2Error) -> tuple[int, dict[str, str], bytes]:
    body = (
        '<?xml version="1.0" encoding="UTF-8"?>\n<Response><Errors><Error>'
        f"<Code>{escape(error.code)}</Code><Message>{escape(error.message)}</Message>"
        f"</Error></Errors><RequestID>{uuid.uuid4()}</RequestID></Response>"
    )
    return error.status, {"Content-Type": "text/xml;charset=UTF-8"}, body.encode()


class _Handler(WSGIRequestHandler):
    """One request per connection, answered in one write: Nagle has nothing to hold."""

    timeout = 30
    wbufsize = -1

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002
        """Stay silent: the log is the supervisor's."""


class FrontServer(Server):
    """Serves the front over HTTP."""

    def __init__(self, sock: socket.socket, front: Front) -> None:
        self.base_environ: dict[str, str] = {
            "SERVER_NAME": "ec2",
            "SERVER_PORT": "80",
            "SCRIPT_NAME": "",
            "GATEWAY_INTERFACE": "CGI/1.1",
            "REMOTE_HOST": "",
            "CONTENT_LENGTH": "",
        }
        self._front = front
        super().__init__(sock, _Handler)

    def get_app(self) -> Front:
        """Return the application (wsgiref asks for it with each request)."""
        return self._front
