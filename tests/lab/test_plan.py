from __future__ import annotations

from pathlib import Path

import pytest

from eniplug.lab.plan import Plan

EXAMPLES = Path(__file__).resolve().parents[2] / "examples" / "conflists"
WITH = {"ipv6", "dual-stack", "ipv4-egress-v6"}


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.conflist")), ids=str)
def test_a_lab_has_ipv6_where_the_conflist_wants_it(path: Path) -> None:
    assert Plan(conflist=path.read_text()).has_ipv6 is (path.stem in WITH)


@pytest.mark.parametrize("name", ["ENABLE_IPv6", "ENABLE_V6_EGRESS"])
def test_a_lab_has_ipv6_where_a_setting_wants_it(name: str) -> None:
    assert Plan(environment={name: "true"}).has_ipv6
    assert not Plan(environment={name: "false"}).has_ipv6


def test_what_is_said_holds_whatever_the_conflist_wants() -> None:
    conflist = (EXAMPLES / "ipv6.conflist").read_text()

    assert not Plan(conflist=conflist, ipv6=False).has_ipv6
    assert Plan(ipv6=True).has_ipv6


@pytest.mark.parametrize(
    "text", ["", "{", "[]", "7", '{"plugins": 7}', '{"plugins": [{"plugins": [7]}]}']
)
def test_of_a_bad_conflist_nothing_is_said_here(text: str) -> None:
    assert not Plan(conflist=text).has_ipv6
