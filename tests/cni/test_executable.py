from __future__ import annotations

import json
import marshal
import os
import shutil
import socket
import stat
import struct
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from functools import cache
from pathlib import Path
from shutil import which
from threading import Event
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eniplug.cni import executable, versions, wire
from kit.agents import LIMIT, Heard, answers, fake_agent, says, waits_for
from kit.executables import NativeRun, Program, Run, native_program, python_program

NETNS = "/proc/self/ns/net"
CONFIG = b'{"cniVersion": "0.4.0", "name": "vpc", "type": "eniplug"}'
RESULT = b'{"cniVersion": "0.4.0", "ips": []}'


def environ(command: str, **more: str) -> dict[bytes, bytes]:
    variables = {
        "CNI_COMMAND": command,
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": NETNS,
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "IgnoreUnknown=1;K8S_POD_NAME=web",
        "CNI_PATH": "/opt/cni/bin",
        **more,
    }
    return {os.fsencode(k): os.fsencode(v) for k, v in variables.items()}


def code_of(answer: tuple[int, bytes]) -> int:
    status, output = answer
    error = json.loads(output)
    assert status == 1
    assert set(error) == {"cniVersion", "code", "msg", "details"}
    code: int = error["code"]
    return code


def tombstones(folder: Path) -> list[bytes]:
    graves = folder / "tombstones"
    return [path.read_bytes() for path in sorted(graves.iterdir())]


def read(data: bytes) -> wire.Request:
    reader = wire.Reader()
    reader.feed(data)
    assert reader.request is not None
    return reader.request


@pytest.fixture(params=["python", "native"])
def run(
    request: pytest.FixtureRequest,
    machine: str,
    tmp_path_factory: pytest.TempPathFactory,
) -> Run:
    """Each of the two executables; the one in Python inside this process."""
    if request.param == "python":
        return executable.run
    return NativeRun(tmp_path_factory.mktemp("native"), machine)


# -- with the agent --------------------------------------------------------------------
# (root: what is not a socket of root's is told nothing)


@pytest.mark.root
def test_the_agent_gets_environment_configuration_and_namespace(
    run: Run, tmp_path: Path
) -> None:
    sent = environ(
        "ADD",
        TRACEPARENT="00-1",
        TRACESTATE="s",
        HOME="/root",
        ENIPLUG_ASK="status",
        CNI_X="é",
    )
    with fake_agent(tmp_path) as agent:
        run(sent, CONFIG, str(tmp_path))

    [heard] = agent.heard
    names = {os.fsdecode(key) for key in sent} - {"HOME", "ENIPLUG_ASK"}
    assert set(heard.request.environ) == names
    assert heard.request.environ["CNI_X"] == "é"
    assert heard.request.environ["TRACEPARENT"] == "00-1"
    assert heard.request.stdin == CONFIG
    assert heard.netns == os.stat(NETNS).st_ino


@pytest.mark.root
@pytest.mark.parametrize("status", [0, 1, 255])
def test_the_agents_answer_is_passed_on(run: Run, tmp_path: Path, status: int) -> None:
    with fake_agent(tmp_path, answers(status, RESULT)):
        assert run(environ("ADD"), CONFIG, str(tmp_path)) == (status, RESULT)


@pytest.mark.root
def test_an_answer_may_be_as_long_as_the_wire_lets_it(run: Run, tmp_path: Path) -> None:
    output = b"x" * wire.LIMIT
    with fake_agent(tmp_path, answers(0, output)):
        assert run(environ("ADD"), CONFIG, str(tmp_path)) == (0, output)


@pytest.mark.root
@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_no_namespace_travels_where_none_is_meant(
    run: Run, tmp_path: Path, command: str
) -> None:
    with fake_agent(tmp_path) as agent:
        assert run(environ(command), CONFIG, str(tmp_path)) == (0, b"")

    assert agent.heard[0].netns is None


