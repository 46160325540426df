"""`eniplug cni`: runs a conflist as a container runtime does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from eniplug.cni.conflist import load_conflist
from eniplug.cni.errors import CniError
from eniplug.cni.protocol import error_json
from eniplug.cni.runtime import Attachment, EntryError, Runtime
from eniplug.cni.versions import DEFAULT

CACHE: Final = Path("/var/lib/cni/eniplug")
PATH: Final = "/opt/cni/bin:/usr/lib/cni"


@click.group("cni")
def command() -> None:
    """Run a conflist's whole chain, as a container runtime does.

    \b
    ip netns add demo
    export CONFLIST=10-vpc.conflist DEMO="--netns /run/netns/demo --id demo1"
    eniplug cni add --conflist $CONFLIST $DEMO --args K8S_POD_NAME=demo
    eniplug cni check --conflist $CONFLIST $DEMO
    eniplug cni del --conflist $CONFLIST $DEMO

    The result goes to standard output.  What is refused is CNI's error JSON there, a
    line on standard error, and exit status 1.
    """  # noqa: D301 - click's mark for "leave the lines as they are"


def _pairs(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, str]:
    """Read every ``K=V``."""
    del ctx
    pairs = [value.partition("=") for value in values]
    for key, equals, _ in pairs:
        if not key or not equals:
            raise click.BadParameter(f"wants {param.metavar}", param=param)
    return {key: value for key, _, value in pairs}


def _capabilities(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> dict[str, Any]:
    """Read every ``NAME=JSON``."""
    pairs = _pairs(ctx, param, values)
    try:
        return {name: json.loads(value) for name, value in pairs.items()}
    except ValueError as error:
        msg = f"wants {param.metavar}: {error}"
        raise click.BadParameter(msg, param=param) from error


_RUNTIME = (
    click.option(
        "--conflist",
        required=True,
        metavar="FILE",
        type=click.Path(path_type=Path, dir_okay=False),
        help="Run the entries of this conflist.",
    ),
    click.option(
        "--path",
        default=PATH,
        envvar="CNI_PATH",
        metavar="DIR:DIR",
        show_default=True,
        help="Look for executables here (CNI_PATH).",
    ),
    click.option(
        "--cache",
        default=CACHE,
        metavar="DIR",
        show_default=True,
        type=click.Path(path_type=Path, file_okay=False),
        help="Keep results here, for DEL, CHECK and GC.",
    ),
)


_NETNS = "The container's network namespace (CNI_NETNS)."
_NEEDS_NETNS = click.option("--netns", required=True, metavar="PATH", help=_NETNS)
_TAKES_NETNS = click.option("--netns", default="", metavar="PATH", help=_NETNS)
_ATTACHMENT = (
    click.option(
        "--id",
        "container_id",
        required=True,
        metavar="ID",
        help="The container's id (CNI_CONTAINERID).",
    ),
    click.option(
        "--ifname",
        default="eth0",
        metavar="NAME",
        show_default=True,
        help="The interface's name in the container (CNI_IFNAME).",
    ),
    click.option(
        "--args",
        multiple=True,
        metavar="K=V",
        callback=_pairs,
        help="One pair of CNI_ARGS; may be repeated.",
    ),
    click.option(
        "--capability",
        "capabilities",
        multiple=True,
        metavar="NAME=JSON",
        callback=_capabilities,
        help="A value for the entries with that capability; may be repeated.",
    ),
)


def _runs(*options: Any) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command its `Runtime` and options, and report what is refused."""

    def decorate(function: Callable[..., None]) -> Callable[..., None]:
        @wraps(function)
        def call(conflist: Path, path: str, cache: Path, **given: Any) -> None:
            version = DEFAULT
            try:
                loaded = load_conflist(conflist, trusted=False)
                version = loaded.cni_version
                folders = [Path(folder) for folder in path.split(":") if folder]
                function(Runtime(loaded, folders, cache), **given)
            except CniError as error:
                _report(error, version)
                sys.exit(1)

        for option in reversed((*_RUNTIME, *options)):
            call = option(call)
        return call

    return decorate


def _report(error: CniError, version: str) -> None:
    said = error_json(version, error.code, error.message, error.details)
    click.echo(said, nl=False)
    who = f"{error.entry} refused: " if isinstance(error, EntryError) else ""
    for line in (f"{who}{error}", *getattr(error, "__notes__", ())):
        click.echo(f"eniplug cni: {line}", err=True)


@command.command()
@_runs(_NEEDS_NETNS, *_ATTACHMENT)
def add(runtime: Runtime, **given: Any) -> None:
    """Attach a container; print the result.

    When an entry refuses, the whole chain gets a DEL.
    """
    click.echo(json.dumps(runtime.add(Attachment(**given)), indent=2))


@command.command("del")
@_runs(_TAKES_NETNS, *_ATTACHMENT)
def delete(runtime: Runtime, **given: Any) -> None:
    """Detach a container; quiet when there is nothing to detach.

    Without --netns it is the DEL of a container whose namespace is gone.
    """
    runtime.delete(Attachment(**given))


@command.command()
@_runs(_NEEDS_NETNS, *_ATTACHMENT)
def check(runtime: Runtime, **given: Any) -> None:
    """Ask every entry whether all is as it was left (CNI 0.4.0)."""
    runtime.check(Attachment(**given))


@command.command()
@_runs()
def gc(runtime: Runtime) -> None:
    """Let every entry remove what nobody has any more (CNI 1.1.0).

    Those that are in --cache stay.  Attachments that another runtime made are not
    known here and count as gone: do not run this on a node that has such.
    """
    runtime.gc()


@command.command()
@_runs()
def status(runtime: Runtime) -> None:
    """Ask whether an ADD can succeed (CNI 1.1.0)."""
    runtime.status()
