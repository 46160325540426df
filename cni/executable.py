"""What the container runtime runs: it asks the agent, and prints what that answers.

Standard library only, CPython 3.7 and newer; on the node one file with `starter`.  The
interpreter's start is the greater part of its time: ``socket`` and ``json`` would
double that, so ``_socket`` and ``posix``, which are built in, are used.
`eniplug.cni.wire` has the form of what is sent.  ``native/eniplug.c`` is the same in C:
what is changed here is changed there.
"""

import posix
import sys
import time
from _socket import AF_UNIX, SCM_RIGHTS, SOCK_STREAM, SOL_SOCKET, socket

TYPE_CHECKING = False  # importing typing takes as long as the interpreter's start
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Optional, Tuple

    Environ = Mapping[bytes, bytes]
    Answer = Tuple[int, bytes]

FOLDER = "/run/eniplug"
RETRY = 10.0  # seconds for which an ADD looks for an agent that is away
PAUSE = 0.1  # seconds between two looks
PATIENCE = {b"ADD": 110.0}  # seconds from the start to the answer; kubelet waits 120
LESS_PATIENCE = 30.0  # the same for what never waits for an address
MAGIC = b"eniplug\x01"
LIMIT = 1 << 20  # bytes of a request's body, and of an answer's output
MOST = 1024  # variables that are sent
HEAD = 6  # bytes before an answer's output: version, exit status, length
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")
WITHOUT_AGENT = {b"ADD": 11, b"CHECK": 11, b"DEL": 0, b"GC": 11, b"STATUS": 50}
WITH_NETNS = (b"ADD", b"CHECK", b"DEL")


class RefusedError(Exception):
    """An error of our own: CNI's code, message and details."""

    def __init__(self, code: int, msg: str, details: str) -> None:
        Exception.__init__(self, code, msg, details)
        self.code = code
        self.msg = msg
        self.details = details


def main() -> int:
    """Run as the container runtime's plugin."""
    environ = posix.environ
    stdin = b""
    try:
        if environ.get(b"CNI_COMMAND"):
            stdin = read_all(0)
        status, output = run(environ, stdin, FOLDER)
    except OSError as error:
        status, output = 1, report(RefusedError(5, str(error), "read-failed"), stdin)
    while output:
        output = output[posix.write(1, output) :]
    return status


def read_all(descriptor: int) -> bytes:
    """Read to the end, or until it is more than could be sent."""
    parts = []
    length = 0
    while length <= LIMIT:
        data = posix.read(descriptor, 1 << 16)
        if not data:
            break
        parts.append(data)
        length += len(data)
    return b"".join(parts)


def run(
    environ: "Environ",
    stdin: bytes,
    folder: str,
    retry: float = RETRY,
    patience: "Optional[float]" = None,
) -> "Answer":
    """Carry out one call; returns exit status and standard output.

    ``folder`` is where the agent's socket is.  ``retry`` is for how many seconds an ADD
    looks for an agent that is away, ``patience`` how many the whole call may take.
    """
    try:
        command = environ.get(b"CNI_COMMAND", b"")
        if command == b"VERSION":
            return 0, versions(stdin)
        if command not in WITHOUT_AGENT:
            what = "CNI_COMMAND is %s" % (show(command) if command else "not set")
            raise RefusedError(
                4, what, "bad-environment: this is run by container runtimes"
            )
        request = encode(posix.urandom(16), environ, stdin)
        netns = open_netns(environ, command) if command in WITH_NETNS else None
        try:
            path = folder + "/agent.sock"
            if patience is None:
                patience = PATIENCE.get(command, LESS_PATIENCE)
            if command != b"ADD":
                retry = 0.0
            return ask(request, netns, path, retry, patience)
        except OSError as error:
            return without_agent(command, request, folder, error)
        finally:
            if netns is not None:
                posix.close(netns)
    except RefusedError as error:
        return 1, report(error, stdin)


def open_netns(environ: "Environ", command: bytes) -> "Optional[int]":
    """Open CNI_NETNS, which an ADD must have; None where there is none (any more)."""
    path = environ.get(b"CNI_NETNS", b"")
    try:
        # O_NONBLOCK: what the path names may be anything, a pipe without writer too.
        flags = posix.O_RDONLY | posix.O_CLOEXEC | posix.O_NONBLOCK
        return posix.open(path, flags)
    except OSError as error:
        if command == b"ADD":
            what = "CNI_NETNS %s cannot be opened: %s" % (show(path), error.strerror)
            raise RefusedError(4, what, "bad-netns: it must be the pod's") from error
        return None


# -- the agent -------------------------------------------------------------------------


def ask(
    request: bytes,
    netns: "Optional[int]",
    path: str,
    retry: float,
    patience: float,
) -> "Answer":
    """Send the request, and repeat it, under its one id, while the agent is away.

    Raises OSError when it stays away.
    """
    end = time.monotonic() + patience
    give_up = None
    while True:
        try:
            return call(request, netns, path, end)
        except OSError:
            now = time.monotonic()
            if give_up is None:
                give_up = min(now + retry, end)
            if now >= give_up:
                raise
        time.sleep(PAUSE)


