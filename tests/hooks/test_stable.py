"""What was published in a major version of the API stays in it."""

from __future__ import annotations

import inspect
import json
from pathlib import Path
from typing import Any, Final

import attrs
import pytest

from eniplug import hooks
from eniplug.hooks import API_VERSION, errors, specs
from eniplug.hooks.errors import EniplugError

PUBLISHED: Final = Path(__file__).with_name("published.json")


def surface() -> dict[str, Any]:
    """Hooks with arguments, values with fields, errors: all that a plugin may use."""
    values = [getattr(hooks, name) for name in hooks.__all__]
    return {
        "names": sorted(hooks.__all__),
        "hooks": {
            name: list(inspect.signature(spec).parameters)
            for name, spec in vars(specs).items()
            if hasattr(spec, f"{hooks.PROJECT}_spec")
        },
        "fields": {
            kind.__name__: {
                field.name: field.default is attrs.NOTHING
                for field in attrs.fields(kind)
            }
            for kind in values
            if isinstance(kind, type) and attrs.has(kind)
        },
        "errors": {
            kind.__name__: [kind.code, kind.reason]
            for kind in vars(errors).values()
            if isinstance(kind, type) and issubclass(kind, EniplugError)
        },
    }


@pytest.fixture(scope="module")
def published() -> dict[str, Any]:
    return dict(json.loads(PUBLISHED.read_text()))


def test_the_record_is_of_this_major_version(published: dict[str, Any]) -> None:
    assert published["major"] == API_VERSION.partition(".")[0]


@pytest.mark.parametrize("what", ["names", "hooks", "errors"])
def test_nothing_published_is_gone(published: dict[str, Any], what: str) -> None:
    now = surface()[what]

    assert [name for name in published[what] if name not in now] == []


def test_a_hook_keeps_its_arguments(published: dict[str, Any]) -> None:
    now = surface()["hooks"]

    for name, arguments in published["hooks"].items():
        assert set(arguments) <= set(now[name]), name


def test_a_value_keeps_its_fields_and_needs_no_more(published: dict[str, Any]) -> None:
    now = surface()["fields"]

    for name, fields in published["fields"].items():
        assert fields.keys() <= now[name].keys(), name
        needed = {field for field, needs in now[name].items() if needs}
        assert needed <= {field for field, needs in fields.items() if needs}, name


def test_an_error_keeps_its_code_and_reason(published: dict[str, Any]) -> None:
    now = surface()["errors"]

    assert {name: now[name] for name in published["errors"]} == published["errors"]
