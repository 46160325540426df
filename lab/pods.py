"""Pods: network namespaces that a conflist's chain is run for, as a runtime would."""

from __future__ import annotations

import secrets
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any, Protocol

from attrs import evolve, frozen

from eniplug.lab import netns
from eniplug.lab.errors import LabError
from eniplug.lab.names import Names
from eniplug.lab.node import Node

AT_ONCE = 30
"""Pods that are added or removed side by side, as a busy kubelet does."""

NO_BURST_LIMIT = 2**32 - 1
"""What containerd asks for as burst wherever a rate is given."""


ANNOTATIONS = "io.kubernetes.cri.pod-annotations"
"""The capability under which containerd passes a pod's annotations."""


@frozen(kw_only=True)
class Pod:
    """One pod: what the chain is run with, and at last the CNI result it gave."""

    name: str
    node: int
    namespace: str
    id: str
    args: Mapping[str, str]
    runtime: Mapping[str, Any]
    result: Mapping[str, Any] | None = None

    @property
    def addresses(self) -> list[str]:
        """The pod's own addresses, as the result lists them."""
        ips = self.result["ips"] if self.result else ()
        return [ip["address"].partition("/")[0] for ip in ips]


class Chain(Protocol):
    """A conflist's chain; called in a thread that is inside the pod's node."""

    def add(self, pod: Pod) -> dict[str, Any]:
        """Run ADD and return the result; raises ChainError."""
        ...

    def delete(self, pod: Pod) -> None:
        """Run DEL; raises ChainError."""
        ...


class ChainError(Exception):
    """A plugin's CNI error: ``{"code", "msg", "details"}``."""

    def __init__(self, error: Mapping[str, Any]) -> None:
        super().__init__(error["msg"])
        self.error = dict(error)


class Pods:
    """The pods of a lab, by name."""

    def __init__(self, names: Names, find: Callable[[int], Node], chain: Chain) -> None:
        self._names = names
        self._find = find
        self._chain = chain
        self._pods: dict[str, Pod] = {}
        self._lock = threading.Lock()

    def get(self, name: str) -> Pod:
        """Return a pod; raises LabError when there is none of that name."""
        pod = self._pods.get(name)
        if pod is None:
            msg = f"there is no pod {name!r}"
            have = ", ".join(sorted(self._pods)) or "none: `eniplug lab pod add NAME`"
            raise LabError(msg, f"pods that run: {have}")
        return pod

    def listed(self) -> list[dict[str, Any]]:
        """Return the pods that run, as JSON takes them."""
        return [
            {
                "name": pod.name,
                "node": pod.node,
                "addresses": pod.addresses,
                "id": pod.id,
                "namespace": pod.namespace,
                "result": pod.result,
            }
            for pod in list(self._pods.values())
            if pod.result is not None
        ]

    # -- ADD ---------------------------------------------------------------------------

    def add(
        self,
        pods: Iterable[str],
        node: int = 1,
        bandwidth: tuple[int, int] | None = None,
        ports: Sequence[Mapping[str, Any]] = (),
        annotations: Mapping[str, str] | None = None,
    ) -> list[dict[str, Any]]:
        """Add pods to a node, side by side.

        ``bandwidth`` is in bits per second, to and from the pod; 0 is no limit.
        ``ports`` are runtimeConfig's portMappings, ``annotations`` the pods'.
        Returns, for each, ``{"name", "node", "seconds"}`` with ``result``, the CNI
        result, or ``error``, the CNI error.
        """
        where = self._find(node)
        runtime: dict[str, Any] = {}
        if bandwidth:
            runtime["bandwidth"] = _shape(*bandwidth)
        if ports:
            runtime["portMappings"] = ports
        if annotations:
            runtime[ANNOTATIONS] = dict(annotations)
        born = [self._conceive(name, node, runtime) for name in pods]
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(lambda pod: self._add(pod, where), born))

    def _conceive(self, name: str, node: int, runtime: Mapping[str, Any]) -> Pod:
        id_ = secrets.token_hex(32)
        args = {
            "IgnoreUnknown": "1",
            "K8S_POD_NAMESPACE": "default",
            "K8S_POD_NAME": name,
            "K8S_POD_INFRA_CONTAINER_ID": id_,
            "K8S_POD_UID": str(uuid.uuid4()),
        }
        return Pod(
            name=name,
            node=node,
            namespace=self._names.pod(name),
            id=id_,
            args=args,
            runtime=runtime,
        )

    def _add(self, pod: Pod, node: Node) -> dict[str, Any]:
        began = time.monotonic()
        answer: dict[str, Any] = {"name": pod.name, "node": pod.node}
        if not self._reserve(pod):
            return answer | {"error": {"code": 0, "msg": "there is a pod of that name"}}
        try:
            netns.create(pod.namespace)
            result = node.inside.call(self._chain.add, pod)
        except BaseException as error:
            self._forget(pod)
            if not isinstance(error, ChainError):
                raise
            return answer | {"error": error.error}
        self._pods[pod.name] = evolve(pod, result=result)
        took = time.monotonic() - began
        return answer | {"result": result, "seconds": took}

    def _reserve(self, pod: Pod) -> bool:
        with self._lock:
            return self._pods.setdefault(pod.name, pod) is pod

    def _forget(self, pod: Pod) -> None:
        netns.remove(pod.namespace)
        self._pods.pop(pod.name, None)

    # -- DEL ---------------------------------------------------------------------------

    def remove(self, pods: Iterable[str]) -> list[dict[str, Any]]:
        """Remove pods side by side; one whose DEL fails stays, to be tried again.

        Returns ``{"name"}`` for each, with ``error``, the CNI error, if it has one.
        """
        known = [self.get(name) for name in dict.fromkeys(pods)]
        unfinished = [pod.name for pod in known if pod.result is None]
        if unfinished:
            msg = f"still being added: {', '.join(unfinished)}"
            raise LabError(msg, "try again when `eniplug lab pod add` has returned")
        with ThreadPoolExecutor(AT_ONCE) as threads:
            return list(threads.map(self._remove, known))

    def _remove(self, pod: Pod) -> dict[str, Any]:
        try:
            self._find(pod.node).inside.call(self._chain.delete, pod)
        except ChainError as error:
            return {"name": pod.name, "error": error.error}
        self._forget(pod)
        return {"name": pod.name}


def _shape(into: int, out: int) -> dict[str, int]:
    """Return runtimeConfig's bandwidth as containerd sends it, with Go's capitals."""
    return {
        "IngressRate": into,
        "IngressBurst": NO_BURST_LIMIT if into else 0,
        "EgressRate": out,
        "EgressBurst": NO_BURST_LIMIT if out else 0,
    }
