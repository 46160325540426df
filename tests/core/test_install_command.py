from __future__ import annotations

import json
import os
import stat
import sys
from contextlib import suppress
from itertools import count
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from attrs import frozen
from click.testing import CliRunner

from eniplug.cni import python_executable
from eniplug.core import atomic
from eniplug.core.cli import group
from eniplug.core.placing import BEFORE, RECORD, Places, place, undo
from eniplug.hooks.errors import ConfigError, ReadError

PYTHON = python_executable()
SYSCTLS = {"net/ipv4/tcp_early_demux": "1", "net/ipv6/conf/all/disable_ipv6": "1"}
IPV6 = {"DISABLE_TCP_EARLY_DEMUX": "true", "ENABLE_IPv6": "true"}


@frozen
class Root:
    """A node's file system, small."""

    path: Path

    @property
    def bin(self) -> Path:
        return self.path / "opt/cni/bin"

    def file(self, name: str, text: str = "", mode: int = 0o644) -> Path:
        path = self.path / name
        path.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
        path.write_text(text)
        path.chmod(mode)
        return path

    def run(
        self, *words: str, environ: dict[str, str] | None = None
    ) -> tuple[int, Any, Exception | None]:
        """Run `eniplug install` on it, with the executable in Python."""
        words = ("--root", str(self.path), "--executable", "python", "--json", *words)
        done = CliRunner().invoke(group, ["install", *words], env=environ)
        error = done.exception if isinstance(done.exception, Exception) else None
        said = json.loads(done.stdout) if done.stdout else None
        return done.exit_code, said, error

    def done(self, *words: str, environ: dict[str, str] | None = None) -> list[str]:
        status, said, error = self.run(*words, environ=environ)
        assert (status, error) == (0, None)
        return list(said["done"])

    def refused(self, *words: str, environ: dict[str, str] | None = None) -> str:
        before = self.picture()
        _, _, error = self.run(*words, environ=environ)
        assert isinstance(error, ConfigError)
        assert self.picture() == before
        return error.message

    def found(self) -> list[str]:
        """What --check finds; it changes nothing."""
        before = self.picture()
        status, said, _ = self.run("--check")
        assert self.picture() == before
        assert status == any(one["stops"] for one in said["findings"])
        assert all(one["remedy"] for one in said["findings"])
        return [one["what"].replace(str(self.path), "") for one in said["findings"]]

    def picture(self) -> dict[str, tuple[int, bytes | str]]:
        """All that is in it: modes, contents, where links lead."""

        def look(path: Path) -> tuple[int, bytes | str]:
            mode = path.lstat().st_mode
            if stat.S_ISLNK(mode):
                return mode, os.readlink(path)
            return mode, path.read_bytes() if stat.S_ISREG(mode) else ""

        return {str(p.relative_to(self.path)): look(p) for p in self.path.rglob("*")}


@pytest.fixture
def root(tmp_path: Path) -> Root:
    root = Root(tmp_path)
    for name, value in SYSCTLS.items():
        root.file(f"proc/sys/{name}", value)
    root.file("usr/bin/python3")
    return root


def test_installed_twice_and_undone_the_root_is_as_before(root: Root) -> None:
    before = root.picture()

    done = root.done("--also", "aws-cni", environ=IPV6)

    assert len(done) == 7
    installed = root.picture()
    for name in ("eniplug", "aws-cni"):
        assert installed[f"opt/cni/bin/{name}"] == (stat.S_IFREG | 0o755, PYTHON)
    assert {n: root.path.joinpath("proc/sys", n).read_text() for n in SYSCTLS} == {
        "net/ipv4/tcp_early_demux": "0",
        "net/ipv6/conf/all/disable_ipv6": "0",
    }

    assert root.done("--also", "aws-cni", environ=IPV6) == ["all is in place already"]
    assert root.picture() == installed

    root.done("--undo")
    assert root.picture() == before
    assert root.done("--undo") == ["nothing was installed"]


def test_sysctls_are_left_alone_unless_their_settings_say(root: Root) -> None:
    root.done()

    for name, value in SYSCTLS.items():
        assert root.path.joinpath("proc/sys", name).read_text() == value


def test_a_switch_that_is_neither_true_nor_false_is_refused(root: Root) -> None:
    assert root.refused(environ={"ENABLE_IPv6": "yes"}).startswith("ENABLE_IPv6='yes'")


