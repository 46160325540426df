"""A DaemonSet's pod on a lab's node, made of its manifest as a kubelet makes it.

What a manifest says and is not known here is an error: nothing of it is passed over.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml
from attrs import field, frozen

from kit.containerd import Containerd
from kit.cri import MESSAGES, PodSpec
from kit.waiting import until

PROFILES = {
    "RuntimeDefault": MESSAGES.SecurityProfile.RUNTIME_DEFAULT,
    "Unconfined": MESSAGES.SecurityProfile.UNCONFINED,
}

MASKED = [
    *("/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats"),
    *("/proc/sched_debug", "/proc/scsi", "/proc/timer_list", "/proc/timer_stats"),
    "/sys/firmware",
]
READ_ONLY = [
    *("/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"),
]
"""What a kubelet asks for where no procMount is set (ProcMountType Default)."""

ELSEWHERE = {
    *("affinity", "imagePullSecrets", "nodeSelector", "priorityClassName"),
    *("tolerations", "terminationGracePeriodSeconds", "resources", "ports"),
    *("serviceAccountName", "dnsPolicy", "imagePullPolicy"),
    *("livenessProbe", "readinessProbe"),
}
"""What is not for a container runtime.  `Kubelet.probe` asks by the probes."""


@frozen
class Manifest:
    """The objects of one file; a test may change them."""

    objects: list[dict[str, Any]]

    @classmethod
    def read(cls, path: Path) -> Manifest:
        """Read a file of several documents."""
        return cls([one for one in yaml.safe_load_all(path.read_text()) if one])

    def data(self, name: str) -> dict[str, str]:
        """What a ConfigMap holds."""
        (found,) = (
            one
            for one in self.objects
            if (one["kind"], one["metadata"]["name"]) == ("ConfigMap", name)
        )
        if not found.get("data"):
            found["data"] = {}
        held: dict[str, str] = found["data"]
        return held

    @property
    def pod(self) -> dict[str, Any]:
        """What the DaemonSet says of its pods."""
        (found,) = (one for one in self.objects if one["kind"] == "DaemonSet")
        spec: dict[str, Any] = found["spec"]["template"]["spec"]
        return spec

    def container(self, name: str) -> dict[str, Any]:
        """What is said of one container, init or not."""
        both: list[dict[str, Any]] = [
            *self.pod["initContainers"],
            *self.pod["containers"],
        ]
        (found,) = (one for one in both if one["name"] == name)
        return found


@frozen
class Running:
    """One that runs: its sandbox, and its containers by name."""

    spec: PodSpec
    sandbox: str
    containers: dict[str, str] = field(factory=dict)

    def log(self, name: str) -> str:
        """What a container has printed, each line with time and stream."""
        assert self.spec.logs
        return (self.spec.logs / f"{name}.log").read_text()


@frozen
class Kubelet:
    """Runs pods of a manifest; `folder` takes what they print, and their files."""

    runtime: Containerd
    folder: Path
    numbers: Iterator[int] = field(factory=itertools.count)

    def run(self, manifest: Manifest) -> Running:
        """Run the init containers to their end, then begin the others.

        Raises AssertionError with what an init container printed that failed.
        """
        said = {k: v for k, v in manifest.pod.items() if k not in ELSEWHERE}
        logs = self.folder / f"pod-{next(self.numbers)}"
        logs.mkdir()
        spec = PodSpec("agent", host_network=said.pop("hostNetwork"), logs=logs)
        assert not said.pop("automountServiceAccountToken")
        pod = Running(spec, self.runtime.cri.run(spec))
        try:
            for one in said.pop("initContainers"):
                self._complete(manifest, one["name"], pod)
            for one in said.pop("containers"):
                self.start(manifest, one["name"], pod)
        except BaseException:
            self.remove(pod)
            raise
        assert said.keys() == {"securityContext", "volumes"}
        return pod

    def _complete(self, manifest: Manifest, name: str, pod: Running) -> None:
        self.start(manifest, name, pod)
        until(lambda: self.ended(pod, name) is not None)
        assert self.ended(pod, name) == 0, pod.log(name)

    def start(self, manifest: Manifest, name: str, pod: Running) -> None:
        """Begin one container of a pod."""
        config = self._config(manifest, manifest.container(name))
        cri = self.runtime.cri
        pod.containers[name] = cri.start(pod.sandbox, pod.spec, config)

    def ended(self, pod: Running, name: str) -> int | None:
        """A container's exit status; None while it runs."""
        return self.runtime.cri.ended(pod.containers[name])

    def execute(self, pod: Running, name: str, *command: str) -> tuple[int, str]:
        """Run a command in a container; returns its exit status, and what it said."""
        return self.runtime.cri.execute(pod.containers[name], *command)

    def remove(self, pod: Running) -> None:
        """Stop a pod, its containers with it, and remove it."""
        self.runtime.cri.stop(pod.sandbox)
        self.runtime.cri.remove(pod.sandbox)

    def probe(self, manifest: Manifest, name: str, which: str) -> bool:
        """Ask a container's page once, from the node, as a kubelet does."""
        probe = manifest.container(name)[which]
        asked = probe["httpGet"]
        host = f"[{asked['host']}]" if ":" in asked["host"] else asked["host"]
        url = f"http://{host}:{asked['port']}{asked['path']}"
        curl = f"curl -sf -m {probe['timeoutSeconds']} {url}"
        look = ("sh", "-c", f"{curl} >/dev/null && echo well || true")
        return self.runtime.lab.inside("node1", *look) == "well\n"

    def _config(self, manifest: Manifest, said: dict[str, Any]) -> dict[str, Any]:
        """Make a ContainerConfig."""
        said = {k: v for k, v in said.items() if k not in ELSEWHERE}
        name = said.pop("name")
        config = {
            "metadata": {"name": name},
            "image": {"image": said.pop("image")},
            "args": said.pop("args"),
            "log_path": f"{name}.log",
            "envs": [
                {"key": key, "value": value}
                for key, value in _environment(manifest, said).items()
            ],
            "mounts": [self._mount(manifest, one) for one in said.pop("volumeMounts")],
            "linux": {"security_context": _security(manifest, said)},
        }
        assert not said, said
        return config

    def _mount(self, manifest: Manifest, said: dict[str, Any]) -> dict[str, Any]:
        (volume,) = (
            one for one in manifest.pod["volumes"] if one["name"] == said["name"]
        )
        if "hostPath" in volume:
            assert said.keys() <= {"name", "mountPath", "readOnly"}
            path = Path(volume["hostPath"]["path"])
            if volume["hostPath"]["type"] == "DirectoryOrCreate":
                self.runtime.lab.inside("node1", "mkdir", "-p", str(path))
        else:
            file = said["subPath"]
            path = self.folder / f"{next(self.numbers)}-{file}"
            path.write_text(manifest.data(volume["configMap"]["name"])[file])
            path.chmod(volume["configMap"]["defaultMode"])
        return {
            "container_path": said["mountPath"],
            "host_path": str(path),
            "readonly": said.get("readOnly", False),
        }


