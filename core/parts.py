"""Parts: what one conflist entry added to an attachment.

A part is ``pending`` from before the first kernel message, ``live`` from before its
answer (in the store from soon after it), ``dying`` from the beginning of its end.  An
attachment is the parts that share a container id and an interface name.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import StrEnum
from typing import Any, NamedTuple

from attrs import field, frozen

from eniplug.hooks import Allocation, Ip, Object, Pod


class AttachmentKey(NamedTuple):
    """What tells attachments apart: CNI_CONTAINERID and CNI_IFNAME."""

    container_id: str
    ifname: str


class Life(StrEnum):
    """Where a part is between ADD and the end of DEL."""

    PENDING = "pending"
    LIVE = "live"
    DYING = "dying"


@frozen(kw_only=True, hash=False)
class Part:
    """One conflist entry's share in an attachment.

    ``request`` is the id of the ADD that made it, in hex.  ``leased`` tells that the
    allocation's addresses are out of our pool.  ``made`` is in seconds since the epoch.
    ``result`` is the CNI result in the form of 1.1.0, once there is one.  ``skipped``
    says of each plugin that failed, and that the pod goes without, why.
    """

    pod: Pod
    plugins: tuple[str, ...]
    allocation: Allocation
    leased: bool
    objects: tuple[Object, ...]
    request: str
    made: float
    life: Life = Life.PENDING
    result: Mapping[str, Any] | None = None
    skipped: tuple[str, ...] = ()
    id: int = field(default=0, eq=False)

    @property
    def key(self) -> AttachmentKey:
        """The attachment that this part belongs to."""
        return AttachmentKey(self.pod.container_id, self.pod.ifname)

    @property
    def addresses(self) -> tuple[Ip, ...]:
        """The addresses that it holds of our pool."""
        if not self.leased:
            return ()
        return tuple([a.ip for nic in self.allocation.nics for a in nic.addresses])

    @property
    def alias(self) -> str:
        """What its host links are marked with: all that is lost with the store."""
        pod = self.pod
        return f"eniplug/1 {pod.container_id} {pod.ifname} {pod.network} {pod.slot}"