def test_a_sysctl_that_the_kernel_has_not_is_left_out(root: Root) -> None:
    (root.path / "proc/sys/net/ipv4/tcp_early_demux").unlink()

    root.done(environ=IPV6)

    assert not (root.path / "proc/sys/net/ipv4/tcp_early_demux").exists()


def test_a_file_of_others_is_not_overwritten(root: Root) -> None:
    root.file("opt/cni/bin/aws-cni", "theirs", 0o755)

    message = root.refused("--also", "aws-cni")

    assert message == f"{root.bin}/aws-cni is not eniplug's"


def test_a_file_of_others_makes_way_when_asked_and_comes_back(root: Root) -> None:
    root.file("opt/cni/bin/aws-cni", "theirs", 0o750)
    (root.bin / "egress-cni").symlink_to("gone")
    before = root.picture()
    words = ("--also", "aws-cni", "--also", "egress-cni")

    root.done(*words, "--replace")

    assert (root.bin / "aws-cni").read_bytes() == PYTHON
    assert (root.bin / f"aws-cni{BEFORE}").read_text() == "theirs"
    assert not (root.bin / "egress-cni").is_symlink()
    assert root.done(*words) == ["all is in place already"]

    root.done("--undo")
    assert root.picture() == before


def test_what_others_changed_since_is_left_as_it_is(root: Root) -> None:
    root.done(environ=IPV6)
    root.file("opt/cni/bin/eniplug", "another's now")
    root.file("proc/sys/net/ipv4/tcp_early_demux", "2")

    done = root.done("--undo")

    assert f"left {root.bin}/eniplug: it is not what was installed" in done
    assert (root.bin / "eniplug").read_text() == "another's now"
    assert root.path.joinpath("proc/sys/net/ipv4/tcp_early_demux").read_text() == "2"


def test_an_upgrade_replaces_our_own_file_and_undo_knows_both(root: Root) -> None:
    before = root.picture()
    places = Places(root=root.path)
    place(places, {"eniplug": b"version 1"}, {})

    assert place(places, {"eniplug": b"version 2"}, {}) == [
        f"installed {root.bin}/eniplug"
    ]
    assert (root.bin / "eniplug").read_bytes() == b"version 2"

    root.done("--undo")
    assert root.picture() == before


def test_a_step_that_fails_takes_the_earlier_ones_back(root: Root) -> None:
    root.file("opt/cni/bin/eniplug", "theirs", 0o700)
    (root.path / "proc/sys/net/ipv6/conf/all/disable_ipv6").unlink()
    (root.path / "proc/sys/net/ipv6/conf/all/disable_ipv6").mkdir()
    before = root.picture()
    sysctls = dict.fromkeys(SYSCTLS, "0")
    executables = {"aws-cni": b"ours", "eniplug": b"ours"}

    with pytest.raises(ReadError, match="nothing was installed"):
        place(Places(root=root.path), executables, sysctls, replace=True)

    assert root.picture() == before


KILLED = 9


