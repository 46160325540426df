from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from eniplug.cni.conflist import LIMIT, entry_config, load_conflist, parse_conflist
from eniplug.cni.errors import CniError
from eniplug.cni.protocol import parse_config

VPC: dict[str, Any] = {
    "cniVersion": "1.0.0",
    "name": "vpc",
    "plugins": [
        {
            "type": "eniplug",
            "plugins": ["secondary-ip", {"name": "egress-v4", "subnet": "10.0.0.0/8"}],
            "mtu": 9001,
            "capabilities": {"bandwidth": True, "aliases": False},
        },
        {"type": "portmap", "capabilities": {"portMappings": True}, "snat": True},
    ],
}
NOBODY = 65534


def encoded(**changed: Any) -> bytes:
    return json.dumps({**VPC, **changed}).encode()


def refused(data: bytes) -> tuple[int, str]:
    with pytest.raises(CniError) as caught:
        parse_conflist(data, "10-vpc.conflist")
    return caught.value.code, caught.value.message


def test_a_conflist_is_read() -> None:
    data = encoded()

    found = parse_conflist(data, "10-vpc.conflist")

    assert found.cni_version == "1.0.0"
    assert found.name == "vpc"
    assert not found.disable_check
    assert not found.disable_gc
    assert found.plugins == tuple(VPC["plugins"])
    assert found.text == data


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"cniVersion": None}, 1, "no cniVersion is given"),
        ({"cniVersion": "0.2.0"}, 1, "cniVersion '0.2.0'"),
        ({"cniVersion": {}}, 1, "cniVersion {}"),
        ({"cniVersions": "1.0.0"}, 6, "cniVersions: wants a list"),
        ({"name": 1}, 6, "name: wants a string"),
        ({"name": "a/b"}, 7, "name: 'a/b' is no network name"),
        ({"disableCheck": 1}, 6, "disableCheck: wants true or false, not 1"),
        ({"disableGC": "yes"}, 6, "disableGC: wants true or false, not 'yes'"),
        ({"plugins": None}, 7, "plugins: wants a list of at least one entry"),
        ({"plugins": []}, 7, "plugins: wants a list of at least one entry"),
        ({"plugins": {"type": "ptp"}}, 6, "plugins: wants a list"),
        ({"plugins": "ptp"}, 6, "plugins: wants a list"),
        ({"plugins": ["ptp"]}, 6, "plugins[0]: wants an object, not 'ptp'"),
    ],
)
def test_a_field_that_cannot_be_is_named_with_its_file(
    changed: dict[str, Any], code: int, message: str
) -> None:
    found, said = refused(encoded(**changed))

    assert found == code
    assert said.startswith(f"10-vpc.conflist: {message}")


@pytest.mark.parametrize(
    ("entry", "code", "message"),
    [
        ({}, 7, "has no 'type'"),
        ({"type": None}, 6, ".type: wants a string, not None"),
        ({"type": ""}, 7, ".type: wants the name of an executable"),
        ({"type": "."}, 7, ".type: wants the name of an executable"),
        ({"type": ".."}, 7, ".type: wants the name of an executable"),
        ({"type": "../../bin/sh"}, 7, ".type: wants the name of an executable"),
        ({"type": "a\0"}, 7, ".type: wants the name of an executable"),
        ({"type": "ptp", "capabilities": []}, 6, ".capabilities: wants an object"),
        ({"type": "ptp", "capabilities": "x"}, 6, ".capabilities: wants an object"),
        ({"type": "eniplug"}, 7, ".plugins: wants a list of plugin names"),
        ({"type": "eniplug", "plugins": []}, 7, ".plugins: wants a list of plugin"),
        ({"type": "eniplug", "plugins": "snat"}, 6, ".plugins: wants a list, not"),
        ({"type": "eniplug", "plugins": {"a": 1}}, 6, ".plugins: wants a list, not"),
        ({"type": "eniplug", "plugins": ["a", 7]}, 6, ".plugins[1]: wants a plugin's"),
        ({"type": "eniplug", "plugins": ["a", ""]}, 6, ".plugins[1]: wants a plugin's"),
        ({"type": "eniplug", "plugins": [{}]}, 6, ".plugins[0]: wants a plugin's"),
        ({"type": "eniplug", "plugins": [{"name": []}]}, 6, ".plugins[0]: wants"),
    ],
)
def test_an_entry_that_cannot_be_is_named_with_its_place(
    entry: dict[str, Any], code: int, message: str
) -> None:
    found, said = refused(encoded(plugins=[{"type": "ptp"}, entry]))

    assert found == code
    assert said.startswith("10-vpc.conflist: plugins[1]")
    assert message in said


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b'{"a": 1e999}', b"[" * 200_000])
def test_what_is_no_json_object_is_refused(data: bytes) -> None:
    code, said = refused(data)

    assert code == 6
    assert said.startswith("10-vpc.conflist: the conflist")


