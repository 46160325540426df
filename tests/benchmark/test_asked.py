"""Somebody's configuration, as `--against` takes it."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from bench.asked import conflist
from eniplug.cni.errors import CniError


def test_a_single_configuration_is_a_conflist_of_one(tmp_path: Path) -> None:
    conf = {"cniVersion": "0.4.0", "name": "theirs", "type": "bridge", "mtu": 9001}
    path = tmp_path / "10-theirs.conf"
    path.write_text(json.dumps(conf))

    found = conflist(path)

    assert (found.name, found.cni_version) == ("theirs", "0.4.0")
    assert [dict(one) for one in found.plugins] == [conf]


def test_a_conflist_is_taken_as_it_is(tmp_path: Path) -> None:
    entries = [{"type": "bridge"}, {"type": "portmap"}]
    path = tmp_path / "10-theirs.conflist"
    path.write_text(
        json.dumps({"cniVersion": "1.0.0", "name": "theirs", "plugins": entries})
    )

    assert [dict(one) for one in conflist(path).plugins] == entries


@pytest.mark.parametrize("text", ["{", "[]", '{"name": "theirs", "type": ""}'])
def test_what_is_wrong_is_said_with_the_files_name(tmp_path: Path, text: str) -> None:
    path = tmp_path / "10-theirs.conf"
    path.write_text(text)

    with pytest.raises(CniError) as caught:
        conflist(path)

    assert str(path) in caught.value.message
