from __future__ import annotations

import os
import socket
import struct
from collections.abc import Iterable, Iterator, Mapping

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from eniplug.cni.wire import (
    ID_BYTES,
    LIMIT,
    MAGIC,
    Reader,
    Request,
    WireError,
    decode_answer,
    encode_answer,
    encode_request,
    read_answer,
)

ID = bytes(range(16))
ENVIRON = {"CNI_COMMAND": "ADD", "CNI_NETNS": "/run/netns/a", "TRACEPARENT": "00-1"}
STDIN = b'{"name": "vpc"}'
REQUEST = encode_request(ID, ENVIRON, STDIN)


def opened() -> set[int]:
    listed = [int(name) for name in os.listdir("/proc/self/fd")]
    return {number for number in listed if is_open(number)}  # not the listing's own


def is_open(number: int) -> bool:
    try:
        os.fstat(number)
    except OSError:
        return False
    return True


def feed(chunks: Iterable[bytes], descriptors: Mapping[int, list[int]]) -> Reader:
    """Feed chunks, each with its descriptors; closes what an error left unfed."""
    reader = Reader()
    left = dict(descriptors)
    try:
        for i, chunk in enumerate(chunks):
            reader.feed(chunk, left.pop(i, []))
    finally:
        for numbers in left.values():
            for number in numbers:
                os.close(number)
    return reader


def body(data: bytes) -> bytes:
    return MAGIC + struct.pack("<I", len(data)) + data


def pair(text: bytes) -> bytes:
    return struct.pack("<H", len(text)) + text


def pipes(count: int) -> list[int]:
    found: list[int] = []
    for _ in range(count):
        reading, writing = os.pipe()
        os.close(writing)
        found.append(reading)
    return found


@pytest.fixture
def closed() -> Iterator[None]:
    """Hold a test to closing every descriptor that it had made."""
    before = opened()
    yield
    assert opened() == before


def refusal(data: bytes) -> str:
    with pytest.raises(WireError) as caught:
        Reader().feed(data)
    return str(caught.value)


# -- requests --------------------------------------------------------------------------


def test_a_request_arrives_whole() -> None:
    reader = Reader()

    reader.feed(REQUEST)

    assert reader.request == Request(id=ID, environ=ENVIRON, stdin=STDIN)


def test_a_request_arrives_byte_by_byte() -> None:
    reader = Reader()

    for byte in REQUEST:
        assert reader.request is None
        reader.feed(bytes((byte,)))

    assert reader.request == Request(id=ID, environ=ENVIRON, stdin=STDIN)


def test_the_form_is_the_one_that_the_module_describes() -> None:
    environ = {"CNI_COMMAND": "DEL"}

    assert encode_request(ID, environ, b"{}") == (
        b"eniplug\x01"
        + b"\x29\x00\x00\x00"
        + ID
        + b"\x01\x00"
        + b"\x0f\x00CNI_COMMAND=DEL"
        + b"\x02\x00\x00\x00"
        + b"{}"
    )


def test_only_cnis_and_the_traces_variables_travel() -> None:
    others = {
        "ENIPLUG_CONFLIST": "/x",
        "PATH": "/bin",
        "TRACEPARENTS": "x",
        "XCNI_A": "1",
        "cni_x": "1",
    }

    assert encode_request(ID, {**others, **ENVIRON}, STDIN) == REQUEST


def test_a_variable_that_is_not_utf_8_arrives_as_it_was() -> None:
    raw = b"CNI_ARGS=\xff\xed\xa0\x80"
    environ = {"CNI_ARGS": raw[9:].decode("utf-8", "surrogateescape")}
    reader = Reader()

    reader.feed(encode_request(ID, environ, b""))

    assert raw in encode_request(ID, environ, b"")
    assert reader.request is not None
    assert reader.request.environ == environ


@pytest.mark.parametrize(
    ("id_", "environ", "stdin", "why"),
    [
        (b"", {}, b"", "a request id has 16 bytes, not 0"),
        (ID + b"x", {}, b"", "a request id has 16 bytes, not 17"),
        (ID, {"CNI_ARGS": "x" * (1 << 16)}, b"", "a variable is too long"),
        (
            ID,
            {},
            b"x" * LIMIT,
            f"a request of {LIMIT + 22} bytes; the limit is {LIMIT}",
        ),
    ],
)
def test_a_request_that_cannot_be_sent_is_refused(
    id_: bytes, environ: dict[str, str], stdin: bytes, why: str
) -> None:
    with pytest.raises(WireError, match=why):
        encode_request(id_, environ, stdin)