def dies_at(point: int, root: Root) -> bool:
    """Install in a child that dies as it comes to, or leaves, one of its writes."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == KILLED
    passed = count(1)
    codes = {atomic.write.__code__, os.link, Path.write_text.__code__}

    def profile(frame: FrameType, event: str, called: object) -> None:
        what = called if event.startswith("c_") else frame.f_code
        if what in codes and next(passed) == point:
            os._exit(KILLED)

    sys.setprofile(profile)
    with suppress(BaseException):
        executables = {"aws-cni": b"ours", "eniplug": b"version 2"}
        sysctls = dict.fromkeys(SYSCTLS, "0")
        place(Places(root=root.path), executables, sysctls, replace=True)
        os._exit(0)
    os._exit(1)


@pytest.mark.filterwarnings("ignore:.*use of fork:DeprecationWarning")
def test_an_install_that_is_cut_off_anywhere_can_be_undone_or_done_again(
    tmp_path: Path,
) -> None:
    for point in count(1):
        root = Root(tmp_path / str(point))
        root.file("opt/cni/bin/aws-cni", "theirs", 0o750)
        for name in SYSCTLS:
            root.file(f"proc/sys/{name}", "1")
        before = root.picture()
        place(Places(root=root.path), {"eniplug": b"version 1"}, {})

        dead = dies_at(point, root)
        if point % 2:
            place(Places(root=root.path), {"aws-cni": b"ours"}, {}, replace=True)
        undo(Places(root=root.path))

        assert root.picture() == before, point
        if not dead:
            assert point > 12
            return


def test_a_record_that_is_none_is_refused(root: Root) -> None:
    root.file(f"opt/cni/bin/{RECORD}", "{}")

    assert "no record of an install" in root.refused()
    assert "no record of an install" in root.refused("--undo")


@pytest.mark.parametrize("path", ["opt/cni/bin", "/opt/../../etc"])
def test_a_directory_that_may_lead_elsewhere_is_refused(root: Root, path: str) -> None:
    assert root.refused("--bin-dir", path).startswith(path)


# -- what is in the way ----------------------------------------------------------------


def test_a_clean_node_has_nothing_in_the_way(root: Root) -> None:
    assert root.found() == []


def test_directories_that_others_may_write_to_stop_an_install(root: Root) -> None:
    root.bin.mkdir(parents=True)
    for folder in (root.bin, root.bin.parent, root.bin.parent.parent):
        folder.chmod(0o755)
    root.bin.chmod(0o777)

    assert root.found() == ["/opt/cni/bin may be written by others than root"]
    assert "may be written by others" in root.refused()


def test_an_executable_without_its_interpreter_stops_an_install(root: Root) -> None:
    (root.path / "usr/bin/python3").unlink()

    assert root.found() == ["eniplug runs on /usr/bin/python3, which is not there"]


def test_another_cnis_conflist_is_named_and_whether_it_goes_first(root: Root) -> None:
    root.file("etc/cni/net.d/10-aws.conflist")
    root.file("etc/cni/net.d/10-eniplug.conflist")
    root.file("etc/cni/net.d/99-loopback.conf")
    root.file("etc/cni/net.d/README")
    root.done()

    assert root.found() == [
        "/etc/cni/net.d/10-aws.conflist is another CNI's, and the runtime takes it"
        " before eniplug's",
        "/etc/cni/net.d/99-loopback.conf is another CNI's",
    ]


RULES, ROUTES = "ManageForeignRoutingPolicyRules", "ManageForeignRoutes"


@pytest.mark.parametrize(
    ("files", "wrong"),
    [
        ({}, f"{RULES} and {ROUTES}"),
        ({"etc/systemd/networkd.conf": f"[Network]\n{RULES}=no\n"}, ROUTES),
        (
            {
                "etc/systemd/networkd.conf": f"[Network]\n{RULES}=no\n{ROUTES}=no\n",
                "usr/lib/systemd/networkd.conf.d/9.conf": f"[Network]\n{RULES}=yes\n",
            },
            RULES,
        ),
        (
            {
                "usr/lib/systemd/networkd.conf.d/9.conf": f"[Network]\n{RULES}=yes\n",
                "etc/systemd/networkd.conf.d/9.conf": (
                    f"# ours\n[Network]\n{RULES} = false\n{ROUTES}=0\n"
                ),
            },
            "",
        ),
        (
            {
                "usr/lib/systemd/networkd.conf": f"[Network]\n{RULES}=no\n",
                "etc/systemd/networkd.conf": f"[Network]\n{ROUTES}=no\n",
                "etc/systemd/networkd.conf.d/a.conf": f"[DHCP]\n{RULES}=no\n",
            },
            RULES,
        ),
    ],
)
def test_a_networkd_that_would_remove_rules_is_named(
    root: Root, files: dict[str, str], wrong: str
) -> None:
    for name, text in files.items():
        root.file(name, text)
    assert root.found() == []

    (root.path / "run/systemd/netif").mkdir(parents=True)

    found = root.found()
    assert len(found) == bool(wrong)
    assert not wrong or found[0].endswith(f": {wrong} not set to no")


def test_a_network_manager_that_would_take_pods_links_is_named(root: Root) -> None:
    (root.path / "run/NetworkManager").mkdir(parents=True)
    [found] = root.found()
    assert found.startswith("NetworkManager may take the pods' links (eni*)")

    root.file(
        "etc/NetworkManager/conf.d/k8s.conf",
        "[keyfile]\nunmanaged-devices=mac:02:00:00:00:00:01;interface-name:eni*\n",
    )
    assert root.found() == []


def test_the_lines_say_what_was_done_and_what_to_do(root: Root) -> None:
    root.file("etc/cni/net.d/10-aws.conflist")

    done = CliRunner().invoke(
        group, ["install", "--root", str(root.path), "--executable", "python"]
    )

    assert f"installed {root.bin}/eniplug\n" in done.stdout
    assert "warning: " in done.stdout
    assert "\n  drain the node" in done.stdout
