from __future__ import annotations

import json
import os
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

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eniplug.cni import executable, executable_path, versions, wire
from eniplug.cni.executable import run
from kit.agents import LIMIT, answers, fake_agent, says, waits_for

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


# -- with the agent --------------------------------------------------------------------
# (root: what is not a socket of root's is told nothing)


@pytest.mark.root
def test_the_agent_gets_environment_configuration_and_namespace(tmp_path: Path) -> None:
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
def test_the_agents_answer_is_passed_on(tmp_path: Path, status: int) -> None:
    with fake_agent(tmp_path, answers(status, RESULT)):
        assert run(environ("ADD"), CONFIG, str(tmp_path)) == (status, RESULT)


@pytest.mark.root
def test_an_answer_may_be_as_long_as_the_wire_lets_it(tmp_path: Path) -> None:
    output = b"x" * wire.LIMIT
    with fake_agent(tmp_path, answers(0, output)):
        assert run(environ("ADD"), CONFIG, str(tmp_path)) == (0, output)


@pytest.mark.root
@pytest.mark.parametrize("command", ["GC", "STATUS"])
def test_no_namespace_travels_where_none_is_meant(tmp_path: Path, command: str) -> None:
    with fake_agent(tmp_path) as agent:
        assert run(environ(command), CONFIG, str(tmp_path)) == (0, b"")

    assert agent.heard[0].netns is None


@pytest.mark.root
@pytest.mark.parametrize("netns", ["", "/run/netns/ct-gone"])
def test_a_delete_whose_namespace_is_gone_goes_without(
    tmp_path: Path, netns: str
) -> None:
    with fake_agent(tmp_path) as agent:
        answer = run(environ("DEL", CNI_NETNS=netns), CONFIG, str(tmp_path))

    assert answer == (0, b"")
    assert agent.heard[0].netns is None
    assert agent.heard[0].request.environ["CNI_NETNS"] == netns


@pytest.mark.root
def test_a_slow_agent_is_waited_for(tmp_path: Path) -> None:
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
    tmp_path: Path,
) -> None:
    event = Event()
    with fake_agent(tmp_path, waits_for(event, answers())):
        answer = run(environ("ADD"), CONFIG, str(tmp_path), retry=60, patience=0.2)
        event.set()

    assert code_of(answer) == 11


@pytest.mark.root
def test_no_descriptor_is_left_open(tmp_path: Path) -> None:
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
    tmp_path: Path, command: str, code: int
) -> None:
    began = time.monotonic()

    answer = run(environ(command), CONFIG, str(tmp_path))

    assert code_of(answer) == code
    assert json.loads(answer[1])["cniVersion"] == "0.4.0"
    assert b"agent-away" in answer[1]
    assert time.monotonic() - began < executable.RETRY / 2


def test_an_add_gives_up_after_a_while(tmp_path: Path) -> None:
    began = time.monotonic()

    answer = run(environ("ADD"), CONFIG, str(tmp_path), retry=0.3)

    assert code_of(answer) == 11
    assert 0.3 <= time.monotonic() - began < executable.RETRY / 2


@pytest.mark.root
def test_an_add_finds_an_agent_that_comes_later(tmp_path: Path) -> None:
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
    tmp_path: Path, broken: bytes
) -> None:
    with fake_agent(tmp_path, says(broken), says(broken), answers(0, RESULT)) as agent:
        answer = run(environ("ADD"), CONFIG, str(tmp_path), retry=LIMIT)

    assert answer == (0, RESULT)
    assert len(agent.heard) == 3
    assert len({heard.request.id for heard in agent.heard}) == 1
    assert {heard.netns for heard in agent.heard} == {os.stat(NETNS).st_ino}


@pytest.mark.root
def test_every_call_has_an_id_of_its_own(tmp_path: Path) -> None:
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
    tmp_path: Path, strange: bytes
) -> None:
    with fake_agent(tmp_path, says(strange)):
        answer = run(environ("CHECK"), CONFIG, str(tmp_path))

    assert code_of(answer) == 11


