from __future__ import annotations

import pytest

from eniplug.hooks import API_VERSION
from eniplug.hooks.api import serves

MAJOR, MINOR = (int(part) for part in API_VERSION.split("."))


@pytest.mark.parametrize("stated", [API_VERSION, f"{MAJOR}", f"{MAJOR}.0"])
def test_a_plugin_of_this_version_or_an_older_minor_one_is_served(stated: str) -> None:
    assert serves(stated)


@pytest.mark.parametrize(
    "stated",
    [
        f"{MAJOR + 1}",
        f"{MAJOR + 1}.0",
        f"{MAJOR - 1}",
        f"{MAJOR}.{MINOR + 1}",
        f"{MAJOR}.x",
        "",
        "one",
        f" {MAJOR}",
        MAJOR,
        None,
    ],
)
def test_any_other_is_not(stated: object) -> None:
    assert not serves(stated)
