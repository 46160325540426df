"""What on a node would be in the agent's way: looked for before it is installed."""

from __future__ import annotations

import configparser
import fnmatch
import os
import stat
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Final

from attrs import frozen

from eniplug.core.install import NAME
from eniplug.core.placing import Places, foreign

CONFIGS: Final = ("usr/lib", "usr/local/lib", "run", "etc")
"""Where systemd looks for configuration, the strongest last (systemd.conf(5))."""

FOREIGN_SETTINGS: Final = ("ManageForeignRoutingPolicyRules", "ManageForeignRoutes")
DROP_IN: Final = "/etc/systemd/networkd.conf.d/80-eniplug.conf"
UNMANAGED: Final = "/etc/NetworkManager/conf.d/80-eniplug.conf"
NO: Final = frozenset({"no", "false", "0", "off", "n", "f"})


@frozen
class Finding:
    """One thing in the way, and what to do about it; ``stops``: first of all."""

    what: str
    remedy: str
    stops: bool = False


def findings(
    places: Places,
    executables: Mapping[str, bytes],
    *,
    replace: bool = False,
    veth_prefix: str = "eni",
) -> tuple[Finding, ...]:
    """Look at a node; changes nothing.

    With ``replace`` others' executables are in nobody's way.  Raises ConfigError for an
    unreadable record.
    """
    return (
        *(() if replace else _foreign_files(places, executables)),
        *_writable(places),
        *_interpreter(places, executables),
        *_conflists(places),
        *_networkd(places),
        *_network_manager(places, veth_prefix),
    )


def _foreign_files(
    places: Places, executables: Mapping[str, bytes]
) -> Iterator[Finding]:
    for path in foreign(places, executables):
        yield Finding(
            f"{path} is not eniplug's",
            "remove it, or have it moved aside with --replace",
            stops=True,
        )


def _writable(places: Places) -> Iterator[Finding]:
    """Others who may write there become root when a pod starts."""
    seen: set[Path] = set()
    for folder in (places.bin_dir, places.conf_dir):
        for path in map(places.at, (folder, *folder.parents)):
            if path in seen or not path.exists():
                continue
            seen.add(path)
            found = path.stat()
            sticky = found.st_mode & stat.S_ISVTX  # nobody may rename what is root's
            open_ = found.st_mode & (stat.S_IWGRP | stat.S_IWOTH) and not sticky
            if found.st_uid not in {0, os.geteuid()} or open_:
                yield Finding(
                    f"{path} may be written by others than root",
                    f"chown root {path} && chmod go-w {path}",
                    stops=path == places.at(folder),
                )


def _interpreter(places: Places, executables: Mapping[str, bytes]) -> Iterator[Finding]:
    for name, data in executables.items():
        first = data.partition(b"\n")[0]
        if not first.startswith(b"#!"):
            continue
        interpreter = Path(first[2:].split()[0].decode())
        programs = places.at(interpreter.parent)
        if programs.is_dir() and not (programs / interpreter.name).exists():
            yield Finding(
                f"{name} runs on {interpreter}, which is not there",
                "install Python 3.7 or newer, or take the native executable",
                stops=True,
            )


def _conflists(places: Places) -> Iterator[Finding]:
    """Name a conflist that the runtime would take before ours: the first by name."""
    folder = places.at(places.conf_dir)
    if not folder.is_dir():
        return
    for path in sorted(folder.iterdir()):
        if path.suffix not in {".conf", ".conflist", ".json"} or path.name == NAME:
            continue
        before = path.name < NAME
        yield Finding(
            f"{path} is another CNI's"
            + (", and the runtime takes it before eniplug's" if before else ""),
            "drain the node, remove that CNI, then move the file away",
        )


def _networkd(places: Places) -> Iterator[Finding]:
    enabled = "etc/systemd/system/multi-user.target.wants/systemd-networkd.service"
    runs = (places.root / "run/systemd/netif").is_dir()
    if not runs and not (places.root / enabled).is_symlink():
        return
    said = _networkd_settings(places.root)
    wrong = [one for one in FOREIGN_SETTINGS if said.get(one, "yes").lower() not in NO]
    if wrong:
        lines = "\\n".join(f"{one}=no" for one in wrong)
        yield Finding(
            "systemd-networkd removes rules and routes that are not its own when it"
            f" restarts: {' and '.join(wrong)} not set to no",
            f"mkdir -p {Path(DROP_IN).parent} && printf '[Network]\\n{lines}\\n' >"
            f" {DROP_IN} && systemctl restart systemd-networkd",
        )


def _networkd_settings(root: Path) -> dict[str, str]:
    """Read [Network] of networkd.conf as networkd does: drop-ins go last, by name."""
    folders = [root / one / "systemd" for one in CONFIGS]
    mains = [f / "networkd.conf" for f in folders if (f / "networkd.conf").exists()]
    drop_ins = {p.name: p for f in folders for p in f.glob("networkd.conf.d/*.conf")}
    said: dict[str, str] = {}
    for path in (*mains[-1:], *(drop_ins[name] for name in sorted(drop_ins))):
        said |= _section(path, "Network")
    return said


def _network_manager(places: Places, veth_prefix: str) -> Iterator[Finding]:
    if not (places.root / "run/NetworkManager").is_dir():
        return
    files = (
        path
        for one in CONFIGS
        for path in (places.root / one / "NetworkManager").glob("conf.d/*.conf")
    )
    main = places.root / "etc/NetworkManager/NetworkManager.conf"
    told = ";".join(
        _section(path, "keyfile").get("unmanaged-devices", "")
        for path in (main, *files)
    )
    patterns = (one.strip().removeprefix("interface-name:") for one in told.split(";"))
    if not any(fnmatch.fnmatch(f"{veth_prefix}0", p) for p in patterns if p):
        yield Finding(
            f"NetworkManager may take the pods' links ({veth_prefix}*) for its own",
            "printf '[keyfile]\\nunmanaged-devices=interface-name:"
            f"{veth_prefix}*\\n' > {UNMANAGED} && systemctl reload NetworkManager",
        )


def _section(path: Path, name: str) -> dict[str, str]:
    """Return one section of an ini file; empty where there is none to be read."""
    parser = configparser.RawConfigParser(
        strict=False, allow_no_value=True, delimiters=("=",)
    )
    parser.optionxform = str  # type: ignore[assignment, method-assign]
    try:
        parser.read(path)
    except (configparser.Error, UnicodeDecodeError):
        return {}
    found = parser[name] if parser.has_section(name) else {}
    return {key: value or "" for key, value in found.items()}
