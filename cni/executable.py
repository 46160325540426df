#!/usr/bin/python3 -IS
"""What the container runtime runs: it asks the agent, and prints what that answers.

One file, standard library only, CPython 3.7 and newer.  Every import costs more than
the agent's work: ``socket`` and ``json`` together cost as much as the interpreter, so
``_socket`` and ``posix``, which are built in, are used.  `eniplug.cni.wire` has the
format of what is sent.
"""

import posix
import sys
from _socket import (
    AF_UNIX,
    MSG_NOSIGNAL,
    SCM_RIGHTS,
    SO_RCVTIMEO,
    SO_SNDTIMEO,
    SOCK_STREAM,
    SOL_SOCKET,
    socket,
)

FOLDER = "/run/eniplug"
RETRY = 10.0  # seconds for which an ADD looks for an agent that is away
PAUSE = 0.1  # seconds between two looks
PATIENCE = 110  # seconds to wait for an answer; runtimes wait longer
LIMIT = 1 << 20  # bytes of a request
HEAD = 6  # bytes before an answer's output: version, exit status, length
VERSIONS = ("0.3.0", "0.3.1", "0.4.0", "1.0.0", "1.1.0")

if False:  # for type checkers; typing would have to be imported
    from collections.abc import Mapping


def main() -> int:
    """Run as the container runtime's plugin."""
    stdin = read_all(0)
    status, output = run(posix.environ, stdin, FOLDER)
    while output:
        output = output[posix.write(1, output) :]
    return status


def read_all(descriptor: int) -> bytes:
    """Read to the end, but not without end."""
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
    environ: "Mapping[bytes, bytes]", stdin: bytes, folder: str, retry: float = RETRY
) -> "tuple[int, bytes]":
    """Carry out one call. Returns exit status and standard output.

    ``environ`` maps bytes to bytes, as ``posix.environ`` does.
    """
    command = environ.get(b"CNI_COMMAND", b"")
    if command == b"VERSION":
        return 0, version(stdin)
    try:
        request = encode(posix.urandom(16), environ, stdin)
    except OverflowError:
        return error(stdin, 4, "a variable is longer than 64 KiB", "bad-environment")
    if len(request) > LIMIT:
        return error(stdin, 6, "the request is longer than 1 MiB", "bad-json")
    netns = None
    path = environ.get(b"CNI_NETNS", b"")
    if path and command in (b"ADD", b"DEL", b"CHECK"):
        try:
            netns = posix.open(path, posix.O_RDONLY | posix.O_CLOEXEC)
        except OSError as failure:
            if command != b"DEL":
                what = "CNI_NETNS cannot be opened: " + str(failure)
                return error(stdin, 4, what, "bad-netns: the pod's namespace is gone")
    try:
        answer = ask(command, request, netns, folder, retry)
    finally:
        if netns is not None:
            posix.close(netns)
    return answer or without_agent(command, request, stdin, folder)


def ask(
    command: bytes, request: bytes, netns: "int | None", folder: str, retry: float
) -> "tuple[int, bytes] | None":
    """Send the request; repeat an ADD, under its one id, while the agent is away.

    None when it stayed away.
    """
    waited = 0.0
    while True:
        answer = call(request, netns, folder)
        if answer is not None:
            return answer
        if command != b"ADD" or waited >= retry:
            return None
        pause(PAUSE)
        waited += PAUSE


def call(
    request: bytes, netns: "int | None", folder: str
) -> "tuple[int, bytes] | None":
    """Ask once. None when the agent is away: no socket, refused, or no whole answer."""
    path = folder + "/agent.sock"
    connection = socket(AF_UNIX, SOCK_STREAM)
    try:
        if posix.stat(path).st_uid != 0:
            return None
        wait = PATIENCE.to_bytes(8, sys.byteorder) + bytes(8)
        connection.setsockopt(SOL_SOCKET, SO_RCVTIMEO, wait)
        connection.setsockopt(SOL_SOCKET, SO_SNDTIMEO, wait)
        connection.connect(path)
        rights = []
        if netns is not None:
            rights = [(SOL_SOCKET, SCM_RIGHTS, netns.to_bytes(4, sys.byteorder))]
        sent = connection.sendmsg([request], rights, MSG_NOSIGNAL)
        while sent < len(request):
            sent += connection.send(request[sent:], MSG_NOSIGNAL)
        data = b""
        while True:
            part = connection.recv(1 << 16)
            if not part:
                return None
            data += part
            if len(data) >= HEAD and len(data) - HEAD >= length_in(data):
                return data[1], data[HEAD:]
    except OSError:
        return None
    finally:
        connection.close()


