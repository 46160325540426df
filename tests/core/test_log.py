from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest

from eniplug.core.log import line


def written(level: str = "info", **event: Any) -> dict[str, Any]:
    found = json.loads(line(None, level, event))
    assert isinstance(found, dict)
    return found


def test_a_line_has_its_fields_its_words_its_level_and_the_time_in_this_order() -> None:
    found = written("warning", container="c1", ms=1.5, event="ADD")

    assert list(found) == ["container", "ms", "event", "level", "time"]
    assert (found["event"], found["level"]) == ("ADD", "warning")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d{6})?Z", found["time"])


def test_what_json_does_not_know_is_written_as_it_reads() -> None:
    assert written(event="x", path=Path("/run"))["path"] == "/run"


@pytest.mark.parametrize("said", [True, ValueError("no"), "tuple"])
def test_an_exception_is_written_with_where_it_came_from(said: Any) -> None:
    try:
        raise ValueError("no")
    except ValueError as error:
        given = (ValueError, error, error.__traceback__) if said == "tuple" else said
        found = written("error", event="a bug", exc_info=given)

    assert list(found) == ["event", "level", "time", "exception"]
    assert found["exception"].endswith("ValueError: no")


def test_no_exception_is_no_field() -> None:
    assert "exc_info" not in written(event="x", exc_info=None)