def test_the_longest_request_arrives_and_one_byte_more_is_refused() -> None:
    room = LIMIT - ID_BYTES - 2 - 4
    reader = Reader()

    reader.feed(encode_request(ID, {}, b"x" * room))

    assert reader.request is not None
    assert len(reader.request.stdin) == room
    with pytest.raises(WireError):
        encode_request(ID, {}, b"x" * (room + 1))


GOOD = ID + struct.pack("<H", 0) + struct.pack("<I", 0)


def test_a_body_without_anything_is_a_request() -> None:
    reader = Reader()

    reader.feed(body(GOOD))

    assert reader.request == Request(id=ID, environ={}, stdin=b"")


@pytest.mark.parametrize(
    ("data", "why"),
    [
        (b"G", "not a request of eniplug's executable"),
        (b"GET / HTTP/1.1\r\n", "not a request of eniplug's executable"),
        (b"eniplu_", "not a request of eniplug's executable"),
        (b"eniplug\x00", "wire version 0; this is version 1"),
        (b"eniplug\x02", "wire version 2; this is version 1"),
        (MAGIC + struct.pack("<I", LIMIT + 1), f"a request of {LIMIT + 1} bytes"),
        (MAGIC + b"\xff\xff\xff\xff", "a request of 4294967295 bytes"),
        (body(b""), "do not agree"),
        (body(ID), "do not agree"),
        (body(GOOD[:-1]), "do not agree"),
        (body(GOOD + b"x"), "do not agree"),
        (body(ID + b"\xff\xff" + pair(b"CNI_A=1")), "do not agree"),
        (body(ID + b"\1\0" + b"\xff\xffCNI_A=1"), "do not agree"),
        (body(ID + b"\0\0" + b"\xff\xff\xff\xff" + b"x"), "do not agree"),
        (body(ID + b"\1\0" + pair(b"CNI_A") + bytes(4)), "'CNI_A' is no variable"),
        (body(ID + b"\1\0" + pair(b"=1") + bytes(4)), "'' is no variable"),
        (body(ID + b"\1\0" + pair(b"PATH=/") + bytes(4)), "'PATH' is no variable"),
        (body(ID + b"\1\0" + pair(b"CNI_A=\0") + bytes(4)), "'CNI_A' is no variable"),
        (body(ID + b"\2\0" + pair(b"CNI_A=1") * 2 + bytes(4)), "or comes twice"),
        (REQUEST + b"x", "more than one request"),
        (REQUEST * 2, "more than one request"),
    ],
)
def test_what_is_no_request_is_refused_with_its_cause(data: bytes, why: str) -> None:
    assert why in refusal(data)


def test_bytes_after_a_request_are_refused() -> None:
    reader = Reader()
    reader.feed(REQUEST)

    reader.feed(b"")
    with pytest.raises(WireError, match="more than one request"):
        reader.feed(b"x")


@pytest.mark.usefixtures("closed")
def test_a_descriptor_comes_with_the_first_byte() -> None:
    (descriptor,) = pipes(1)
    reader = Reader()

    reader.feed(REQUEST[:1], [descriptor])
    reader.feed(REQUEST[1:])

    assert reader.request is not None
    assert reader.request.netns == descriptor
    reader.close()
    os.close(descriptor)


@pytest.mark.usefixtures("closed")
def test_surplus_descriptors_are_closed_as_they_come() -> None:
    first, second, third = pipes(3)
    reader = Reader()

    reader.feed(REQUEST[:1], [first, second])
    reader.feed(REQUEST[1:2], [third])

    assert not is_open(second)
    assert not is_open(third)
    reader.feed(REQUEST[2:])
    assert reader.request is not None
    assert reader.request.netns == first
    os.close(first)


@pytest.mark.usefixtures("closed")
def test_a_descriptor_that_comes_late_is_closed() -> None:
    reader = Reader()

    reader.feed(REQUEST[:1])
    reader.feed(REQUEST[1:], pipes(1))

    assert reader.request is not None
    assert reader.request.netns is None


@pytest.mark.usefixtures("closed")
def test_the_descriptor_of_what_is_no_request_is_closed() -> None:
    with pytest.raises(WireError):
        feed([b"eniplug\x01", b"\xff\xff\xff\xff"], {0: pipes(2)})


@pytest.mark.usefixtures("closed")
def test_the_descriptor_of_a_connection_that_ends_early_is_closed() -> None:
    reader = feed([REQUEST[:-1]], {0: pipes(1)})

    reader.close()
    reader.close()


