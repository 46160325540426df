"""ip-quota: a namespace has so many addresses of this node, and no more.

It stands before the address plugin, gives no address itself, and refuses the pod that
would be one too many.
"""

from __future__ import annotations

from attrs import field, frozen, validators

from eniplug.hooks import Allocation, Pod, Pool, hookimpl
from eniplug.hooks.errors import RetryError


class QuotaError(RetryError):
    """The pod's namespace has all the addresses that it may have on this node."""

    reason = "ip-quota"
    remedy = "end pods of the namespace on this node, or raise ip-quota's limit"


@frozen(eq=False, kw_only=True)
class IpQuota:
    """Limits how many pods of a namespace have addresses on a node."""

    limit: int = field(default=30, validator=validators.ge(0))
    """How many pods of the namespace may have addresses here."""

    namespace: str = ""
    """The namespace that is limited; empty: each one."""

    @hookimpl
    def allocate_ip(self, pod: Pod, pool: Pool) -> Allocation | None:
        """Refuse a pod too many; leave any other to the next plugin."""
        if not pod.namespace or self.namespace not in {"", pod.namespace}:
            return None
        held = pool.held(namespace=pod.namespace)
        if held >= self.limit:
            msg = f"namespace {pod.namespace} has {held} addresses on this node"
            raise QuotaError(f"{msg}, of {self.limit} allowed")
        return None