@pytest.mark.parametrize(
    ("value", "meant"),
    [
        (True, True),
        (False, False),
        ("true", True),
        ("True", True),
        ("false", False),
        ("FALSE", False),
    ],
)
@pytest.mark.parametrize("key", ["disableCheck", "disableGC"])
def test_a_switch_may_be_a_string_as_older_files_have_it(
    key: str, value: Any, meant: bool
) -> None:
    found = parse_conflist(encoded(**{key: value}), "x")

    assert {"disableCheck": found.disable_check, "disableGC": found.disable_gc} == {
        "disableCheck": False,
        "disableGC": False,
        key: meant,
    }


@pytest.mark.parametrize(
    ("one", "several", "used"),
    [
        ("1.0.0", [], "1.0.0"),
        ("1.0.0", None, "1.0.0"),
        ("0.4.0", ["0.3.1", "1.1.0", "1.0.0"], "1.1.0"),
        ("1.0.0", ["0.4.0"], "1.0.0"),
        ("1.0.0", ["9.0.0"], "1.0.0"),
        ("9.0.0", ["9.0.0", "1.1.0"], "1.1.0"),
        (None, ["1.1.0", 7, [], {}], "1.1.0"),
    ],
)
def test_the_newest_version_that_both_speak_is_used(
    one: Any, several: Any, used: str
) -> None:
    found = parse_conflist(encoded(cniVersion=one, cniVersions=several), "x")

    assert found.cni_version == used


# -- what an entry gets ----------------------------------------------------------------


def test_an_entry_gets_the_networks_name_and_version_and_no_capabilities() -> None:
    conflist = parse_conflist(encoded(), "x")

    assert json.loads(entry_config(conflist, 1)) == {
        "cniVersion": "1.0.0",
        "name": "vpc",
        "type": "portmap",
        "snat": True,
    }


RUNTIME = {
    "bandwidth": {"IngressRate": 1},
    "portMappings": [{"HostPort": 1}],
    "aliases": ["a"],
}


@pytest.mark.parametrize(
    ("able", "given"),
    [
        (None, None),
        ({}, None),
        ({"other": True}, None),
        ({"bandwidth": False}, None),
        ({"bandwidth": "true"}, None),
        ({"bandwidth": 1}, None),
        ({"bandwidth": True}, {"bandwidth": {"IngressRate": 1}}),
        (
            {"portMappings": True, "bandwidth": None, "aliases": True},
            {"portMappings": [{"HostPort": 1}], "aliases": ["a"]},
        ),
    ],
)
def test_an_entry_gets_the_runtimes_values_that_it_asks_for(
    able: Any, given: Any
) -> None:
    entry = {"type": "portmap", "capabilities": able}
    conflist = parse_conflist(encoded(plugins=[entry]), "x")

    config = json.loads(entry_config(conflist, 0, runtime_config=RUNTIME))

    assert config.get("runtimeConfig") == given


def test_an_entry_is_understood_by_who_gets_it() -> None:
    conflist = parse_conflist(encoded(cniVersion="1.1.0"), "x")

    data = entry_config(
        conflist,
        0,
        prev_result={"ips": [{"address": "10.0.0.1/24"}]},
        runtime_config=RUNTIME,
        attachments=[("c1", "eth0"), ("c2", "net1")],
    )

    found = parse_config(data)
    assert found.cni_version == "1.1.0"
    assert found.name == "vpc"
    assert found.runtime_config == {"bandwidth": {"IngressRate": 1}}
    assert found.prev_result is not None
    assert found.prev_result["ips"] == [{"address": "10.0.0.1/24"}]
    assert found.valid_attachments == (("c1", "eth0"), ("c2", "net1"))
    assert not found.rest