@pytest.mark.root
@pytest.mark.parametrize("netns", ["", "/run/netns/ct-gone"])
def test_a_delete_whose_namespace_is_gone_goes_without(
    run: Run, tmp_path: Path, netns: str
) -> None:
    with fake_agent(tmp_path) as agent:
        answer = run(environ("DEL", CNI_NETNS=netns), CONFIG, str(tmp_path))

    assert answer == (0, b"")
    assert agent.heard[0].netns is None
    assert agent.heard[0].request.environ["CNI_NETNS"] == netns


@pytest.mark.root
def test_a_slow_agent_is_waited_for(run: Run, tmp_path: Path) -> None:
    event = Event()
    slow = waits_for(event, answers(0, RESULT))
    with fake_agent(tmp_path, slow) as agent, ThreadPoolExecutor() as pool:
        future = pool.submit(run, environ("ADD"), CONFIG, str(tmp_path))
        while not agent.heard:
            assert not future.done()
        event.set()

        assert future.result(LIMIT) == (0, RESULT)

    assert len(agent.heard) == 1


@pytest.mark.root
def test_an_agent_that_never_answers_is_not_waited_for_without_end(
    run: Run,
    tmp_path: Path,
) -> None:
    event = Event()
    with fake_agent(tmp_path, waits_for(event, answers())):
        answer = run(environ("ADD"), CONFIG, str(tmp_path), retry=60, patience=0.2)
        event.set()

    assert code_of(answer) == 11


@pytest.mark.root
def test_an_agent_that_dribbles_is_not_waited_for_without_end(
    run: Run, tmp_path: Path
) -> None:
    def dribble(connection: socket.socket, _: Heard) -> None:
        for byte in wire.encode_answer(0, b"x" * 1000):
            connection.sendall(bytes((byte,)))
            time.sleep(0.05)

    with fake_agent(tmp_path, dribble):
        answer = run(environ("CHECK"), CONFIG, str(tmp_path), patience=0.3)

    assert code_of(answer) == 11
    assert b"timed out" in answer[1]


@pytest.mark.root
def test_no_descriptor_is_left_open(run: Run, tmp_path: Path) -> None:
    before = set(os.listdir("/proc/self/fd"))

    with fake_agent(tmp_path, says(b""), answers()):
        for command in ("ADD", "DEL", "CHECK"):
            run(environ(command), CONFIG, str(tmp_path))

    assert set(os.listdir("/proc/self/fd")) == before


# -- without it ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("command", "code"), [("CHECK", 11), ("STATUS", 50), ("GC", 11)]
)
def test_what_cannot_wait_is_refused_at_once(
    run: Run, tmp_path: Path, command: str, code: int
) -> None:
    began = time.monotonic()

    answer = run(environ(command), CONFIG, str(tmp_path))

    assert code_of(answer) == code
    assert json.loads(answer[1])["cniVersion"] == "0.4.0"
    assert b"agent-away" in answer[1]
    assert time.monotonic() - began < executable.RETRY / 2


def test_an_add_gives_up_after_a_while(run: Run, tmp_path: Path) -> None:
    began = time.monotonic()

    answer = run(environ("ADD"), CONFIG, str(tmp_path), retry=0.3)

    assert code_of(answer) == 11
    assert 0.3 <= time.monotonic() - began < executable.RETRY / 2


@pytest.mark.root
def test_an_add_finds_an_agent_that_comes_later(run: Run, tmp_path: Path) -> None:
    with ThreadPoolExecutor() as pool:
        future = pool.submit(run, environ("ADD"), CONFIG, str(tmp_path), LIMIT)
        with fake_agent(tmp_path, answers(0, RESULT)):
            assert future.result(LIMIT) == (0, RESULT)


