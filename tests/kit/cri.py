"""A container runtime, asked through CRI as a kubelet asks it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import grpc
from attrs import field, frozen

MESSAGES, _SERVICES = grpc.protos_and_services("kit/cri.proto")

WITHIN = 60.0
"""Seconds that one call may take; a kubelet gives it 120."""


@frozen
class PodSpec:
    """What a kubelet asks for one pod; its uid is its own."""

    name: str
    annotations: Mapping[str, str] = {}
    ports: Mapping[int, int] = {}
    """Port of the node: port of the pod (TCP)."""
    uid: str = field(factory=lambda: str(uuid.uuid4()))
    host_network: bool = False
    logs: Path | None = None
    """The folder that takes what its containers print."""


class Cri:
    """The calls that are made of one runtime; each raises grpc.RpcError.

    `cgroup` is where all pods' cgroups lie, from the cgroups' root.
    """

    def __init__(self, socket: Path, cgroup: str) -> None:
        # A runtime that was killed is back soon: it is not asked in long pauses.
        options = [("grpc.max_reconnect_backoff_ms", 100)]
        self._channel = grpc.insecure_channel(f"unix://{socket}", options)
        self._runtime: Any = _SERVICES.RuntimeServiceStub(self._channel)
        self._images: Any = _SERVICES.ImageServiceStub(self._channel)
        self._cgroup = cgroup

    def close(self) -> None:
        """End the connection."""
        self._channel.close()

    def version(self) -> str:
        """Its name and version."""
        said = self._runtime.Version(MESSAGES.VersionRequest(), timeout=WITHIN)
        return f"{said.runtime_name} {said.runtime_version}"

    def ready(self) -> bool:
        """Tell whether it answers, and has its network's conflist."""
        try:
            said = self._runtime.Status(MESSAGES.StatusRequest(), timeout=1)
        except grpc.RpcError:
            return False
        return all(condition.status for condition in said.status.conditions)

    def has_image(self, name: str) -> bool:
        """Tell whether a pod can be made of an image."""
        wanted = MESSAGES.ImageStatusRequest(image=MESSAGES.ImageSpec(image=name))
        return bool(self._images.ImageStatus(wanted, timeout=WITHIN).image.id)

    def run(self, pod: PodSpec, handler: str = "") -> str:
        """RunPodSandbox; returns the sandbox's id."""
        wanted = MESSAGES.RunPodSandboxRequest(
            config=self._config(pod), runtime_handler=handler
        )
        answer = self._runtime.RunPodSandbox(wanted, timeout=WITHIN)
        return str(answer.pod_sandbox_id)

    def _config(self, pod: PodSpec) -> Any:
        network = MESSAGES.NODE if pod.host_network else MESSAGES.POD
        return MESSAGES.PodSandboxConfig(
            metadata={"name": pod.name, "uid": pod.uid, "namespace": "default"},
            hostname="" if pod.host_network else pod.name,
            log_directory=str(pod.logs or ""),
            port_mappings=[
                {"host_port": outer, "container_port": inner}
                for outer, inner in pod.ports.items()
            ],
            annotations=pod.annotations,
            linux={
                "cgroup_parent": self._cgroup,
                "security_context": {
                    "namespace_options": {"network": network, "pid": MESSAGES.CONTAINER}
                },
            },
        )

    def stop(self, sandbox: str) -> None:
        """StopPodSandbox."""
        self._runtime.StopPodSandbox(_id(sandbox), timeout=WITHIN)

    def remove(self, sandbox: str) -> None:
        """RemovePodSandbox."""
        self._runtime.RemovePodSandbox(_id(sandbox), timeout=WITHIN)

    def address(self, sandbox: str) -> str:
        """The address that a pod's status shows."""
        said = self._runtime.PodSandboxStatus(_id(sandbox), timeout=WITHIN)
        return str(said.status.network.ip)

    def sandboxes(self) -> dict[str, bool]:
        """All sandboxes by id: whether they run."""
        said = self._runtime.ListPodSandbox(MESSAGES.Empty(), timeout=WITHIN)
        return {item.id: item.state == MESSAGES.SANDBOX_READY for item in said.items}

    def start(self, sandbox: str, pod: PodSpec, config: Mapping[str, Any]) -> str:
        """CreateContainer, of a ContainerConfig, and StartContainer; returns its id."""
        wanted = MESSAGES.CreateContainerRequest(
            pod_sandbox_id=sandbox, config=config, sandbox_config=self._config(pod)
        )
        made = self._runtime.CreateContainer(wanted, timeout=WITHIN)
        self._runtime.StartContainer(made, timeout=WITHIN)
        return str(made.container_id)

    def ended(self, container: str) -> int | None:
        """Tell a container's exit status; None while it runs."""
        wanted = MESSAGES.ContainerId(container_id=container)
        status = self._runtime.ContainerStatus(wanted, timeout=WITHIN).status
        exited = status.state == MESSAGES.CONTAINER_EXITED
        return int(status.exit_code) if exited else None

    def execute(self, container: str, *command: str) -> tuple[int, str]:
        """ExecSync; returns the exit status, and all that was printed."""
        wanted = MESSAGES.ExecSyncRequest(container_id=container, cmd=command)
        done = self._runtime.ExecSync(wanted, timeout=WITHIN)
        return int(done.exit_code), (done.stdout + done.stderr).decode()


def _id(sandbox: str) -> Any:
    return MESSAGES.PodSandboxId(pod_sandbox_id=sandbox)


def timed(call: Any, *args: Any) -> tuple[float, Any]:
    """Call it; returns the milliseconds that it took, and its answer."""
    began = time.perf_counter()
    answer = call(*args)
    return (time.perf_counter() - began) * 1000, answer