def test_an_empty_list_of_attachments_is_sent() -> None:
    conflist = parse_conflist(encoded(), "x")

    assert parse_config(entry_config(conflist, 0)).valid_attachments is None
    assert (
        parse_config(entry_config(conflist, 0, attachments=())).valid_attachments == ()
    )


# -- files -----------------------------------------------------------------------------


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "net.d"
    folder.mkdir(mode=0o755)
    path = folder / "10-vpc.conflist"
    path.write_bytes(encoded())
    path.chmod(0o644)
    return path


def load_refusal(path: Path) -> tuple[int, str]:
    with pytest.raises(CniError) as caught:
        load_conflist(path)
    return caught.value.code, caught.value.message


@pytest.mark.root
def test_a_file_of_roots_in_a_folder_of_roots_is_loaded(file: Path) -> None:
    assert load_conflist(file) == parse_conflist(encoded(), str(file))


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o664, 0o646, 0o666, 0o777])
def test_a_file_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    file.chmod(mode)

    assert load_refusal(file) == (7, f"{file}: others than root may write to it")
    assert load_conflist(file, trusted=False).name == "vpc"


@pytest.mark.root
@pytest.mark.parametrize("mode", [0o775, 0o757, 0o1777])
def test_a_folder_that_others_may_write_is_refused(file: Path, mode: int) -> None:
    file.parent.chmod(mode)

    assert load_refusal(file) == (7, f"{file.parent}: others than root may write to it")


@pytest.mark.root
def test_a_file_of_somebody_elses_is_refused(file: Path) -> None:
    os.chown(file, NOBODY, NOBODY)

    assert load_refusal(file) == (7, f"{file}: others than root may write to it")


@pytest.mark.root
def test_a_folder_of_somebody_elses_is_refused(file: Path) -> None:
    os.chown(file.parent, NOBODY, NOBODY)

    assert load_refusal(file) == (7, f"{file.parent}: others than root may write to it")


@pytest.mark.root
def test_a_link_into_a_folder_that_others_may_write_is_refused(
    file: Path, tmp_path: Path
) -> None:
    link = tmp_path / "link.conflist"
    link.symlink_to(file)
    assert load_conflist(link).name == "vpc"

    file.parent.chmod(0o777)

    assert load_refusal(link) == (7, f"{file.parent}: others than root may write to it")


@pytest.mark.root
def test_a_link_out_of_a_folder_that_others_may_write_is_refused(
    file: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "public"
    folder.mkdir()
    folder.chmod(0o777)
    link = folder / "link.conflist"
    link.symlink_to(file)

    assert load_refusal(link) == (7, f"{folder}: others than root may write to it")


@pytest.mark.parametrize("trusted", [True, False])
def test_a_file_that_is_not_there_is_named(tmp_path: Path, trusted: bool) -> None:
    path = tmp_path / "none.conflist"

    with pytest.raises(CniError) as caught:
        load_conflist(path, trusted=trusted)

    assert caught.value.code == 5
    assert caught.value.message == f"{path}: cannot be read: No such file or directory"


def test_a_folder_is_no_conflist(tmp_path: Path) -> None:
    assert load_refusal(tmp_path)[0] == 5


def test_a_file_without_end_is_not_read_to_its_end(file: Path) -> None:
    file.write_bytes(encoded() + b" " * LIMIT)

    with pytest.raises(CniError) as caught:
        load_conflist(file, trusted=False)

    assert caught.value.code == 7
    assert caught.value.message == f"{file}: longer than {LIMIT} bytes"


def test_an_error_inside_a_file_has_its_path(file: Path) -> None:
    file.write_bytes(encoded(plugins=[{"type": "eniplug", "plugins": ["a", 7]}]))

    with pytest.raises(CniError) as caught:
        load_conflist(file, trusted=False)

    assert caught.value.message.startswith(f"{file}: plugins[0].plugins[1]: ")
