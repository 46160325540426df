from __future__ import annotations

import inspect
import json
import re

import pytest

from eniplug.cni import executable
from eniplug.cni.protocol import error_json
from eniplug.hooks import errors
from eniplug.hooks.errors import (
    ConfigError,
    EniplugError,
    OptionError,
    PoolEmptyError,
    RetryError,
)

ERRORS = [
    one
    for one in vars(errors).values()
    if isinstance(one, type) and issubclass(one, EniplugError)
]
TREE = [line for line in inspect.getdoc(errors).splitlines() if "Error  " in line]  # type: ignore[union-attr]
LINE = re.compile(
    r" *(?P<bars>[│├└─ ]*)(?P<name>\w+) +(?P<code>\d+) {2}(?P<reason>\S+)"
)

SPECIFIED = {1, 2, 3, 4, 5, 6, 7, 11, 50, 51, 999}
"""CNI 1.1.0, SPEC.md, section "Error"; 999 is what libcni gives to the unknown."""
OURS = range(100, 999)


def drawn() -> dict[str, tuple[int, int, str]]:
    """Depth, code and reason of each class in the module's drawing."""
    found = [match for line in TREE if (match := LINE.match(line))]
    assert len(found) == len(TREE)
    return {
        m["name"]: (len(m["bars"]) // 4, int(m["code"]), m["reason"]) for m in found
    }


def test_every_class_is_drawn_with_its_code_and_reason() -> None:
    def depth(kind: type[EniplugError]) -> int:
        return kind.__mro__.index(EniplugError)

    assert drawn() == {
        kind.__name__: (depth(kind), kind.code, kind.reason) for kind in ERRORS
    }


def test_every_class_is_drawn_below_its_base() -> None:
    path: list[str] = []
    above: dict[str, str] = {}
    for name, (depth, _, _) in drawn().items():
        path[depth:] = [name]
        above[name] = path[depth - 1] if depth else "Exception"

    assert above == {kind.__name__: kind.__bases__[0].__name__ for kind in ERRORS}


@pytest.mark.parametrize("kind", ERRORS)
def test_code_is_the_specifications_or_one_that_it_leaves_to_us(
    kind: type[EniplugError],
) -> None:
    assert kind.code in SPECIFIED or kind.code in OURS


@pytest.mark.parametrize("kind", ERRORS)
def test_reason_is_a_word_to_match_on(kind: type[EniplugError]) -> None:
    assert re.fullmatch(r"[a-z]+(-[a-z]+)*", kind.reason)
    assert [other for other in ERRORS if other.reason == kind.reason] == [kind]


@pytest.mark.parametrize("kind", ERRORS)
def test_what_passes_by_itself_is_what_the_runtime_tries_again(
    kind: type[EniplugError],
) -> None:
    assert (kind.code == RetryError.code) is issubclass(kind, RetryError)


@pytest.mark.parametrize("kind", ERRORS)
def test_remedy_is_one_line_that_ends_without_a_full_stop(
    kind: type[EniplugError],
) -> None:
    assert kind.remedy
    assert "\n" not in kind.remedy
    assert not kind.remedy.endswith(".")


def test_message_and_the_classs_remedy_are_what_is_told() -> None:
    error = PoolEmptyError("no address is free")

    assert str(error) == error.message == "no address is free"
    assert error.details == PoolEmptyError.remedy


def test_who_raises_may_know_a_better_remedy() -> None:
    assert ConfigError("no", "say yes").details == "say yes"
    assert OptionError.remedy != "say yes"


def test_reasons_of_the_executable_are_the_same_words() -> None:
    told = set(re.findall(r'"([a-z]+-[a-z]+)(?:: |")', inspect.getsource(executable)))

    assert told
    assert told <= {kind.reason for kind in ERRORS}


@pytest.mark.parametrize("kind", ERRORS)
def test_every_error_can_be_told_to_a_runtime(kind: type[EniplugError]) -> None:
    error = kind('a "quoted" word')

    said = json.loads(error_json("1.0.0", error.code, error.message, error.details))

    assert said == {
        "cniVersion": "1.0.0",
        "code": kind.code,
        "msg": error.message,
        "details": kind.remedy,
    }
