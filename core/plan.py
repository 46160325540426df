"""What is declared against what is there: `eniplug plan`, the agent's side.

The same comparison as CHECK's and repair's, of everything on the host and, as the cloud
worker knows it, in EC2.  What is inside pods is not looked at: their namespaces are not
kept.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from attrs import frozen

from eniplug.core.attach import is_alive
from eniplug.core.kernel import Difference, Kernel
from eniplug.core.node import NodeScope
from eniplug.core.parts import Life, Part
from eniplug.core.state import State
from eniplug.hooks import POD, Object


@frozen
class Planner:
    """Compares, and changes nothing.  Safe to call from many threads."""

    kernel: Kernel
    state: State
    scope: NodeScope

    def told(self) -> dict[str, Any]:
        """Say what is missing or different, in what JSON can hold."""
        links = self.kernel.links()
        parts = [part for part in self.state.parts() if part.life is Life.LIVE]
        alive = [part for part in parts if is_alive(part, links)]
        declared = self.scope.declared
        pods = (one for part in alive for one in _outside(part))
        wanted = [*declared, *pods]
        lacking = {d.object: d for d in self.kernel.check(wanted, None)}
        standing = self.state.elastic_ips
        lacking |= {d.object: d for p in alive for d in standing.differences(p)}
        # What was deleted meanwhile is missing rightly.
        still = [part for part in alive if part in self.state.parts_of(part.key)]
        scopes = [
            {"scope": "node", "changes": _changes(declared, lacking)},
            *(
                _pod(part) | {"changes": _changes(_outside(part), lacking)}
                for part in still
            ),
        ]
        return {
            "pods": len(still),
            "scopes": [scope for scope in scopes if scope["changes"]],
            "dead": [_pod(part) for part in parts if part not in alive],
        }


def _outside(part: Part) -> list[Object]:
    return [one for one in part.objects if one.side is not POD]


def _pod(part: Part) -> dict[str, Any]:
    pod = part.pod
    return {
        "scope": "pod",
        "pod": f"{pod.namespace}/{pod.name}" if pod.name else "",
        "container": pod.container_id,
        "ifname": pod.ifname,
    }


def _changes(
    objects: Iterable[Object], lacking: dict[Object, Difference]
) -> list[dict[str, Any]]:
    return [
        {
            "kind": type(one).__name__,
            "wanted": str(one),
            "found": lacking[one].found,
        }
        for one in objects
        if one in lacking
    ]