@pytest.mark.root
@pytest.mark.parametrize(
    "broken",
    [b"", wire.encode_answer(0, RESULT)[:3], wire.encode_answer(0, RESULT)[:-1]],
)
def test_an_add_whose_answer_was_lost_is_repeated_under_its_id(
    run: Run, tmp_path: Path, broken: bytes
) -> None:
    with fake_agent(tmp_path, says(broken), says(broken), answers(0, RESULT)) as agent:
        answer = run(environ("ADD"), CONFIG, str(tmp_path), retry=LIMIT)

    assert answer == (0, RESULT)
    assert len(agent.heard) == 3
    assert len({heard.request.id for heard in agent.heard}) == 1
    assert {heard.netns for heard in agent.heard} == {os.stat(NETNS).st_ino}


@pytest.mark.root
def test_every_call_has_an_id_of_its_own(run: Run, tmp_path: Path) -> None:
    with fake_agent(tmp_path) as agent:
        run(environ("ADD"), CONFIG, str(tmp_path))
        run(environ("ADD"), CONFIG, str(tmp_path))

    assert len({heard.request.id for heard in agent.heard}) == 2


@pytest.mark.root
@pytest.mark.parametrize(
    "strange",
    [b"\x02\x00\x00\x00\x00\x00", struct.pack("<BBI", 1, 0, wire.LIMIT + 1) + b"x"],
)
def test_what_is_no_answer_of_this_version_is_not_believed(
    run: Run, tmp_path: Path, strange: bytes
) -> None:
    with fake_agent(tmp_path, says(strange)):
        answer = run(environ("CHECK"), CONFIG, str(tmp_path))

    assert code_of(answer) == 11


@pytest.mark.parametrize("made", [True, False], ids=["folder", "no folder"])
def test_a_delete_leaves_a_tombstone_and_succeeds(
    run: Run, tmp_path: Path, made: bool
) -> None:
    folder = tmp_path if made else tmp_path / "eniplug"

    answer = run(environ("DEL"), CONFIG, str(folder))

    assert answer == (0, b"")
    [left] = tombstones(folder)
    assert read(left).stdin == CONFIG
    assert read(left).environ["CNI_CONTAINERID"] == "c1"
    assert stat.S_IMODE((folder / "tombstones").stat().st_mode) == 0o700
    [file] = (folder / "tombstones").iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    if not made:
        assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_tombstones_lie_in_the_order_of_the_deletes(run: Run, tmp_path: Path) -> None:
    ids = [f"c{i}" for i in range(5)]

    for one in ids:
        run(environ("DEL", CNI_CONTAINERID=one), CONFIG, str(tmp_path))

    left = [read(data).environ["CNI_CONTAINERID"] for data in tombstones(tmp_path)]
    assert left == ids


@pytest.mark.root
def test_a_delete_whose_answer_was_lost_leaves_a_tombstone(
    run: Run, tmp_path: Path
) -> None:
    with fake_agent(tmp_path, says(b"\x01")) as agent:
        assert run(environ("DEL"), CONFIG, str(tmp_path)) == (0, b"")

    [left] = tombstones(tmp_path)
    assert read(left).id == agent.heard[0].request.id


def test_a_delete_that_cannot_be_left_is_to_be_repeated(
    run: Run, tmp_path: Path
) -> None:
    (tmp_path / "tombstones").write_text("")

    assert code_of(run(environ("DEL"), CONFIG, str(tmp_path))) == 11


@pytest.mark.root
@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("STATUS", 50)])
def test_a_socket_that_is_not_roots_is_told_nothing(
    run: Run, tmp_path: Path, command: str, code: int
) -> None:
    with fake_agent(tmp_path, answers(0, RESULT)) as agent:
        os.chown(agent.path, 65534, 65534)

        answer = run(environ(command), CONFIG, str(tmp_path), retry=0.2)

    assert code_of(answer) == code
    assert b"not owned by root" in answer[1]
    assert not agent.heard


# -- what is refused before the agent is asked -----------------------------------------


@pytest.mark.parametrize("netns", ["", "/run/netns/ct-gone"])
def test_an_add_without_a_namespace_is_refused(
    run: Run, tmp_path: Path, netns: str
) -> None:
    answer = run(environ("ADD", CNI_NETNS=netns), CONFIG, str(tmp_path))

    assert code_of(answer) == 4
    assert b"CNI_NETNS" in answer[1]


