"""`eniplug cni`: runs a conflist as a container runtime does."""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import wraps
from pathlib import Path
from typing import Any, Final

import click

from eniplug.cni.conflist import load_conflist
from eniplug.cni.errors import CniError
from eniplug.cni.runtime import Attachment, Runtime

CACHE: Final = Path("/var/lib/cni/eniplug")
PATH: Final = "/opt/cni/bin:/usr/lib/cni"


@click.group("cni")
def command() -> None:
    r"""Run a conflist's whole chain, as a container runtime does.

    \b
    ip netns add demo
    eniplug cni add --conflist /etc/cni/net.d/10-eniplug.conflist \
        --netns /run/netns/demo --id demo1 \
        --args K8S_POD_NAMESPACE=default --args K8S_POD_NAME=demo
    eniplug cni del --conflist ... --netns /run/netns/demo --id demo1

    The result, or the error, is printed as the CNI specification has it; the exit
    status is 1 when the chain refused.
    """


def _pairs(_: click.Context, param: click.Parameter, values: tuple[str, ...]) -> Any:
    pairs = [value.partition("=") for value in values]
    if not all(equals and key for key, equals, _ in pairs):
        msg = "wants KEY=VALUE"
        raise click.BadParameter(msg, param=param)
    return {key: value for key, _, value in pairs}


def _capabilities(
    ctx: click.Context, param: click.Parameter, values: tuple[str, ...]
) -> Any:
    try:
        return {k: json.loads(v) for k, v in _pairs(ctx, param, values).items()}
    except ValueError as error:
        msg = f"wants NAME=JSON: {error}"
        raise click.BadParameter(msg, param=param) from error


_CONFLIST = click.option(
    "--conflist",
    required=True,
    type=click.Path(path_type=Path, dir_okay=False),
    help="The conflist's file.",
)
_PATH = click.option(
    "--path", default=PATH, show_default=True, help="Where executables are (CNI_PATH)."
)
_CACHE = click.option(
    "--cache",
    default=CACHE,
    show_default=True,
    type=click.Path(path_type=Path, file_okay=False),
    help="Keep results here, for DEL and CHECK.",
)
_ATTACHMENT = (
    click.option("--netns", default="", help="The namespace's path (CNI_NETNS)."),
    click.option("--id", "container_id", required=True, help="CNI_CONTAINERID."),
    click.option("--ifname", default="eth0", show_default=True, help="CNI_IFNAME."),
    click.option(
        "--args",
        multiple=True,
        metavar="KEY=VALUE",
        callback=_pairs,
        help="A pair of CNI_ARGS; may be given several times.",
    ),
    click.option(
        "--capability",
        "capabilities",
        multiple=True,
        metavar="NAME=JSON",
        callback=_capabilities,
        help="A value for runtimeConfig, for entries that ask for it.",
    ),
)


def _runtime(function: Callable[..., None]) -> Callable[..., None]:
    """Give a command its `Runtime`, and print its error as the specification has it."""

    @wraps(function)
    def call(conflist: Path, path: str, cache: Path, **options: Any) -> None:
        with _reported():
            folders = [Path(folder) for folder in path.split(":") if folder]
            found = load_conflist(conflist, trusted=False)
            function(Runtime(found, folders, cache), **options)

    for option in (_CACHE, _PATH, _CONFLIST):
        call = option(call)
    return call


def _attachment(function: Callable[[Runtime, Attachment], None]) -> Callable[..., None]:
    """Give a command its `Attachment`."""

    @wraps(function)
    def call(runtime: Runtime, **options: Any) -> None:
        function(runtime, Attachment(**options))

    done: Callable[..., None] = _runtime(call)
    for option in reversed(_ATTACHMENT):
        done = option(done)
    return done


@contextmanager
def _reported() -> Iterator[None]:
    try:
        yield
    except CniError as error:
        said = {"code": error.code, "msg": error.message, "details": error.details}
        click.echo(json.dumps(said, indent=2))
        click.echo(f"refused: {error.message} ({error.details})", err=True)
        sys.exit(1)


@command.command()
@_attachment
def add(runtime: Runtime, attachment: Attachment) -> None:
    """Attach a namespace; print the result."""
    click.echo(json.dumps(runtime.add(attachment), indent=2))


@command.command()
@_attachment
def check(runtime: Runtime, attachment: Attachment) -> None:
    """Check that an attachment is as it was made."""
    runtime.check(attachment)


@command.command("del")
@_attachment
def delete(runtime: Runtime, attachment: Attachment) -> None:
    """Detach a namespace; quiet when there is nothing to detach."""
    runtime.delete(attachment)


@command.command()
@_runtime
def gc(runtime: Runtime) -> None:
    """Let the plugins remove what is not in the cache (CNI 1.1.0)."""
    runtime.collect(runtime.known())


@command.command()
@_runtime
def status(runtime: Runtime) -> None:
    """Ask whether an ADD could succeed (CNI 1.1.0)."""
    runtime.status()