@pytest.mark.parametrize("made", [True, False], ids=["folder", "no folder"])
def test_a_delete_leaves_a_tombstone_and_succeeds(tmp_path: Path, made: bool) -> None:
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


def test_tombstones_lie_in_the_order_of_the_deletes(tmp_path: Path) -> None:
    ids = [f"c{i}" for i in range(5)]

    for one in ids:
        run(environ("DEL", CNI_CONTAINERID=one), CONFIG, str(tmp_path))

    left = [read(data).environ["CNI_CONTAINERID"] for data in tombstones(tmp_path)]
    assert left == ids


@pytest.mark.root
def test_a_delete_whose_answer_was_lost_leaves_a_tombstone(tmp_path: Path) -> None:
    with fake_agent(tmp_path, says(b"\x01")) as agent:
        assert run(environ("DEL"), CONFIG, str(tmp_path)) == (0, b"")

    [left] = tombstones(tmp_path)
    assert read(left).id == agent.heard[0].request.id


def test_a_delete_that_cannot_be_left_is_to_be_repeated(tmp_path: Path) -> None:
    (tmp_path / "tombstones").write_text("")

    assert code_of(run(environ("DEL"), CONFIG, str(tmp_path))) == 11


@pytest.mark.root
@pytest.mark.parametrize(("command", "code"), [("ADD", 11), ("STATUS", 50)])
def test_a_socket_that_is_not_roots_is_told_nothing(
    tmp_path: Path, command: str, code: int
) -> None:
    with fake_agent(tmp_path, answers(0, RESULT)) as agent:
        os.chown(agent.path, 65534, 65534)

        answer = run(environ(command), CONFIG, str(tmp_path), retry=0.2)

    assert code_of(answer) == code
    assert b"not owned by root" in answer[1]
    assert not agent.heard


# -- what is refused before the agent is asked -----------------------------------------


@pytest.mark.parametrize("netns", ["", "/run/netns/ct-gone"])
def test_an_add_without_a_namespace_is_refused(tmp_path: Path, netns: str) -> None:
    answer = run(environ("ADD", CNI_NETNS=netns), CONFIG, str(tmp_path))

    assert code_of(answer) == 4
    assert b"CNI_NETNS" in answer[1]


