"""Whatever comes from outside gives a value that can be passed on, or a CniError."""

from __future__ import annotations

import json
from functools import partial
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from eniplug.cni.conflist import entry_config, parse_conflist
from eniplug.cni.errors import CniError
from eniplug.cni.protocol import ATTACHMENT_KEYS, error_json, parse_call, parse_config
from eniplug.cni.versions import VERSIONS, from_version, to_version

bounded = settings(max_examples=200, deadline=None)

TEXT = st.text(st.characters(exclude_categories=()), max_size=6)
"""Any text, half surrogate pairs and zeros too."""

WORDS = st.sampled_from(
    ["name", "type", "address", "interface", "dst", "containerID", "ifname", "eniplug"]
)
JSON: st.SearchStrategy[Any] = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(),
        st.just(10**400),
        st.floats(),
        st.sampled_from(VERSIONS),
        WORDS,
        TEXT,
    ),
    lambda inner: st.one_of(
        st.lists(inner, max_size=3),
        st.dictionaries(st.one_of(WORDS, TEXT), inner, max_size=3),
    ),
    max_leaves=8,
)

NETWORK = st.fixed_dictionaries(
    {
        "cniVersion": st.one_of(st.sampled_from(VERSIONS), JSON),
        "name": st.one_of(st.just("vpc"), JSON),
    }
)
RESULT = st.fixed_dictionaries(
    {},
    optional={
        "cniVersion": st.one_of(st.sampled_from(VERSIONS), JSON),
        "interfaces": JSON,
        "ips": st.one_of(
            JSON,
            st.lists(st.fixed_dictionaries({"address": TEXT}, optional={"x": JSON})),
        ),
        "routes": JSON,
        "dns": JSON,
    },
)
FIELDS = {
    "plugins": JSON,
    "mtu": JSON,
    "vethPrefix": JSON,
    "runtimeConfig": JSON,
    "prevResult": st.one_of(RESULT, JSON),
    **dict.fromkeys(ATTACHMENT_KEYS, JSON),
}
ENTRY = st.fixed_dictionaries(
    {"type": st.one_of(st.sampled_from(["eniplug", "ptp"]), JSON)},
    optional={**FIELDS, "capabilities": JSON},
)
CONFIG = st.builds(lambda a, b: {**a, **b}, NETWORK, ENTRY)
CONFLIST = st.builds(
    lambda a, b: {**a, **b},
    NETWORK,
    st.fixed_dictionaries(
        {"plugins": st.one_of(st.lists(ENTRY, min_size=1, max_size=3), JSON)},
        optional={"cniVersions": JSON, "disableCheck": JSON, "disableGC": JSON},
    ),
)


def encoded(values: st.SearchStrategy[Any]) -> st.SearchStrategy[bytes]:
    return st.one_of(
        values.map(lambda value: json.dumps(value).encode()),
        values.map(lambda value: json.dumps(value).encode()[:-1]),
        JSON.map(lambda value: json.dumps(value).encode()),
        st.binary(max_size=30),
    )


def passes_on(value: Any) -> None:
    """Hold a value to being writable as JSON, and that to being read again."""
    text = json.dumps(value, allow_nan=False, ensure_ascii=False).encode()
    assert json.loads(text) == value


def answers(error: CniError, code: int | None = None) -> None:
    """Hold an error to having an answer that a runtime can read, and perhaps a code."""
    assert code in {None, error.code}
    answer = json.loads(error_json("1.0.0", error.code, error.message, error.details))
    assert isinstance(answer["code"], int)
    assert answer["msg"]
    assert len(answer["msg"]) < 500


@given(encoded(CONFIG))
@example(b'{"cniVersion":"1.0.0","name":"a","type":"b","c":' + b"[" * 900 + b"]" * 900)
@bounded
def test_any_bytes_are_a_configuration_or_an_error(stdin: bytes) -> None:
    try:
        found = parse_config(stdin)
    except CniError as error:
        answers(error)
        return

    passes_on(dict(found.rest))
    passes_on(dict(found.runtime_config))
    passes_on(list(found.plugins))
    if found.prev_result is not None:
        for version in VERSIONS:
            passes_on(to_version(found.prev_result, version))


@given(encoded(CONFLIST), st.dictionaries(WORDS, st.integers(), max_size=3))
@bounded
def test_any_bytes_are_a_conflist_whose_entries_can_be_run_or_an_error(
    data: bytes, capabilities: dict[str, int]
) -> None:
    try:
        found = parse_conflist(data, "x")
    except CniError as error:
        answers(error)
        return

    assert found.plugins
    for index, entry in enumerate(found.plugins):
        config = json.loads(
            entry_config(
                found, index, runtime_config=capabilities, attachments=[("c", "eth0")]
            )
        )
        assert config["type"] == entry["type"]
        assert config["name"] == found.name


@given(
    st.dictionaries(
        st.sampled_from(
            [
                "CNI_COMMAND",
                "CNI_CONTAINERID",
                "CNI_NETNS",
                "CNI_IFNAME",
                "CNI_ARGS",
                "CNI_PATH",
            ]
        ),
        st.one_of(
            TEXT, st.sampled_from(["ADD", "DEL", "GC", "eth0", "A=1;B=2", "a" * 70_000])
        ),
    )
)
@bounded
def test_any_environment_is_a_call_or_an_error(environ: dict[str, str]) -> None:
    try:
        found = parse_call(environ)
    except CniError as error:
        answers(error, 4)
        return

    for text in (found.container_id, found.netns, found.ifname, found.path):
        text.encode()


@given(st.one_of(RESULT, JSON), st.sampled_from(VERSIONS))
@bounded
def test_any_result_has_a_form_in_every_version_or_is_an_error(
    result: Any, version: str
) -> None:
    try:
        ours = from_version(result, version)
    except CniError as error:
        answers(error)
        return

    for wanted in VERSIONS:
        assert to_version(ours, wanted)["cniVersion"] == wanted


@pytest.mark.parametrize("parse", [parse_config, partial(parse_conflist, source="x")])
@pytest.mark.parametrize("depth", [10, 100, 900, 990, 5_000, 100_000, 400_000])
@pytest.mark.parametrize(("opening", "closing"), [(b"[", b"]"), (b'{"a":', b"}")])
def test_any_depth_is_a_value_or_an_error(
    parse: Any, depth: int, opening: bytes, closing: bytes
) -> None:
    deep = opening * depth + b"1" + closing * depth
    data = (
        b'{"cniVersion": "1.0.0", "name": "vpc", "type": "ptp", '
        b'"plugins": [{"type": "ptp", "deep": %s}]}' % deep
    )

    try:
        found = parse(data)
    except CniError as error:
        answers(error, 6)
    else:
        json.dumps(list(found.plugins))