@pytest.mark.root
def test_a_pipe_in_the_namespaces_place_does_not_hold_it_up(
    run: Run, tmp_path: Path
) -> None:
    os.mkfifo(tmp_path / "pipe")

    with fake_agent(tmp_path) as agent:
        run(environ("ADD", CNI_NETNS=str(tmp_path / "pipe")), CONFIG, str(tmp_path))

    assert agent.heard[0].netns == (tmp_path / "pipe").stat().st_ino


@pytest.mark.parametrize("command", ["", "add", "UPDATE"])
def test_an_unknown_command_is_refused_by_name(
    run: Run, tmp_path: Path, command: str
) -> None:
    answer = run(environ(command), CONFIG, str(tmp_path))

    assert code_of(answer) == 4
    assert b"CNI_COMMAND" in answer[1]


@pytest.mark.root
def test_a_configuration_that_just_fits_arrives(run: Run, tmp_path: Path) -> None:
    rest = wire.encode_request(bytes(16), {"CNI_COMMAND": "STATUS"}, b"")
    config = b" " * (wire.LIMIT + 12 - len(rest))

    with fake_agent(tmp_path) as agent:
        answer = run({b"CNI_COMMAND": b"STATUS"}, config, str(tmp_path))

    assert answer == (0, b"")
    assert agent.heard[0].request.stdin == config


@pytest.mark.root
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_huge_configuration_is_refused(
    run: Run, tmp_path: Path, command: str
) -> None:
    with fake_agent(tmp_path) as agent:
        answer = run(environ(command), b"x" * wire.LIMIT, str(tmp_path))

    assert code_of(answer) == 7
    assert not agent.heard


def test_a_huge_variable_is_refused_by_name(run: Run, tmp_path: Path) -> None:
    answer = run(environ("ADD", CNI_ARGS="A=" + "b" * 70000), CONFIG, str(tmp_path))

    assert code_of(answer) == 4
    assert b"CNI_ARGS" in answer[1]


def test_more_variables_than_can_be_counted_are_refused(
    run: Run, tmp_path: Path
) -> None:
    many = {b"CNI_%d" % i: b"" for i in range(executable.MOST)}

    answer = run({**environ("STATUS"), **many}, CONFIG, str(tmp_path))

    assert code_of(answer) == 4
    assert b"too many" in answer[1]


# -- versions --------------------------------------------------------------------------


@pytest.mark.parametrize("version", [*versions.VERSIONS, "0.2.0", "9.9.9"])
def test_version_is_answered_alone_and_as_the_protocol_has_it(
    run: Run, version: str
) -> None:
    asked = json.dumps({"cniVersion": version}).encode()

    status, output = run(environ("VERSION", CNI_NETNS="dummy"), asked, "/nowhere")

    assert status == 0
    assert json.loads(output) == versions.version_answer(version)


@pytest.mark.parametrize(
    ("config", "version"),
    [
        (b'{"cniVersion":"0.3.1"}', "0.3.1"),
        (b'{"type": "x", "cniVersion"\n :\t"1.1.0"}', "1.1.0"),
        (b'{"cniVersion": "7"}', "1.0.0"),
        (b'{"cniVersion": 1}', "1.0.0"),
        (b'{"cniVersion":', "1.0.0"),
        (b'{"cniVersion" : "1.1.0', "1.1.0"),
        (b"", "1.0.0"),
        (b"\xff\xfe", "1.0.0"),
    ],
)
def test_an_error_carries_the_configurations_version(
    run: Run, tmp_path: Path, config: bytes, version: str
) -> None:
    _, output = run(environ("STATUS"), config, str(tmp_path))

    assert json.loads(output)["cniVersion"] == version