def _environment(manifest: Manifest, said: dict[str, Any]) -> dict[str, str]:
    """The variables of a container; what an optional ConfigMap would say is not set."""
    found: dict[str, str] = {}
    for one in said.pop("envFrom"):
        found |= manifest.data(one["configMapRef"]["name"])
    for one in said.pop("env", ()):
        if "valueFrom" in one:
            assert one["valueFrom"]["configMapKeyRef"]["optional"]
        else:
            found[one["name"]] = one["value"]
    return found


def _security(manifest: Manifest, said: dict[str, Any]) -> dict[str, Any]:
    """Make a LinuxContainerSecurityContext of the pod's and the container's own."""
    both = manifest.pod["securityContext"] | said.pop("securityContext")
    capabilities = both.pop("capabilities")
    context: dict[str, Any] = {
        "capabilities": {
            "drop_capabilities": capabilities["drop"],
            "add_capabilities": capabilities.get("add", []),
        },
        "privileged": both.pop("privileged"),
        "namespace_options": {"network": MESSAGES.NODE, "pid": MESSAGES.CONTAINER},
        "run_as_user": {"value": both.pop("runAsUser")},
        "run_as_group": {"value": both.pop("runAsGroup")},
        "readonly_rootfs": both.pop("readOnlyRootFilesystem"),
        "masked_paths": MASKED,
        "readonly_paths": READ_ONLY,
        "no_new_privs": not both.pop("allowPrivilegeEscalation", True),
    }
    for key, field_ in (("seccompProfile", "seccomp"), ("appArmorProfile", "apparmor")):
        if key in both:
            context[field_] = {"profile_type": PROFILES[both.pop(key)["type"]]}
    assert not both, both
    return context
