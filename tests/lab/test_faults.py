from __future__ import annotations

import json
from pathlib import Path

import pytest

from eniplug.core.ec2_boto import READ_TIMEOUT
from eniplug.lab.errors import LabError
from eniplug.lab.faults import PRESETS, Faults, preset

EVERYTHING = {
    "attach_s": 3.0,
    "detach_s": 2.0,
    "imds_lag_s": 1.0,
    "imds_address_lag_s": 0.5,
    "imds_stale": True,
    "call_ms": [80.0, 400.0],
    "rate": {"*": [20.0, 10.0], "CreateNetworkInterface": [1.0, 0.0]},
    "fail": {"CreateNetworkInterface": ["InternalError", 2]},
    "down": True,
    "denied": ["AttachNetworkInterface"],
    "full_subnet": "InsufficientCidrBlocks",
    "fragmented": True,
}


def test_faults_go_through_json_and_back() -> None:
    faults = Faults.from_json(EVERYTHING)

    told = json.loads(json.dumps(faults.to_json()))

    assert told == EVERYTHING
    assert Faults.from_json(told) == faults


def test_no_faults_are_an_empty_object() -> None:
    assert Faults().to_json() == {}
    assert Faults.from_json({}) == Faults()


def test_a_fault_file_is_read(tmp_path: Path) -> None:
    path = tmp_path / "faults.json"
    path.write_text('{"full_subnet": true, "attach_s": 2}')

    assert Faults.load(path) == Faults(full_subnet=True, attach_s=2.0)


@pytest.mark.parametrize(
    ("text", "words"), [("{", "is no JSON"), (None, "cannot read"), ("[]", "an object")]
)
def test_a_bad_fault_file_is_refused(
    tmp_path: Path, text: str | None, words: str
) -> None:
    path = tmp_path / "faults.json"
    if text is not None:
        path.write_text(text)

    with pytest.raises(LabError, match=words.replace("an object", "JSON object")):
        Faults.load(path)


def test_an_unknown_fault_is_refused_with_the_nearest() -> None:
    with pytest.raises(LabError, match="no fault 'atach_s'") as refused:
        Faults.from_json({"atach_s": 1})

    assert refused.value.remedy == "did you mean attach_s?"


def test_a_fault_that_is_near_to_none_is_refused_with_all() -> None:
    with pytest.raises(LabError) as refused:
        Faults.from_json({"xyzzy": 1})

    assert "full_subnet" in refused.value.remedy


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("attach_s", "3", "a number"),
        ("attach_s", True, "a number"),
        ("attach_s", -1, "0 or more"),
        ("imds_lag_s", float("nan"), "finite"),
        ("imds_stale", 1, "true or false"),
        ("call_ms", 80, "least, most"),
        ("call_ms", [400, 80], "least, most"),
        ("call_ms", [1], "least, most"),
        ("rate", [20, 10], "an object"),
        ("rate", {"*": 20}, "tokens"),
        ("rate", {"*": [0, 10]}, "at least 1"),
        ("rate", {"create": [1, 1]}, "actions"),
        ("fail", {"*": ["InternalError", 1]}, "actions"),
        ("fail", {"RunInstances": ["InternalError"]}, "error code"),
        ("fail", {"RunInstances": ["InternalError", "2"]}, "error code"),
        ("fail", {"RunInstances": ["", 2]}, "error code"),
        ("fail", {"RunInstances": ["InternalError", -2]}, "error code"),
        ("down", "yes", "true or false"),
        ("denied", "RunInstances", "a list"),
        ("denied", ["run instances"], "actions"),
        ("denied", [""], "actions"),
        ("full_subnet", "Full", "InsufficientCidrBlocks"),
        ("full_subnet", 1, "true, false"),
        ("fragmented", None, "true or false"),
    ],
)
def test_a_value_that_a_fault_cannot_have_is_refused(
    name: str, value: object, words: str
) -> None:
    with pytest.raises(LabError, match=f"fault '{name}' must be .*{words}"):
        Faults.from_json({name: value})


@pytest.mark.parametrize("name", PRESETS)
def test_a_word_stands_for_faults(name: str) -> None:
    assert Faults.from_json(preset(name)).to_json()


def test_words_are_what_operators_meet() -> None:
    assert set(PRESETS) == {
        "throttle",
        "latency",
        "full-subnet",
        "fragmented",
        "imds-stale",
        "denied",
        "down",
    }


def test_latency_is_longer_than_the_agent_waits() -> None:
    least, _ = Faults.from_json(preset("latency")).call_ms

    assert least > 1000 * READ_TIMEOUT


def test_an_unknown_word_tells_the_nearest() -> None:
    with pytest.raises(LabError) as caught:
        preset("thottle")

    assert "did you mean throttle?" in caught.value.remedy