@given(stdin=st.binary(max_size=200))
def test_no_bytes_of_a_configuration_break_the_search_for_its_version(
    stdin: bytes,
) -> None:
    assert executable.asked_version(b'{"cniVersion"' + stdin) in versions.VERSIONS


def test_both_sides_of_the_wire_have_the_same_limits() -> None:
    assert executable.VERSIONS == versions.VERSIONS
    assert executable.LIMIT == wire.LIMIT
    assert executable.MAGIC == wire.MAGIC


VARIABLES = st.dictionaries(
    st.sampled_from(["CNI_COMMAND", "CNI_ARGS", "CNI_", "HOME", "TRACEPARENT", "CN"]),
    st.text(st.characters(blacklist_characters="\0", codec="utf-8"), max_size=30),
)


@given(request=st.binary(min_size=16, max_size=16), given=VARIABLES, stdin=st.binary())
def test_both_sides_of_the_wire_encode_alike(
    request: bytes, given: dict[str, str], stdin: bytes
) -> None:
    raw = {k.encode(): v.encode() for k, v in given.items()}

    encoded = executable.encode(request, raw, stdin)

    assert encoded == wire.encode_request(request, given, stdin)


# -- the same in both ------------------------------------------------------------------

NEAR_VERSIONS = st.sampled_from(
    [b'"cniVersion"', b" ", b"\n", b":", b'"', b'"1.1.0"', b"0.4.0", b"\0", b"{", b"1"]
)
CONFIGS = st.binary(max_size=30) | st.lists(NEAR_VERSIONS).map(b"".join)
TEXTS = st.binary(max_size=20).map(lambda text: text.replace(b"\0", b""))
ENVIRONMENTS = st.fixed_dictionaries(
    {},
    optional={
        b"CNI_COMMAND": st.sampled_from(
            [b"ADD", b"DEL", b"CHECK", b"GC", b"STATUS", b"VERSION"]
        )
        | TEXTS,
        b"CNI_NETNS": TEXTS | st.just(NETNS.encode()) | st.just(b"/proc/self/exe/x"),
        b"CNI_ARGS": TEXTS | st.just(b"x" * 65535),
        b"CNI_": TEXTS,
        b"TRACEPARENT": TEXTS,
        b"TRACESTATES": TEXTS,
    },
)


@pytest.fixture(scope="module")
def both(
    tmp_path_factory: pytest.TempPathFactory, machine: str
) -> tuple[Path, Program]:
    """The folder of an agent that is away, and the native executable that asks it."""
    folder = tmp_path_factory.mktemp("both")
    return folder, native_program(
        folder / "eniplug", folder, retry=0.0, machine=machine
    )


@settings(deadline=None)
@given(variables=ENVIRONMENTS, config=CONFIGS)
def test_both_executables_say_the_same_when_the_agent_is_away(
    both: tuple[Path, Program], variables: dict[bytes, bytes], config: bytes
) -> None:
    folder, native = both
    graves = folder / "tombstones"

    read = config if variables.get(b"CNI_COMMAND") else b""  # as `executable.main` does
    answer = executable.run(variables, read, str(folder), retry=0.0)
    done = native.run(variables, config)

    assert (done.returncode, done.stdout) == answer
    if graves.exists():
        left = [path.read_bytes() for path in sorted(graves.iterdir())]
        shutil.rmtree(graves)
        assert len(left) == 2
        assert left[0][:12] == left[1][:12]
        assert left[0][28:] == left[1][28:]


@pytest.mark.root
@settings(deadline=None)
@given(
    answer=st.binary()
    | st.builds(
        lambda version, status, length, output: (
            bytes((version, status)) + length.to_bytes(4, "little") + output
        ),
        st.sampled_from([1, 1, 1, 2]),
        st.integers(0, 255),
        st.integers(0, 40) | st.integers(0, 1 << 32).map(lambda n: n & 0xFFFFFFFF),
        st.binary(max_size=40),
    ),
)
def test_both_executables_take_any_answer_alike(
    tmp_path_factory: pytest.TempPathFactory, machine: str, answer: bytes
) -> None:
    folder = tmp_path_factory.mktemp("any")
    native = native_program(folder / "eniplug", folder, machine=machine)

    with fake_agent(folder, says(answer)):
        expected = executable.run(environ("CHECK"), CONFIG, str(folder))
        done = native.run(environ("CHECK"), CONFIG)

    assert (done.returncode, done.stdout) == expected


