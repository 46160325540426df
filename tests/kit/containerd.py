"""Debian's containerd as the runtime of a lab's node: what it makes ends with it.

It runs in the node's namespaces, below an init that starts it again when it ends, as
systemd does.  Both have a PID namespace of their own: with the init's end all shims and
pods end too, and the init's parent, which dies with the tests, takes it along.  All of
its files are on the node's own /run; only the pods' cgroups, which have no such home,
are removed by name.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Generator, Iterator
from contextlib import closing, contextmanager, suppress
from pathlib import Path

from attrs import frozen

from eniplug.lab import leash
from kit.cri import Cri
from kit.labs import LabHand
from kit.oci import write_image
from kit.waiting import until

OTHER_CONFLISTS = "/run/bridge.d"
"""On the node: what pods of the handler ``bridge`` are connected with."""

NAMESPACES = "/run/containerd/state/io.containerd.grpc.v1.cri/netns"
"""Where containerd keeps the pods' network namespaces; only it sees what they are."""

PAUSE = "localhost/pause:1"
PORT = 8080
WHO = "/cgi-bin/who"
"""Where each pod tells its callers by which address it sees them."""

CONFIG = f"""
version = 2
root = "/run/containerd/root"
state = "/run/containerd/state"
disabled_plugins = ["io.containerd.internal.v1.opt"]

[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = "{PAUSE}"
netns_mounts_under_state_dir = true
restrict_oom_score_adj = true

[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = "/opt/cni/bin"
conf_dir = "/etc/cni/net.d"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"

[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.bridge]
runtime_type = "io.containerd.runc.v2"
cni_conf_dir = "{OTHER_CONFLISTS}"
"""

INIT = """
while :; do
    containerd --config "$1" &
    wait $!
    sleep 0.05
done
"""

_APART = (
    *("unshare", "--pid", "--fork", "--kill-child"),
    *("--mount-proc", "--propagation", "slave"),
)


@frozen
class Containerd:
    """One that runs; `cri` is how it is asked, `init` the process that starts it."""

    lab: LabHand
    cri: Cri
    init: int

    def load(self, archive: Path, image: str) -> None:
        """Have it take an image; returns when pods can be made of it."""
        ctr = ("ctr", "-n", "k8s.io", "images", "import")
        self.lab.inside("node1", *ctr, str(archive))
        # It hears of an image a moment after it is there.
        until(lambda: self.cri.has_image(image))

    def kill(self) -> None:
        """SIGKILL it, its shims and pods live on; wait until it is back."""
        (pid,) = _children(self.init, "containerd")
        os.kill(pid, signal.SIGKILL)
        until(lambda: _children(self.init, "containerd") not in ([pid], []))
        until(self.cri.ready)


@contextmanager
def a_containerd(lab: LabHand, folder: Path) -> Generator[Containerd]:
    """Run containerd on node 1 until the end; `folder` takes what it is told."""
    config, image, log = (folder / name for name in ("config", "image", "log"))
    config.write_text(CONFIG)
    _write_pause(image)
    parent = _start(lab, config, log)
    try:
        init = until(lambda: _children(parent.pid, "sh"))[0]
        socket = Path(f"/proc/{init}/root/run/containerd/containerd.sock")
        with closing(Cri(socket, f"/{lab.names.lab}")) as cri:
            until(cri.ready)
            runtime = Containerd(lab, cri, init)
            runtime.load(image, PAUSE)
            yield runtime
    except BaseException:
        print(log.read_text()[-20000:])
        raise
    finally:
        parent.kill()
        parent.wait()
        until(lambda: not _busy_cgroups(lab.names.lab))


def _write_pause(image: Path) -> None:
    """Make the image that every pod's sandbox runs: a web server that tells WHO."""
    busybox = shutil.which("busybox")
    assert busybox, "Install busybox-static (Debian): pods are made of it."
    who = "#!/bin/busybox sh\nprintf 'Content-Type: text/plain\\r\\n\\r\\n%s' "
    files = {
        "bin/busybox": Path(busybox).read_bytes(),
        f"www{WHO}": f'{who} "$REMOTE_ADDR"\n'.encode(),
    }
    serve = ("/bin/busybox", "httpd", "-f", "-p", f"0.0.0.0:{PORT}", "-h", "/www")
    write_image(image, PAUSE, files, serve)


def _start(lab: LabHand, config: Path, log: Path) -> subprocess.Popen[bytes]:
    """Start the init in the node; returns its parent, which dies with this thread."""
    bound = (sys.executable, "-IS", leash.__file__, str(os.getpid()))
    enter = (sys.executable, "-m", "eniplug.core.cli", "lab", "exec", "node1", "--")
    init = ("sh", "-c", INIT, "init", str(config))
    with log.open("ab") as out:
        return subprocess.Popen(
            (*bound, *enter, *_APART, *init),
            env={**os.environ, "ENIPLUG_LAB": lab.names.lab},
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=out,
        )


def _children(pid: int, name: str) -> list[int]:
    """The children of a process that run a program of this name."""
    children = Path(f"/proc/{pid}/task/{pid}/children").read_text().split()
    found: list[int] = []
    for child in children:
        with suppress(OSError):
            if Path(f"/proc/{child}/comm").read_text() == f"{name}\n":
                found.append(int(child))
    return found


def _busy_cgroups(lab: str) -> list[Path]:
    """Remove the pods' cgroups; returns those that still have processes that end."""
    return [path for path in cgroups(lab) if not _removed(path)]


def cgroups(lab: str) -> Iterator[Path]:
    """All cgroups of a lab's pods, in every hierarchy, the deepest first."""
    root = Path("/sys/fs/cgroup")
    for top in (root, *root.iterdir()):
        for path, _, _ in os.walk(top / lab, topdown=False):
            yield Path(path)


def _removed(path: Path) -> bool:
    try:
        path.rmdir()
    except FileNotFoundError:
        return True
    except OSError:
        return False
    return True