def mutations(sound: bytes) -> st.SearchStrategy[bytes]:
    """A sound message with one piece put in another's place."""
    place = st.integers(0, len(sound))
    return st.builds(
        lambda a, b, new: sound[: min(a, b)] + new + sound[max(a, b) :],
        place,
        place,
        st.binary(max_size=8),
    )


@st.composite
def cuts(draw: st.DrawFn, data: st.SearchStrategy[bytes]) -> list[bytes]:
    whole = draw(data)
    at = sorted(draw(st.lists(st.integers(0, len(whole)), max_size=5)))
    return [whole[a:b] for a, b in zip([0, *at], [*at, len(whole)], strict=True)]


NAMES = st.sampled_from(["CNI_COMMAND", "CNI_ARGS", "CNI_", "TRACESTATE"])
VALUES = st.binary(max_size=30).map(
    lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")
)
REQUESTS = st.builds(
    encode_request,
    st.binary(min_size=ID_BYTES, max_size=ID_BYTES),
    st.dictionaries(NAMES, VALUES),
    st.binary(max_size=40),
)
BYTES = st.one_of(
    REQUESTS,
    REQUESTS.flatmap(mutations),
    st.binary(max_size=60).map(body),
    st.binary(max_size=60).map(lambda rest: body(ID + rest)),
    st.binary(max_size=60),
)


@given(
    chunks=cuts(BYTES),
    fds=st.dictionaries(st.integers(0, 5), st.integers(1, 3), max_size=3),
)
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_the_request_that_they_encode_or_an_error(
    chunks: list[bytes], fds: dict[int, int]
) -> None:
    before = opened()
    try:
        reader = feed(chunks, {i: pipes(count) for i, count in fds.items()})
    except WireError:
        assert opened() == before
        return
    if reader.request is None:
        reader.close()
    else:
        found = reader.request
        whole = b"".join(chunks)
        assert encode_request(found.id, found.environ, found.stdin) == whole
        if found.netns is not None:
            os.close(found.netns)
    assert opened() == before


@given(REQUESTS)
@settings(max_examples=100, deadline=None)
def test_every_request_arrives(data: bytes) -> None:
    reader = Reader()

    reader.feed(data)

    assert reader.request is not None


# -- answers ---------------------------------------------------------------------------


@pytest.mark.parametrize("status", [0, 1, 255])
@pytest.mark.parametrize("stdout", [b"", b"{}", b"x" * LIMIT])
def test_an_answer_arrives(status: int, stdout: bytes) -> None:
    assert decode_answer(encode_answer(status, stdout)) == (status, stdout)


def test_an_answer_is_not_whole_before_its_last_byte() -> None:
    answer = encode_answer(1, b"{}")

    assert [decode_answer(answer[:n]) for n in range(len(answer))] == [None] * 8


def test_an_answer_that_is_too_long_is_not_sent() -> None:
    with pytest.raises(WireError, match=f"the limit is {LIMIT}"):
        encode_answer(0, b"x" * (LIMIT + 1))


@pytest.mark.parametrize(
    "data",
    [
        b"\0",
        b"\2",
        b"HTTP/1.1",
        encode_answer(0, b"{}") + b"x",
        b"\1\0\xff\xff\xff\xff",
    ],
)
def test_what_cannot_become_an_answer_is_refused(data: bytes) -> None:
    with pytest.raises(WireError):
        decode_answer(data)


ANSWERS = st.builds(encode_answer, st.integers(0, 255), st.binary(max_size=20))


@given(st.one_of(ANSWERS, ANSWERS.flatmap(mutations), st.binary(max_size=20)))
@settings(max_examples=300, deadline=None)
def test_any_bytes_are_the_answer_that_they_encode_or_an_error(data: bytes) -> None:
    try:
        answer = decode_answer(data)
    except WireError:
        return

    assert answer is None or encode_answer(*answer) == data


def test_an_answer_is_received_in_pieces() -> None:
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.settimeout(5)
        for byte in encode_answer(3, b"{}"):
            theirs.sendall(bytes((byte,)))

        assert read_answer(ours) == (3, b"{}")


@pytest.mark.parametrize("sent", [b"", encode_answer(0, b"{}")[:-1]])
def test_a_connection_that_ends_before_the_answer_is_an_error(sent: bytes) -> None:
    ours, theirs = socket.socketpair()
    with ours:
        ours.settimeout(5)
        with theirs:
            theirs.sendall(sent)

        with pytest.raises(WireError, match="closed the connection"):
            read_answer(ours)