# -- as a process ----------------------------------------------------------------------


@cache
def interpreters() -> dict[str, str]:
    """Find the Pythons of this machine that the executable may be run by."""
    names = [sys.executable, "/usr/bin/python3"]
    names += [f"python3.{minor}" for minor in range(7, 15)]
    root = Path(os.environ.get("PYENV_ROOT", "/nonexistent"))
    names += [str(path) for path in root.glob("versions/3.*/bin/python")]
    tell = "import sys; print('%d.%d' % sys.version_info[:2])"
    found: dict[str, str] = {}
    for path in filter(None, map(which, names)):
        done = subprocess.run([path, "-IS", "-c", tell], capture_output=True, text=True)
        if done.returncode == 0:
            found.setdefault(done.stdout.strip(), path)
    return found


@pytest.fixture(params=sorted(interpreters()))
def python(request: pytest.FixtureRequest) -> str:
    return interpreters()[request.param]


@pytest.fixture(params=["python", "native"])
def program(request: pytest.FixtureRequest, machine: str, tmp_path: Path) -> Program:
    """Each of the two executables, as a command."""
    if request.param == "python":
        return python_program(tmp_path / "eniplug", tmp_path)
    return native_program(tmp_path / "eniplug", tmp_path, machine=machine)


@pytest.mark.root
def test_every_interpreter_of_this_machine_runs_it(python: str, tmp_path: Path) -> None:
    runs(python_program(tmp_path / "eniplug", tmp_path, python), tmp_path)


@pytest.mark.root
def test_this_machine_runs_the_native_one(machine: str, tmp_path: Path) -> None:
    program = native_program(tmp_path / "eniplug", tmp_path, machine=machine)

    runs(program, tmp_path)


def runs(program: Program, folder: Path) -> None:
    done = program.run(environ("VERSION"), CONFIG)
    assert json.loads(done.stdout) == versions.version_answer("0.4.0")
    assert done.returncode == 0

    with fake_agent(folder, answers(0, RESULT)) as agent:
        done = program.run(environ("ADD"), CONFIG)
    assert (done.returncode, done.stdout) == (0, RESULT)
    assert agent.heard[0].request.stdin == CONFIG
    assert agent.heard[0].netns == os.stat(NETNS).st_ino
    agent.path.unlink()

    done = program.run(environ("STATUS"), CONFIG)
    assert code_of((done.returncode, done.stdout)) == 50

    done = program.run(environ("DEL"), CONFIG)
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(tombstones(folder)) == 1


def test_a_huge_configuration_is_not_read_to_its_end(program: Program) -> None:
    done = program.run(environ("ADD"), b"x" * (8 << 20))

    assert code_of((done.returncode, done.stdout)) == 7


def test_run_by_hand_it_says_so_and_reads_nothing(program: Program) -> None:
    here, there = socket.socketpair()
    with here, there:
        done = subprocess.run(
            program.command,
            stdin=there.fileno(),
            env={},
            capture_output=True,
            timeout=LIMIT,
        )

    assert code_of((done.returncode, done.stdout)) == 4


def test_a_configuration_that_cannot_be_read_is_refused(program: Program) -> None:
    deaf = os.open(os.devnull, os.O_WRONLY)
    try:
        done = subprocess.run(
            program.command,
            stdin=deaf,
            env=environ("ADD"),
            capture_output=True,
            timeout=LIMIT,
        )
    finally:
        os.close(deaf)

    assert code_of((done.returncode, done.stdout)) == 5
    assert b"[Errno 9] Bad file descriptor" in done.stdout


