from __future__ import annotations

import json
from pathlib import Path

import pytest

from eniplug.core.install import NAME, RECORD, install_conflist
from eniplug.hooks.errors import ConfigError, ReadError

pytestmark = pytest.mark.root

MAIN = {"type": "eniplug", "plugins": ["secondary-ip"]}
PORTMAP = {"type": "portmap"}
MESH = {"type": "linkerd-cni"}


def conflist(*entries: object) -> bytes:
    return json.dumps({"name": "vpc", "plugins": entries}).encode()


TEXT = conflist(MAIN)


def shown(folder: Path) -> list[str]:
    """The files that runtimes and meshes look at."""
    return sorted(p.name for p in folder.iterdir() if not p.name.startswith("."))


def append(folder: Path, entry: object) -> None:
    """Add an entry as Linkerd's installer does: the file is written anew."""
    file = folder / NAME
    found = json.loads(file.read_text())
    found["plugins"].append(entry)
    temporary = folder / "linkerd-tmp"
    temporary.write_text(json.dumps(found, indent=2))
    temporary.rename(file)


def test_the_conflist_appears_whole_and_alone(tmp_path: Path) -> None:
    folder = tmp_path / "net.d"

    assert install_conflist(folder, TEXT)

    assert shown(folder) == [NAME]
    assert {p.name for p in folder.iterdir()} == {NAME, RECORD}
    assert (folder / NAME).read_bytes() == TEXT
    assert (folder / NAME).stat().st_mode & 0o777 == 0o644


def test_an_equal_conflist_is_not_touched(tmp_path: Path) -> None:
    install_conflist(tmp_path, TEXT)
    before = (tmp_path / NAME).stat()

    assert not install_conflist(tmp_path, TEXT)

    assert (tmp_path / NAME).stat().st_ino == before.st_ino


def test_an_appended_entry_survives_restart_upgrade_and_the_next_restart(
    tmp_path: Path,
) -> None:
    install_conflist(tmp_path, conflist(MAIN, PORTMAP))
    append(tmp_path, MESH)
    before = (tmp_path / NAME).stat().st_ino

    assert not install_conflist(tmp_path, conflist(MAIN, PORTMAP))
    assert (tmp_path / NAME).stat().st_ino == before

    for new in (conflist({**MAIN, "mtu": 1500}), conflist({**MAIN, "mtu": 1400})):
        assert install_conflist(tmp_path, new)
        found = json.loads((tmp_path / NAME).read_text())["plugins"]
        assert found == [*json.loads(new)["plugins"], MESH]


def test_a_mesh_that_leaves_takes_its_entry_along(tmp_path: Path) -> None:
    install_conflist(tmp_path, TEXT)
    append(tmp_path, MESH)
    install_conflist(tmp_path, TEXT)

    (tmp_path / NAME).write_bytes(TEXT)

    assert not install_conflist(tmp_path, TEXT)
    assert (tmp_path / NAME).read_bytes() == TEXT


def test_an_unreadable_file_in_place_is_kept_beside_ours(tmp_path: Path) -> None:
    for junk in (b'{"plugins": [', b"", b'{"plugins": ['):
        (tmp_path / NAME).write_bytes(junk)

        assert install_conflist(tmp_path, TEXT)
        assert (tmp_path / NAME).read_bytes() == TEXT

    kept = [tmp_path / name for name in shown(tmp_path) if ".broken-" in name]
    assert sorted(path.read_bytes() for path in kept) == [b"", b'{"plugins": [']
    assert not [p for p in kept if p.suffix in {".conf", ".conflist", ".json"}]


def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "10-other.conflist").write_text("theirs")

    install_conflist(tmp_path, TEXT)

    assert (tmp_path / "10-other.conflist").read_text() == "theirs"


def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(ConfigError, match="others than root"):
        install_conflist(tmp_path, TEXT)

    assert not list(tmp_path.iterdir())


def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "net.d").write_text("")

    with pytest.raises(ReadError, match=r"net\.d"):
        install_conflist(tmp_path / "net.d", TEXT)
