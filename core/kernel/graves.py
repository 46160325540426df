"""Dead links: out of service, and waiting for the reaper in link groups of their own.

Deleting a link takes 20 ms of waiting for a grace period, deleting a group hardly
more, but keeps the kernel's network lock for 0.25 ms a link: so the groups are small
and there are many, filled in turn.  The group is the whole memory: what a killed agent
left is found by it.
"""

from __future__ import annotations

from errno import ENODEV, EOPNOTSUPP
from itertools import count
from typing import Final

from eniplug.core.kernel import encode_links
from eniplug.core.kernel.namespace import Namespace
from eniplug.core.kernel.netlink import Message
from eniplug.hooks import Ifb, Veth
from eniplug.hooks.errors import ForeignObjectError, InterfaceTakenError, KernelError

GRAVES: Final = range(0x6B7800, 0x6B7840)
"""The link groups of the dead: outside those that flat-routes gives to pods."""

IN_ONE: Final = 16
"""Links in one grave."""


class Graves:
    """Buries links; `reap` deletes what is buried."""

    def __init__(self) -> None:
        self._burials = count()

    def bury(self, index: int) -> Message:
        """Return what takes a link out of service at once."""
        grave = GRAVES[next(self._burials) // IN_ONE % len(GRAVES)]
        return encode_links.bury(index, grave)


def make_way(host: Namespace, pod: Namespace | None, wanted: Veth | Ifb) -> None:
    """Rename a dead link that still bears a wanted name, in the pod or on the host.

    Finds nobody when the kernel was just taking the link down with its namespace.
    Raises InterfaceTakenError or ForeignObjectError when a living link has the name.
    """
    if isinstance(wanted, Veth) and pod is not None:
        _make_way_inside(host, pod, wanted)
    on_host = host.look(wanted.name)
    if on_host is not None:
        if on_host.group not in GRAVES:
            owner = on_host.alias or "has no alias"
            name = wanted.name
            msg = f"host link {name} is there already ({owner}; wanted: {wanted})"
            raise ForeignObjectError(msg)
        host.send(encode_links.step_aside(on_host.index))


def _make_way_inside(host: Namespace, pod: Namespace, veth: Veth) -> None:
    in_pod = pod.look(veth.peer)
    if in_pod is not None:
        other_end = host.look(in_pod.peer) if in_pod.peer else None
        if (
            other_end is None
            or other_end.peer != in_pod.index
            or other_end.group not in GRAVES
        ):
            msg = f"the pod has an interface {veth.peer!r} already"
            raise InterfaceTakenError(msg)
        pod.send(encode_links.step_aside(in_pod.index))


def reap(host: Namespace) -> bool:
    """Delete the dead, group by group, so that others get at the kernel in between.

    Returns whether there were any.  Raises KernelError.
    """
    any_dead = False
    for grave in GRAVES:
        error = host.send((encode_links.delete_group(grave),)).get(0)
        if error is not None and error.errno == ENODEV:
            continue
        any_dead = True
        if error is not None and error.errno == EOPNOTSUPP:
            # Somebody put a link into the group that cannot be deleted.
            _reap_singly(host, grave)
        elif error is not None:
            msg = f"deleting dead links of group {grave:#x}: {error.strerror}"
            raise KernelError(msg)
    return any_dead


def _reap_singly(host: Namespace, grave: int) -> None:
    for link in host.links():
        if link.group == grave:
            host.send((encode_links.delete_link(link.index),))
