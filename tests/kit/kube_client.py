"""Asks a Kubernetes API server, and hears its warnings: other clients only log them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from functools import partial
from http import HTTPStatus
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import urlencode

import urllib3
from attrs import frozen

from kit.waiting import until

JSON: Final = "application/json"
APPLY: Final = "application/apply-patch+yaml"
MERGE: Final = "application/merge-patch+json"

UNSCHEDULABLE: Final = "node.kubernetes.io/unschedulable"
KUBE_SYSTEM: Final = "/api/v1/namespaces/kube-system"

Object = dict[str, Any]


@frozen
class Answer:
    """``body`` is an object, or a Status with a message; text where it is no JSON."""

    status: int
    body: Any
    warnings: tuple[str, ...]

    @property
    def taken(self) -> bool:
        """Whether the request was granted."""
        return self.status < HTTPStatus.BAD_REQUEST

    @property
    def message(self) -> str:
        """Why it was not granted."""
        return "" if self.taken else str(self.body["message"])


class KubeClient:
    """One user's requests; ``token`` says whose, ``authority`` is a file."""

    def __init__(self, url: str, authority: Path, token: str) -> None:
        self._url = url
        self._authority = authority
        self._http = urllib3.PoolManager(
            ca_certs=str(authority),
            headers={"Authorization": f"Bearer {token}"},
            retries=False,
        )

    def __enter__(self) -> Self:
        """Do nothing: connections are made as they are needed."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Hang up."""
        self._http.clear()

    def ask(
        self, method: str, path: str, body: Object | None = None, kind: str = JSON
    ) -> Answer:
        """Make one request; ``kind`` is the body's content type."""
        answer = self._http.request(
            method,
            self._url + path,
            body=None if body is None else json.dumps(body),
            headers={**self._http.headers, "Content-Type": kind},
        )
        text = answer.data.decode()
        told = answer.headers.getlist("Warning")
        is_json = answer.headers.get("Content-Type", "").startswith(JSON)
        return Answer(
            status=answer.status,
            body=json.loads(text) if is_json else text,
            # RFC 9111: code, agent and a quoted text.
            warnings=tuple(re.sub(r'^\d+ \S+ "(.*)"$', r"\1", one) for one in told),
        )

    def get(self, path: str) -> Object:
        """Return what is at a path, which is there."""
        answer = self.ask("GET", path)
        assert answer.taken, answer
        return dict(answer.body)

    def patch(self, path: str, change: Mapping[str, Any]) -> Object:
        """Change what is at a path (merge patch)."""
        answer = self.ask("PATCH", path, dict(change), MERGE)
        assert answer.taken, answer
        return dict(answer.body)

    def create(self, path: str, one: Object) -> Object:
        """Put an object into a collection."""
        answer = self.ask("POST", path, one)
        assert answer.taken, answer
        return dict(answer.body)

    def apply(self, one: Object, *, dry_run: bool = False, by: str = "tests") -> Answer:
        """Apply an object on the server, which knows every field of it.

        A dry run is everything but the storing: validation, admission, defaults.
        """
        query = {"fieldManager": by, "fieldValidation": "Strict", "force": "true"}
        if dry_run:
            query["dryRun"] = "All"
        path = f"{self.path(one)}?{urlencode(query)}"
        return self.ask("PATCH", path, one, APPLY)

    def apply_all(self, objects: Iterable[Object]) -> None:
        """Apply objects in their order, as `kubectl apply` does; all are taken."""
        for one in objects:
            answer = self.apply(one)
            assert answer.taken, answer
            if one["kind"] == "CustomResourceDefinition":
                self._wait_for(one["spec"])

    def path(self, one: Object) -> str:
        """Where an object is, or would be; KeyError if its kind is not known."""
        version, name = str(one["apiVersion"]), one["metadata"]["name"]
        root = f"/apis/{version}" if "/" in version else f"/api/{version}"
        kinds = self.ask("GET", root)
        found = {
            each["kind"]: each
            for each in (kinds.body["resources"] if kinds.taken else ())
            if "/" not in each["name"]
        }
        resource = found[one["kind"]]
        space = one["metadata"].get("namespace", "default")
        within = f"/namespaces/{space}" if resource["namespaced"] else ""
        return f"{root}{within}/{resource['name']}/{name}"

    def events(self, namespace: str, pod: str) -> list[Object]:
        """What `kubectl get events` shows of a pod, the oldest first."""
        of = f"fieldSelector=involvedObject.kind=Pod,involvedObject.name={pod}"
        found = self.get(f"/api/v1/namespaces/{namespace}/events?{of}")["items"]
        return sorted(found, key=lambda one: str(one["metadata"]["name"]))

    def cordon(self, node: str, *, on: bool = True) -> None:
        """Do as `kubectl cordon` does, and wait for the control plane's taint."""
        path = f"/api/v1/nodes/{node}"

        def tainted() -> bool:
            taints = self.get(path)["spec"].get("taints", ())
            return any(one["key"] == UNSCHEDULABLE for one in taints)

        self.patch(path, {"spec": {"unschedulable": on}})
        until(lambda: tainted() is on)

    def token(self, account: str, pod: Object | None = None) -> str:
        """Ask for a token of an account of kube-system, as kubelet does for a pod.

        It is good for an hour, and no longer than the pod that it is bound to.
        """
        spec: Object = {"expirationSeconds": 3600}
        if pod is not None:
            name, uid = pod["metadata"]["name"], pod["metadata"]["uid"]
            reference = {"apiVersion": "v1", "kind": "Pod", "name": name, "uid": uid}
            spec["boundObjectRef"] = reference
        path = f"{KUBE_SYSTEM}/serviceaccounts/{account}/token"
        return str(self.create(path, {"spec": spec})["status"]["token"])

    def _wait_for(self, definition: Object) -> None:
        """Wait until a CRD's objects can be asked for."""
        names, group = definition["names"], definition["group"]
        for version in definition["versions"]:
            path = f"/apis/{group}/{version['name']}/{names['plural']}"
            until(partial(self._served, path))

    def _served(self, path: str) -> bool:
        return self.ask("GET", path).taken

    def kubeconfig(self, **user: str) -> str:
        """Write how to get here as a kubeconfig, which is YAML and may be JSON.

        ``user`` is ``token`` or ``tokenFile``.
        """
        cluster = {"server": self._url, "certificate-authority": str(self._authority)}
        return json.dumps(
            {
                "apiVersion": "v1",
                "kind": "Config",
                "current-context": "here",
                "clusters": [{"name": "c", "cluster": cluster}],
                "users": [{"name": "u", "user": user}],
                "contexts": [
                    {"name": "here", "context": {"cluster": "c", "user": "u"}}
                ],
            }
        )