def length_in(data: bytes) -> int:
    """Read the length of an answer's output off its head."""
    return int.from_bytes(data[2:HEAD], "little")


def without_agent(
    command: bytes, request: bytes, stdin: bytes, folder: str
) -> "tuple[int, bytes]":
    """Do what can be done without the agent."""
    remedy = "agent-away: see that `eniplug agent` runs on this node"
    if command == b"DEL":
        try:
            leave(request, folder)
        except OSError as failure:
            what = "the DEL cannot be left for the agent: " + str(failure)
            return error(stdin, 5, what, remedy)
        return 0, b""
    code = 50 if command == b"STATUS" else 11
    return error(stdin, code, "the eniplug agent does not answer", remedy)


def leave(request: bytes, folder: str) -> None:
    """Leave a DEL as a tombstone, which the agent works off when it is back."""
    graves = folder + "/tombstones"
    for made in (folder, graves):
        try:
            posix.mkdir(made, 0o700)
        except FileExistsError:
            continue
    now = posix.times().elapsed
    name = "%d-%d-%s" % (int(now * 100), posix.getpid(), posix.urandom(4).hex())
    hidden = graves + "/." + name
    flags = posix.O_WRONLY | posix.O_CREAT | posix.O_EXCL | posix.O_CLOEXEC
    descriptor = posix.open(hidden, flags, 0o600)
    try:
        left = request
        while left:
            left = left[posix.write(descriptor, left) :]
        posix.fsync(descriptor)
    finally:
        posix.close(descriptor)
    posix.rename(hidden, graves + "/" + name)


def encode(request_id: bytes, environ: "Mapping[bytes, bytes]", stdin: bytes) -> bytes:
    """Encode a request; `eniplug.cni.wire` decodes it."""
    pairs = []
    for key, value in environ.items():
        if key.startswith((b"CNI_", b"TRACEPARENT", b"TRACESTATE")):
            pair = key + b"=" + value
            pairs.append(len(pair).to_bytes(2, "little") + pair)
    body = [request_id, len(pairs).to_bytes(2, "little"), *pairs]
    body += [len(stdin).to_bytes(4, "little"), stdin]
    text = b"".join(body)
    return b"eniplug\x01" + len(text).to_bytes(4, "little") + text


def version(stdin: bytes) -> bytes:
    """Answer VERSION, in the version that was asked in."""
    listed = ", ".join('"' + v + '"' for v in VERSIONS)
    answer = '{"cniVersion": "%s", "supportedVersions": [%s]}'
    return (answer % (asked_version(stdin), listed)).encode()


def asked_version(stdin: bytes) -> str:
    """Find the cniVersion of a configuration without reading all of it."""
    _, _, rest = stdin.partition(b'"cniVersion"')
    _, _, rest = rest.partition(b'"')
    found = rest.partition(b'"')[0].decode("ascii", "replace")
    return found if found in VERSIONS else "1.0.0"


def error(stdin: bytes, code: int, msg: str, details: str) -> "tuple[int, bytes]":
    """Give exit status and JSON of an error of our own."""
    clean = [
        "".join(c if c.isprintable() and c not in '"\\' else "'" for c in text)
        for text in (msg, details)
    ]
    answer = '{"cniVersion": "%s", "code": %d, "msg": "%s", "details": "%s"}'
    return 1, (answer % (asked_version(stdin), code, *clean)).encode()


def pause(seconds: float) -> None:
    """Sleep; ``time`` is imported by the few that have to wait."""
    import time  # noqa: PLC0415

    time.sleep(seconds)


if __name__ == "__main__":
    posix._exit(main())