@pytest.mark.root
def test_a_pipe_in_the_namespaces_place_does_not_hold_it_up(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe")

    with fake_agent(tmp_path) as agent:
        run(environ("ADD", CNI_NETNS=str(tmp_path / "pipe")), CONFIG, str(tmp_path))

    assert agent.heard[0].netns == (tmp_path / "pipe").stat().st_ino


@pytest.mark.parametrize("command", ["", "add", "UPDATE"])
def test_an_unknown_command_is_refused_by_name(tmp_path: Path, command: str) -> None:
    answer = run(environ(command), CONFIG, str(tmp_path))

    assert code_of(answer) == 4
    assert b"CNI_COMMAND" in answer[1]


@pytest.mark.root
def test_a_configuration_that_just_fits_arrives(tmp_path: Path) -> None:
    rest = wire.encode_request(bytes(16), {"CNI_COMMAND": "STATUS"}, b"")
    config = b" " * (wire.LIMIT + 12 - len(rest))

    with fake_agent(tmp_path) as agent:
        answer = run({b"CNI_COMMAND": b"STATUS"}, config, str(tmp_path))

    assert answer == (0, b"")
    assert agent.heard[0].request.stdin == config


@pytest.mark.root
@pytest.mark.parametrize("command", ["ADD", "DEL"])
def test_a_huge_configuration_is_refused(tmp_path: Path, command: str) -> None:
    with fake_agent(tmp_path) as agent:
        answer = run(environ(command), b"x" * wire.LIMIT, str(tmp_path))

    assert code_of(answer) == 7
    assert not agent.heard


def test_a_huge_variable_is_refused_by_name(tmp_path: Path) -> None:
    answer = run(environ("ADD", CNI_ARGS="A=" + "b" * 70000), CONFIG, str(tmp_path))

    assert code_of(answer) == 4
    assert b"CNI_ARGS" in answer[1]


def test_more_variables_than_can_be_counted_are_refused(tmp_path: Path) -> None:
    many = {b"CNI_%d" % i: b"" for i in range(1 << 16)}

    answer = run({**environ("STATUS"), **many}, CONFIG, str(tmp_path))

    assert code_of(answer) == 4


# -- versions --------------------------------------------------------------------------


@pytest.mark.parametrize("version", [*versions.VERSIONS, "0.2.0", "9.9.9"])
def test_version_is_answered_alone_and_as_the_protocol_has_it(version: str) -> None:
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
    tmp_path: Path, config: bytes, version: str
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


@pytest.fixture
def script(tmp_path: Path) -> Path:
    """The executable as it is, but for the folder of the agent's socket."""
    text = executable_path().read_text()
    line = f'FOLDER = "{executable.FOLDER}"\n'
    assert text.count(line) == 1
    path = tmp_path / "eniplug"
    path.write_text(text.replace(line, f'FOLDER = "{tmp_path}"\n'))
    return path


def execute(
    python: str, script: Path, command: str, config: bytes = CONFIG, **more: str
) -> subprocess.CompletedProcess[bytes]:
    done = subprocess.run(
        [python, "-IS", str(script)],
        input=config,
        env={
            os.fsdecode(k): os.fsdecode(v) for k, v in environ(command, **more).items()
        },
        capture_output=True,
        timeout=LIMIT,
    )
    assert done.stderr == b""
    return done


@pytest.mark.root
@pytest.mark.smoke
def test_every_interpreter_of_this_machine_runs_it(
    python: str, script: Path, tmp_path: Path
) -> None:
    done = execute(python, script, "VERSION")
    assert json.loads(done.stdout) == versions.version_answer("0.4.0")
    assert done.returncode == 0

    with fake_agent(tmp_path, answers(0, RESULT)) as agent:
        done = execute(python, script, "ADD")
    assert (done.returncode, done.stdout) == (0, RESULT)
    assert agent.heard[0].request.stdin == CONFIG
    assert agent.heard[0].netns == os.stat(NETNS).st_ino
    agent.path.unlink()

    done = execute(python, script, "STATUS")
    assert code_of((done.returncode, done.stdout)) == 50

    done = execute(python, script, "DEL")
    assert (done.returncode, done.stdout) == (0, b"")
    assert len(tombstones(tmp_path)) == 1


def test_a_huge_configuration_is_not_read_to_its_end(script: Path) -> None:
    done = execute(sys.executable, script, "ADD", b"x" * (8 << 20))

    assert code_of((done.returncode, done.stdout)) == 7


def test_run_by_hand_it_says_so_and_reads_nothing(script: Path) -> None:
    here, there = socket.socketpair()
    with here, there:
        done = subprocess.run(
            [sys.executable, "-IS", str(script)],
            stdin=there.fileno(),
            env={},
            capture_output=True,
            timeout=LIMIT,
        )

    assert code_of((done.returncode, done.stdout)) == 4


def test_it_imports_next_to_nothing(script: Path, tmp_path: Path) -> None:
    def imported(path: Path) -> set[str]:
        done = subprocess.run(
            [sys.executable, "-IS", "-X", "importtime", str(path)],
            input=CONFIG,
            env={os.fsdecode(k): os.fsdecode(v) for k, v in environ("DEL").items()},
            capture_output=True,
            timeout=LIMIT,
        )
        assert done.returncode == 0
        lines = done.stderr.decode().splitlines()
        return {line.rpartition("|")[2].strip() for line in lines}

    (tmp_path / "bare").write_text("")

    more = imported(script) - imported(tmp_path / "bare")

    assert more <= {"_socket"}
    assert tombstones(tmp_path)
