from __future__ import annotations

from pathlib import Path

import pytest

from eniplug.core.install import NAME, install_conflist
from eniplug.hooks.errors import ConfigError, ReadError


@pytest.mark.root
def test_the_conflist_appears_whole_and_alone(tmp_path: Path) -> None:
    folder = tmp_path / "net.d"

    assert install_conflist(folder, b"{}")

    assert [p.name for p in folder.iterdir()] == [NAME]
    assert (folder / NAME).read_bytes() == b"{}"
    assert (folder / NAME).stat().st_mode & 0o777 == 0o644


@pytest.mark.root
def test_an_equal_conflist_is_not_touched(tmp_path: Path) -> None:
    install_conflist(tmp_path, b"{}")
    before = (tmp_path / NAME).stat()

    assert not install_conflist(tmp_path, b"{}")

    assert (tmp_path / NAME).stat().st_ino == before.st_ino


@pytest.mark.root
def test_other_files_are_left_alone(tmp_path: Path) -> None:
    (tmp_path / "10-other.conflist").write_text("theirs")

    install_conflist(tmp_path, b"{}")

    assert (tmp_path / "10-other.conflist").read_text() == "theirs"


@pytest.mark.root
def test_a_directory_that_others_may_write_to_is_refused(tmp_path: Path) -> None:
    tmp_path.chmod(0o777)

    with pytest.raises(ConfigError, match="others than root"):
        install_conflist(tmp_path, b"{}")

    assert not list(tmp_path.iterdir())


@pytest.mark.root
def test_a_file_in_the_way_is_an_error_that_names_it(tmp_path: Path) -> None:
    (tmp_path / "net.d").write_text("")

    with pytest.raises(ReadError, match=r"net\.d"):
        install_conflist(tmp_path / "net.d", b"{}")