def call(request: bytes, netns: "Optional[int]", path: str, end: float) -> "Answer":
    """Ask once, until ``end`` on the monotonic clock.

    Raises OSError when the agent is away: no socket of root's, nobody listens, or the
    connection ends before the answer does.
    """
    if posix.stat(path).st_uid != 0:
        raise PermissionError(path + " is not owned by root")
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        limit(connection, end)
        connection.connect(path)
        rights = []
        if netns is not None:
            rights.append((SOL_SOCKET, SCM_RIGHTS, netns.to_bytes(4, sys.byteorder)))
        sent = connection.sendmsg([request], rights)
        if sent < len(request):  # even sending nothing fails on a closed connection
            limit(connection, end)
            connection.sendall(request[sent:])
        return receive(connection, end)
    finally:
        connection.close()


def limit(connection: socket, end: float) -> None:
    """Let the connection's next call take until the end; raises OSError after it."""
    left = end - time.monotonic()
    if left <= 0:
        raise TimeoutError("timed out")
    connection.settimeout(left)


def receive(connection: socket, end: float) -> "Answer":
    """Receive one answer; raises OSError when it is not whole, or none of ours."""
    data = b""
    length = HEAD
    while len(data) < length:
        limit(connection, end)
        part = connection.recv(1 << 16)
        if not part:
            raise ConnectionError("the connection ended before the answer")
        data += part
        if len(data) >= HEAD:
            length = HEAD + int.from_bytes(data[2:HEAD], "little")
        if data[0] != MAGIC[-1] or length > HEAD + LIMIT:
            raise ConnectionError("what answers is no agent of this version")
    return data[1], data[HEAD:length]


def encode(request_id: bytes, environ: "Environ", stdin: bytes) -> bytes:
    """Encode a request; `eniplug.cni.wire` decodes it."""
    pairs = []
    for key, value in environ.items():
        if key.startswith(b"CNI_") or key in (b"TRACEPARENT", b"TRACESTATE"):
            pair = key + b"=" + value
            if len(pair) >> 16:
                raise RefusedError(4, show(key) + " is too long", "bad-environment")
            pairs.append(len(pair).to_bytes(2, "little") + pair)
            if len(pairs) > MOST:
                what = "there are too many CNI_* variables"
                raise RefusedError(4, what, "bad-environment")
    parts = [request_id, len(pairs).to_bytes(2, "little")]
    parts += pairs
    parts += [len(stdin).to_bytes(4, "little"), stdin]
    body = b"".join(parts)
    if len(body) > LIMIT:
        what = "configuration and environment are longer than %d bytes" % LIMIT
        raise RefusedError(7, what, "bad-config: shorten the configuration")
    return MAGIC + len(body).to_bytes(4, "little") + body


# -- without the agent -----------------------------------------------------------------


def without_agent(
    command: bytes, request: bytes, folder: str, why: OSError
) -> "Answer":
    """Do what can be done: a DEL is left for later, everything else is refused."""
    remedy = "agent-away: see that `eniplug agent` runs on this node"
    if command != b"DEL":
        what = "the eniplug agent does not answer: %s" % why
        raise RefusedError(WITHOUT_AGENT[command], what, remedy)
    try:
        leave(request, folder)
    except OSError as error:
        what = "the eniplug agent is away (%s), and the DEL cannot be left for it: %s"
        raise RefusedError(11, what % (why, error), remedy) from error
    return 0, b""


def leave(request: bytes, folder: str) -> None:
    """Leave a DEL as a tombstone, which the agent works off when it is back.

    It appears whole or not at all, and in the order of time.
    """
    graves = folder + "/tombstones"
    for made in (folder, graves):
        try:
            posix.mkdir(made, 0o700)
        except FileExistsError:
            pass
    name = "%d.%d" % (time.time() * 1e6, posix.getpid())
    write(graves + "/" + name, graves + "/." + name, request)


def keep(path: str, code: bytes) -> None:
    """Keep what the starter has compiled, for the next start."""
    try:
        write(path, "%s.%d" % (path, posix.getpid()), code)
    except OSError:
        pass  # there has been no agent, or there is no room


def write(path: str, hidden: str, data: bytes) -> None:
    """Write a file that appears whole or not at all; raises OSError."""
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
    descriptor = posix.open(hidden, flags, 0o600)
    try:
        while data:
            data = data[posix.write(descriptor, data) :]
        posix.rename(hidden, path)
    except OSError:
        posix.unlink(hidden)
        raise
    finally:
        posix.close(descriptor)


# -- what is printed -------------------------------------------------------------------


def versions(stdin: bytes) -> bytes:
    """Answer VERSION, in the version that was asked in."""
    listed = ", ".join('"%s"' % version for version in VERSIONS)
    answer = '{"cniVersion": "%s", "supportedVersions": [%s]}\n'
    return (answer % (asked_version(stdin), listed)).encode()


def asked_version(stdin: bytes) -> str:
    """Find a configuration's cniVersion without taking the JSON apart.

    The first one is as good as any: a prevResult has the configuration's version.
    """
    parts = stdin.partition(b'"cniVersion"')[2].split(b'"', 2)
    if len(parts) > 1 and parts[0].strip() == b":":
        found = parts[1].decode("ascii", "replace")
        if found in VERSIONS:
            return found
    return "1.0.0"


def report(error: RefusedError, stdin: bytes) -> bytes:
    """Write an error as the specification has it."""
    import json  # noqa: PLC0415 - it costs as much as all the rest

    answer = {
        "cniVersion": asked_version(stdin),
        "code": error.code,
        "msg": error.msg,
        "details": error.details,
    }
    return json.dumps(answer).encode() + b"\n"


def show(text: bytes) -> str:
    """Make bytes of the environment readable."""
    return text.decode("ascii", "backslashreplace")