def test_an_answer_that_nobody_reads_is_a_failure(program: Program) -> None:
    reader, writer = os.pipe()
    os.close(reader)
    try:
        done = subprocess.run(
            program.command,
            input=CONFIG,
            env=environ("VERSION"),
            stdout=writer,
            stderr=subprocess.DEVNULL,
            timeout=LIMIT,
        )
    finally:
        os.close(writer)

    assert done.returncode == 1


class Repeating(dict[bytes, bytes]):
    """An environment in which a variable stands twice."""

    def items(self) -> Any:
        """Give the second one last."""
        return [*super().items(), (b"CNI_IFNAME", b"eth9")]


def test_of_a_variable_that_stands_twice_the_first_is_sent(
    program: Program, tmp_path: Path
) -> None:
    done = program.run(Repeating(environ("DEL")), CONFIG)

    assert (done.returncode, done.stdout) == (0, b"")
    [left] = tombstones(tmp_path)
    assert read(left).environ["CNI_IFNAME"] == "eth0"


def test_it_imports_next_to_nothing(tmp_path: Path) -> None:
    def imported(path: Path) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-IS", "-X", "importtime", str(path)],
            input=CONFIG,
            env=environ("DEL"),
            capture_output=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0
        lines = done.stderr.decode().splitlines()
        return {line.rpartition("|")[2].strip() for line in lines}

    (tmp_path / "bare").write_text("")
    python_program(tmp_path / "eniplug", tmp_path)

    more = imported(tmp_path / "eniplug") - imported(tmp_path / "bare")

    assert more <= {"_socket"}
    assert tombstones(tmp_path)


# -- the one in Python is compiled once ------------------------------------------------


OTHER = "import posix; posix._exit(7)"


def asks_for_versions(folder: Path) -> int:
    """Run the executable in Python once; returns its exit status."""
    program = python_program(folder / "eniplug", folder)
    return program.run(environ("VERSION"), CONFIG).returncode


@pytest.mark.root
def test_what_was_compiled_is_run_the_next_time(tmp_path: Path) -> None:
    assert asks_for_versions(tmp_path) == 0
    kept = tmp_path / "executable.code"
    digest, version, _ = kept.read_bytes().split(b" ", 2)
    another = marshal.dumps(compile(OTHER, "another", "exec"))
    kept.write_bytes(b" ".join((digest, version, another)))

    assert asks_for_versions(tmp_path) == 7
    assert stat.S_IMODE(kept.stat().st_mode) == 0o600
    assert {path.name for path in tmp_path.iterdir()} == {"eniplug", kept.name}


@pytest.mark.root
@pytest.mark.parametrize("what", ["empty", "cut", "of others", "linked", "older"])
def test_what_is_not_as_it_was_written_is_compiled_again(
    tmp_path: Path, what: str
) -> None:
    assert asks_for_versions(tmp_path) == 0
    kept = tmp_path / "executable.code"
    whole = kept.read_bytes()
    digest, version, _ = whole.split(b" ", 2)
    wrong = marshal.dumps(compile(OTHER, "another", "exec"))
    kept.write_bytes(b" ".join((digest, version, wrong)))
    if what == "empty":
        kept.write_bytes(b"")
    elif what == "cut":
        kept.write_bytes(whole[:-1])
    elif what == "of others":
        os.chown(kept, 1, 1)
    elif what == "linked":
        kept.symlink_to(kept.rename(tmp_path / "elsewhere"))
    else:
        kept.write_bytes(b" ".join((digest[::-1], version, wrong)))

    assert asks_for_versions(tmp_path) == 0
    assert not kept.is_symlink()
    assert kept.read_bytes() == whole
    assert kept.stat().st_uid == 0


def test_on_a_node_that_had_no_agent_nothing_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "none"
    program = python_program(tmp_path / "eniplug", folder)

    assert program.run(environ("VERSION"), CONFIG).returncode == 0
    assert not folder.exists()
