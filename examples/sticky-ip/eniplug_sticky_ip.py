"""sticky-ip: a pod that comes back to its node gets the address that it had.

It stands before the address plugin.  A pod is told by its namespace and name, as those
of a StatefulSet keep theirs.
"""

from __future__ import annotations

from attrs import field, frozen, validators

from eniplug.hooks import Allocation, Keep, Pod, Pool, hookimpl


@frozen(eq=False, kw_only=True)
class StickyIp:
    """Keeps a pod's address for the pod of the same namespace and name."""

    seconds: int = field(default=3600, validator=validators.ge(1))
    """How long the address of a pod that went is kept for its successor."""

    namespace: str = ""
    """The namespace whose pods keep their addresses; empty: every one."""

    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation | None:
        """Give the pod the address that is kept for it, or a new one."""
        if not self._heeds(pod):
            return None
        return Allocation.of(pod, pool.take(kept=_key(pod)))

    @hookimpl
    def release_ip(self, pod: Pod) -> Keep | None:
        """Keep the address of a pod that went."""
        if not self._heeds(pod):
            return None
        return Keep(key=_key(pod), seconds=float(self.seconds))

    def _heeds(self, pod: Pod) -> bool:
        known = bool(pod.namespace and pod.name)
        return known and self.namespace in {"", pod.namespace}


def _key(pod: Pod) -> str:
    return f"sticky-ip/{pod.namespace}/{pod.name}/{pod.ifname}"
