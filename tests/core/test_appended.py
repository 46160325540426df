from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from eniplug.cni.errors import CniError
from eniplug.core.appended import has_appended, with_appended

MAIN = {"type": "eniplug", "plugins": ["secondary-ip"]}
PORTMAP = {"type": "portmap", "capabilities": {"portMappings": True}}
LINKERD = {"type": "linkerd-cni", "name": "linkerd-cni", "log_level": "info"}
ISTIO = {"type": "istio-cni", "name": "istio-cni", "ambient_enabled": False}


def conflist(*entries: object, **fields: object) -> bytes:
    found = {"cniVersion": "1.0.0", "name": "vpc", "plugins": entries, **fields}
    return json.dumps(found).encode()


def plugins(text: bytes) -> Any:
    return json.loads(text)["plugins"]


def test_a_file_that_says_the_same_is_left_as_it_is_written() -> None:
    ours = conflist(MAIN, PORTMAP)
    found = json.dumps(json.loads(ours), indent=4, sort_keys=True).encode()

    assert with_appended(ours, found, ours) == found


def test_without_entries_of_others_our_text_is_installed_byte_by_byte() -> None:
    ours = conflist(MAIN) + b"\n\n"

    assert with_appended(ours, conflist(MAIN, name="old"), conflist(MAIN)) == ours


def test_appended_entries_stay_where_the_mesh_put_them() -> None:
    ours = conflist(MAIN, PORTMAP)
    found = conflist(MAIN, PORTMAP, LINKERD, ISTIO)

    assert with_appended(ours, found, ours) == found


def test_another_conflist_of_ours_keeps_appended_entries_behind_it() -> None:
    new = conflist({**MAIN, "mtu": 1500}, {"type": "bandwidth"}, name="new")

    text = with_appended(
        new, conflist(MAIN, PORTMAP, LINKERD, ISTIO), conflist(MAIN, PORTMAP)
    )

    assert plugins(text) == [*plugins(new), LINKERD, ISTIO]
    assert json.loads(text)["name"] == "new"


def test_an_entry_put_in_front_of_ours_is_kept_too() -> None:
    ours = conflist(MAIN)

    assert plugins(with_appended(ours, conflist(LINKERD, MAIN), ours)) == [
        MAIN,
        LINKERD,
    ]


def test_what_we_no_longer_have_goes_and_what_others_put_there_stays() -> None:
    text = with_appended(
        conflist(MAIN), conflist(MAIN, PORTMAP, LINKERD), conflist(MAIN, PORTMAP)
    )

    assert plugins(text) == [MAIN, LINKERD]


def test_an_entry_of_ours_that_others_changed_is_ours_again() -> None:
    ours = conflist(MAIN, PORTMAP)

    text = with_appended(
        ours, conflist({**MAIN, "mtu": 1}, {**PORTMAP, "snat": False}), ours
    )

    assert text == ours


@pytest.mark.parametrize("before", [None, b"", b"{", b"[]"])
def test_where_it_is_not_known_what_was_ours_no_entry_is_lost(
    before: bytes | None,
) -> None:
    found = conflist({"type": "aws-cni"}, PORTMAP, LINKERD)

    text = with_appended(conflist(MAIN), found, before)

    assert plugins(text) == [MAIN, PORTMAP, LINKERD]


OWN = st.lists(st.sampled_from(["eniplug", "portmap", "bandwidth"]), min_size=1)
MESHES = st.lists(st.sampled_from(["linkerd-cni", "istio-cni", "tuning"]))


@given(old=OWN, new=OWN, theirs=MESHES, data=st.data())
def test_in_any_order_ours_come_first_and_theirs_are_kept(
    old: list[str], new: list[str], theirs: list[str], data: st.DataObject
) -> None:
    mixed = data.draw(st.permutations([*old, *theirs]))
    found = conflist(*({"type": one} for one in mixed))
    ours = conflist(*({"type": one} for one in new))

    text = with_appended(ours, found, conflist(*({"type": one} for one in old)))

    kept = [one for one in mixed if one in theirs]
    assert [entry["type"] for entry in plugins(text)] == [*new, *kept]
    assert with_appended(ours, text, ours) == text


@pytest.mark.parametrize(
    "found",
    [b"", b"{", b"[]", b"{}", b'{"plugins": 1}', b'{"plugins": [1]}', b"\xff\xfe"],
)
def test_what_is_no_conflist_is_said_to_be_none(found: bytes) -> None:
    with pytest.raises(CniError):
        with_appended(conflist(MAIN), found, None)


def test_what_is_anothers_is_told_also_without_a_record() -> None:
    ours, both = conflist(MAIN), conflist(MAIN, PORTMAP)

    assert not has_appended(ours, None)
    assert has_appended(conflist(MAIN, LINKERD), None)
    assert has_appended(both, ours)
    assert not has_appended(both, both)
    assert has_appended(b"{", ours)
