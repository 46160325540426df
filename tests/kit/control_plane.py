"""A Kubernetes control plane on loopback: etcd, API server, controller manager.

They are those that .ci/kube has built.  There is no kubelet and no scheduler: pods are
made, and run nowhere.  The processes end with the tests, however these end, and all
their files are in one folder.
"""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Generator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Final

import urllib3
from attrs import frozen
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec

from eniplug.lab import leash
from kit.kube_client import KubeClient
from kit.waiting import until

BUILT: Final = "ENIPLUG_KUBE"
"""The variable that says where .ci/kube has put its programs."""

ADMIN: Final = "the-admin"
"""The token of the group system:masters, which may do everything."""

ENDS_WITHIN: Final = 10.0

CONTROLLERS: Final = (
    "daemonset-controller",
    "node-lifecycle-controller",
    "serviceaccount-controller",
)


@frozen
class ControlPlane:
    """One that runs.

    ``authority`` is the file of the certificate that it is known by, ``kubeconfig`` the
    administrator's, ``built`` the folder of its programs.
    """

    url: str
    authority: Path
    kubeconfig: Path
    built: Path

    def client(self, token: str = ADMIN) -> KubeClient:
        """Ask it as whoever the token belongs to."""
        return KubeClient(self.url, self.authority, token)


@contextmanager
def a_control_plane(folder: Path) -> Generator[ControlPlane]:
    """Run one until the end; ``folder`` takes what it writes."""
    assert BUILT in os.environ, "What these tests need is built: tox run -e kube"
    built = Path(os.environ[BUILT])
    port = _free_port()
    url = f"https://127.0.0.1:{port}"
    plane = ControlPlane(url, folder / "apiserver.crt", folder / "admin", built)
    _write_credentials(folder)
    with _told(folder), ExitStack() as running:

        def run(*command: str) -> None:
            running.enter_context(_running(built, folder, command))

        run(*_etcd())
        run(*_apiserver(port))
        until(plane.authority.exists)
        with plane.client() as admin:
            until(lambda: _ready(admin))
            plane.kubeconfig.write_text(admin.kubeconfig(token=ADMIN))
        run(*_controller_manager())
        yield plane


# Sockets are named from their folder on: the path of a unix socket has 107 bytes.


def _etcd() -> tuple[str, ...]:
    return (
        *("etcd", "--data-dir=etcd", "--unsafe-no-fsync", "--log-level=warn"),
        *("--listen-client-urls=unix://store", "--advertise-client-urls=unix://store"),
        *("--listen-peer-urls=unix://peers", "--initial-cluster=default=unix://peers"),
        "--initial-advertise-peer-urls=unix://peers",
    )


def _apiserver(port: int) -> tuple[str, ...]:
    return (
        *("kube-apiserver", "--etcd-servers=unix://store", "--cert-dir=."),
        *("--bind-address=127.0.0.1", f"--secure-port={port}"),
        *("--endpoint-reconciler-type=none", "--service-cluster-ip-range=10.96.0.0/16"),
        *("--token-auth-file=tokens", "--authorization-mode=Node,RBAC"),
        "--service-account-issuer=https://kubernetes.default.svc",
        "--service-account-key-file=key",
        "--service-account-signing-key-file=key",
    )


def _controller_manager() -> tuple[str, ...]:
    return (
        *("kube-controller-manager", "--kubeconfig=admin", "--secure-port=0"),
        *("--leader-elect=false", f"--controllers={','.join(CONTROLLERS)}"),
    )


def _write_credentials(folder: Path) -> None:
    """Write the administrator's token, and the key that accounts' tokens bear."""
    (folder / "tokens").write_text(f'{ADMIN},admin,1,"system:masters"\n')
    key = ec.generate_private_key(ec.SECP256R1())
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.TraditionalOpenSSL,
        serialization.NoEncryption(),
    )
    (folder / "key").write_bytes(pem)


@contextmanager
def _running(built: Path, folder: Path, command: tuple[str, ...]) -> Generator[None]:
    """Run a program in its folder; it dies with the tests."""
    bound = (sys.executable, "-IS", leash.__file__, str(os.getpid()))
    program, *arguments = command
    with (folder / f"{program}.log").open("wb") as log:
        process = subprocess.Popen(
            (*bound, str(built / program), *arguments),
            cwd=folder,
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=log,
        )
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(ENDS_WITHIN)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


def _ready(admin: KubeClient) -> bool:
    try:
        return admin.ask("GET", "/readyz").taken
    except urllib3.exceptions.HTTPError:
        return False


@contextmanager
def _told(folder: Path) -> Generator[None]:
    """Tell what the programs logged, if the tests cannot go on."""
    try:
        yield
    except BaseException:
        for log in folder.glob("*.log"):
            print(log.name, log.read_text()[-5000:], sep="\n")
        raise


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])
