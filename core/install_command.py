"""`eniplug install`: the executables and the init step's sysctls, on a node."""

from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final, Literal

import click
from attrs import asdict, frozen

from eniplug.cni import native_path, python_executable
from eniplug.core.placing import Places, place, undo
from eniplug.core.preflight import Finding, findings
from eniplug.core.settings import FALSE, TRUE
from eniplug.hooks.errors import ConfigError

Command = Callable[..., None]

NAME: Final = "eniplug"
ALSO: Final = ("aws-cni", "egress-cni", "bandwidth")
"""Names under which the AWS VPC CNI's conflist may ask for the executable."""

EARLY_DEMUX: Final = "DISABLE_TCP_EARLY_DEMUX"
IPV6: Final = "ENABLE_IPv6"


def executable_of(kind: Literal["native", "python"] | None) -> bytes:
    """Read the executable: the native one if none is asked for and this machine has it.

    Raises ConfigError when there is no native one for this machine.
    """
    native = native_path()
    if kind == "native" and native is None:
        msg = f"there is no native executable for {os.uname().machine}"
        raise ConfigError(msg, "take the one in Python: --executable python")
    if native is None or kind == "python":
        return python_executable()
    return native.read_bytes()


def sysctls_of(environ: Mapping[str, str]) -> dict[str, str]:
    """The sysctls that the agent does not see to itself, by path below /proc/sys.

    Raises ConfigError for what is neither true nor false.
    """
    early, six = _switch(environ, EARLY_DEMUX), _switch(environ, IPV6)
    found: dict[str, str] = {}
    if early is not None:
        found["net/ipv4/tcp_early_demux"] = "0" if early else "1"
    if six:
        found["net/ipv6/conf/all/disable_ipv6"] = "0"
    return found


def _switch(environ: Mapping[str, str], name: str) -> bool | None:
    said = environ.get(name)
    if said is None:
        return None
    if said not in TRUE | FALSE:
        msg = f"{name}={said!r}: accepted is true or false"
        raise ConfigError(msg)
    return said in TRUE


@frozen(kw_only=True)
class Options:
    """What is to be done, and where."""

    root: Path
    bin_dir: Path
    conf_dir: Path
    proc_sys: Path
    also: tuple[str, ...]
    kind: Literal["native", "python"] | None
    replace: bool
    check: bool
    undo: bool
    as_json: bool


def _folder(name: str, default: str, help_: str) -> Callable[[Command], Command]:
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option(
        name, type=kind, default=Path(default), show_default=True, help=help_
    )


@click.command("install")
@_folder("--root", "/", "The node's root; all directories are below it.")
@_folder("--bin-dir", "/opt/cni/bin", "Where the runtime looks for executables.")
@_folder("--conf-dir", "/etc/cni/net.d", "Where the runtime looks for conflists.")
@_folder("--proc-sys", "/proc/sys", "Where sysctls are written.")
@click.option(
    "--also",
    multiple=True,
    type=click.Choice(ALSO),
    help="Install it under this name too, for the AWS VPC CNI's conflist.",
)
@click.option(
    "--executable",
    "kind",
    type=click.Choice(["native", "python"]),
    help="Which one to install; native where this machine has one.",
)
@click.option(
    "--replace", is_flag=True, help="Move others' files of these names aside."
)
@click.option("--check", is_flag=True, help="Say what is in the way; change nothing.")
@click.option("--undo", is_flag=True, help="Remove what was installed.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
def command(**options: Any) -> None:
    """Put the executable on this node, and say what is in its way.

    All is done, or nothing.  Files of other projects are left alone.  The conflist is
    the agent's to install, when it is ready.  DISABLE_TCP_EARLY_DEMUX and ENABLE_IPv6
    in the environment set the sysctls that go with them.
    """
    _install(Options(**options))


def _install(options: Options) -> None:
    for path in (options.bin_dir, options.conf_dir, options.proc_sys):
        if not path.is_absolute() or ".." in path.parts:
            msg = f"{path} is no path from the root"
            raise ConfigError(msg, "write it from / on, without ..")
    places = Places(
        root=options.root,
        bin_dir=options.bin_dir,
        conf_dir=options.conf_dir,
        proc_sys=options.proc_sys,
    )
    if options.undo:
        _say(undo(places) or ["nothing was installed"], (), as_json=options.as_json)
        return
    data = executable_of(options.kind)
    executables = dict.fromkeys((NAME, *options.also), data)
    found = findings(places, executables, replace=options.replace)
    stops = [one for one in found if one.stops]
    deeds: Sequence[str] = ()
    if not options.check:
        sysctls = sysctls_of(os.environ)
        for one in stops:
            raise ConfigError(one.what, one.remedy)
        deeds = place(places, executables, sysctls, replace=options.replace)
        deeds = deeds or ["all is in place already"]
    _say(deeds, found, as_json=options.as_json)
    if options.check and stops:
        sys.exit(1)


def _say(deeds: Sequence[str], found: Sequence[Finding], *, as_json: bool) -> None:
    if as_json:
        told = {"done": list(deeds), "findings": [asdict(one) for one in found]}
        click.echo(json.dumps(told, indent=2))
        return
    for deed in deeds:
        click.echo(deed)
    for one in found:
        click.echo(f"{'error' if one.stops else 'warning'}: {one.what}")
        click.echo(f"  {one.remedy}")
    if not deeds and not found:
        click.echo("nothing is in the way")
