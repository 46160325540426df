"""`eniplug uninstall`: a node as it was before the agent's first start.

The agent does not run, so the store is ours.  What it says was made is removed, and
what has an earlier value gets it back, if the present one is still ours.  The store
goes last: after a failure the command can be run again.
"""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import click
from attrs import frozen

from eniplug.core.appended import has_appended
from eniplug.core.attach import is_alive
from eniplug.core.discover import Facts
from eniplug.core.ec2_boto import Ec2
from eniplug.core.elastic_ips import release_all
from eniplug.core.install import NAME, RECORD
from eniplug.core.kernel import Kernel
from eniplug.core.kernel.settle import was_there
from eniplug.core.memory import recall
from eniplug.core.parts import Part
from eniplug.core.state import ELASTIC_IPS
from eniplug.core.store import Store
from eniplug.hooks import LinkState, Object, Sysctl
from eniplug.hooks.errors import ConfigError, KernelError
from eniplug.hooks.objects import Key

Command = Callable[..., None]


@frozen(kw_only=True)
class Leftover:
    """What the agent has left on the node.

    ``running`` are the parts whose pods are there, ``earlier`` what node objects had in
    their place (see `Kernel.earlier`).  ``cloud`` is instance and region if EC2 may
    have public addresses that pods have got.
    """

    conflist: Path | None
    parts: Sequence[Part]
    running: Sequence[Part]
    objects: Sequence[Object]
    earlier: Mapping[Key, str]
    files: Sequence[Path]
    cloud: tuple[str, str] | None = None

    @classmethod
    def of(cls, run_dir: Path, conf_dir: Path, kernel: Kernel) -> Leftover:
        """Look for it; changes nothing.  Raises ConfigError, KernelError."""
        parts: Sequence[Part] = ()
        objects: Sequence[Object] = ()
        earlier: Mapping[Key, str] = {}
        facts: Facts | None = None
        if (run_dir / "state.db").exists():
            store = Store(run_dir / "state.db")
            try:
                parts = store.parts()
                objects, earlier = store.node_objects()
                if store.fact(ELASTIC_IPS) is not None:
                    facts = recall(store)
            finally:
                store.close()
        links = kernel.links()
        found = [conf_dir / NAME] if (conf_dir / NAME).exists() else [None]
        files = (
            "agent.sock",
            "agent.new",
            "executable.code*",
            "tombstones/*",
            "state.db*",
        )
        return cls(
            conflist=found[0],
            parts=parts,
            running=[part for part in parts if is_alive(part, links)],
            objects=objects,
            earlier=earlier,
            files=[path for one in files for path in sorted(run_dir.glob(one))],
            cloud=None if facts is None else (facts.instance_id, facts.region),
        )

    def told(self) -> dict[str, Any]:
        """Say what is removed, put back and left, in what JSON can hold."""
        deeds = [_deed(one, self.earlier) for one in self.objects]
        return {
            "conflist": None if self.conflist is None else str(self.conflist),
            "pods": [
                {
                    "container": p.pod.container_id,
                    "link": p.allocation.nics[0].host_ifname,
                }
                for p in self.running
            ],
            "elastic_ips": self.cloud is not None,
            "objects": [{"object": what, "do": do} for what, do in deeds],
            "files": [str(path) for path in self.files],
        }

    def remove(self, kernel: Kernel, run_dir: Path) -> None:
        """Remove it all.

        Raises KernelError, and what EC2 says, with the store still there.
        """
        if self.conflist is not None:
            _take_away(self.conflist)  # no more pods from here on
        wrong = [
            words
            for part in reversed(self.parts)
            for words in kernel.remove(part.objects, None)
        ]
        if wrong:
            raise KernelError("; ".join(wrong))
        kernel.reap()
        if self.cloud is not None:
            instance, region = self.cloud
            release_all(Ec2(region), instance)
        kernel.settle(self.objects, (), self.earlier)
        for path in self.files:
            path.unlink(missing_ok=True)
        for folder in (run_dir / "tombstones", run_dir):
            with suppress(OSError):  # somebody else's files are in it, or it is gone
                folder.rmdir()


def _take_away(conflist: Path) -> None:
    """Remove the conflist; what others appended to it is kept beside it."""
    record = conflist.with_name(RECORD)
    before = record.read_bytes() if record.exists() else None
    if has_appended(conflist.read_bytes(), before):
        conflist.rename(conflist.with_name(f"{conflist.name}.removed"))
    else:
        conflist.unlink()
    record.unlink(missing_ok=True)


def _deed(one: Object, earlier: Mapping[Key, str]) -> tuple[str, str]:
    if was_there(one, earlier):
        return str(one), "leave: it was there before"
    if not isinstance(one, LinkState | Sysctl):
        return str(one), "remove"
    value = earlier.get(one.key)
    return str(one), "leave" if value is None else f"set back to {value}"


def agent_listens(path: Path) -> bool:
    """Whether an agent answers at a socket."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as one:
        try:
            one.connect(str(path))
        except OSError:
            return False
    return True


def _lines(told: Mapping[str, Any]) -> Iterator[str]:
    if told["conflist"] is not None:
        yield f"remove {told['conflist']}"
    for pod in told["pods"]:
        yield f"remove the network of container {pod}, which runs"
    if told["elastic_ips"]:
        yield "release the public addresses that pods of this node have got"
    for one in told["objects"]:
        yield f"{one['do']}: {one['object']}"
    for path in told["files"]:
        yield f"remove {path}"


@frozen(kw_only=True)
class Options:
    """What is to be done, and where the agent's files are."""

    yes: bool
    force: bool
    as_json: bool
    run_dir: Path
    conf_dir: Path
    proc_sys: Path


def _folder(name: str, default: str, help_: str) -> Callable[[Command], Command]:
    kind = click.Path(path_type=Path, file_okay=False)
    return click.option(
        name, type=kind, default=Path(default), show_default=True, help=help_
    )


@click.command("uninstall")
@click.option("--yes", is_flag=True, help="Do it; without this nothing is changed.")
@click.option("--force", is_flag=True, help="Take the network of running pods, too.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON.")
@_folder("--run-dir", "/run/eniplug", "Where the agent has its socket and its store.")
@_folder("--conf-dir", "/etc/cni/net.d", "Where the agent's conflist is.")
@_folder("--proc-sys", "/proc/sys", "Where sysctls are written.")
def command(**options: object) -> None:
    """Leave this node as it was before the agent's first start.

    Stop the agent and drain the node first.  Without --yes it is only said what would
    be done.  ENIs stay attached, and the executable stays where it was put.
    """
    _uninstall(Options(**options))  # type: ignore[arg-type]


def _uninstall(options: Options) -> None:
    if os.geteuid() != 0:
        msg = "uninstall needs root: it changes the node's network"
        raise ConfigError(msg, "run it as root")
    if agent_listens(options.run_dir / "agent.sock"):
        msg = "the agent runs on this node, and would put back what is removed"
        raise ConfigError(msg, "stop it first, and see that nothing starts it again")
    kernel = Kernel(proc_sys=options.proc_sys)
    leftover = Leftover.of(options.run_dir, options.conf_dir, kernel)
    told = leftover.told()
    if options.yes:
        if leftover.running and not options.force:
            msg = f"{len(leftover.running)} pods run on this node"
            raise ConfigError(msg, "drain it first; --force takes their network away")
        leftover.remove(kernel, options.run_dir)
    if options.as_json:
        click.echo(json.dumps({"done": options.yes, **told}, indent=2))
        return
    for line in _lines(told):
        click.echo(line)
    click.echo("done" if options.yes else "nothing was changed: --yes does it")
