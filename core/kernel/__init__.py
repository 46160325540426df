"""Objects to netlink and back: everything that changes the kernel's network state.

A declaration is applied in a few batches (the node's links, the pod's side, the rest
of the node's), undone when one of them is refused, compared at CHECK and taken away at
DEL.  No process is started and no descriptor of a pod's namespace is kept.
"""

from __future__ import annotations

import random
from collections.abc import (
    Callable,
    Collection,
    Iterable,
    Iterator,
    Mapping,
    Sequence,
)
from contextlib import nullcontext, suppress
from functools import cached_property
from itertools import count
from operator import attrgetter
from pathlib import Path
from typing import Final
from weakref import finalize

from eniplug.core.crew import aside
from eniplug.core.kernel import flows, graves, uapi
from eniplug.core.kernel.changes import Changes, removal, vanishes
from eniplug.core.kernel.compare import Difference, differences
from eniplug.core.kernel.decode import LinkInfo
from eniplug.core.kernel.elements import Elements
from eniplug.core.kernel.home import Home
from eniplug.core.kernel.lock import FairLock
from eniplug.core.kernel.namespace import Namespace
from eniplug.core.kernel.netlink import Message, Socket
from eniplug.core.kernel.nft import Program
from eniplug.core.kernel.pairs import Pairs
from eniplug.core.kernel.settle import THERE, found_there, settle
from eniplug.core.kernel.usable import await_usable
from eniplug.core.kernel.watch import OWN_LINKS
from eniplug.hooks import (
    HOST,
    POD,
    Claim,
    ElasticIp,
    Ifb,
    LinkState,
    NftElement,
    NftTable,
    Object,
    StaleFlows,
    Sysctl,
    Veth,
)
from eniplug.hooks.errors import KernelError, NetnsError
from eniplug.hooks.objects import Key

__all__ = ["Difference", "FairLock", "Kernel", "LinkInfo"]

_LINKS: Final = (Veth, Ifb)
_NOT_MADE: Final = (Claim, ElasticIp, StaleFlows)
_RANK: Final = attrgetter("rank")


class Kernel:
    """The network of the namespace that the first thread to call is in, and of pods.

    ``lock`` is held by the caller around `apply`, `settle` and `remove`: the kernel
    lets one through at a time anyway, and in order of arrival nobody starves.  What
    only reads may be called at any time.

    ``proc_sys`` is where sysctls are written: in a container /proc/sys is read-only,
    and the host's is mounted elsewhere.  ``nft`` is the program of that name.
    ``numbers`` are for new links, one for both ends of a pair, so that none needs to be
    looked up; by default far above those that the kernel gives.
    """

    def __init__(
        self,
        *,
        proc_sys: Path = Path("/proc/sys"),
        nft: str = "nft",
        connect: Callable[[int], Socket] = Socket,
        numbers: Iterator[int] | None = None,
    ) -> None:
        self.lock = FairLock()
        self._proc_sys = proc_sys
        self.nft = Program(nft)
        self._connect = connect
        self._elements = Elements(connect)
        self._graves = graves.Graves()
        self._numbers = numbers or count(random.randrange(OWN_LINKS, 1 << 30))
        self._spare: list[Socket] = []
        finalize(self, _close_all, self._spare)
        self._ipv6 = Path("/proc/self/net/if_inet6").exists()

    @cached_property
    def _home(self) -> Home:
        return Home()

    def _host(self) -> Namespace:
        return Namespace(
            HOST,
            self._connect,
            self._proc_sys,
            elements=self._elements,
            spare=self._spare,
        )

    def _pod(self, netns: int | None) -> Namespace:
        if netns is None:
            msg = "the pod's network namespace is needed, and none was given"
            raise NetnsError(msg)
        try:
            return Namespace(
                POD, self._connect, self._proc_sys, netns=netns, home=self._home
            )
        except OSError as error:
            msg = f"the pod's network namespace: {error.strerror}"
            raise KernelError(msg) from error

    # -- one attachment ----------------------------------------------------------------

    def apply(
        self, objects: Sequence[Object], netns: int | None, alias: str = ""
    ) -> tuple[Object, ...]:
        """Make one attachment's objects: all or nothing.

        ``netns`` is the descriptor of the pod's namespace; ``alias`` marks its host
        links as ours (255 characters at most).

        Returns the objects that were there already with equal value: used, not owned.
        Raises KernelError that names the object, its key and the kernel's own words,
        ForeignObjectError when somebody else's object is in its place, and
        InterfaceTakenError when the pod has an interface of that name.
        """
        objects = [
            one for one in sorted(objects, key=_RANK) if not isinstance(one, _NOT_MADE)
        ]
        for one in objects:
            if isinstance(one, NftTable):
                msg = f"nftables table {one.name} is the node's, not one attachment's"
                raise KernelError(msg)
        pairs = Pairs(objects)
        changes = Changes()
        with (
            self._host() as host,
            self._pod(netns) if pairs.in_pod else nullcontext() as pod,
        ):
            try:
                changes.done += pairs.make(host, pod, netns, self._numbers)
                if pod is not None:
                    changes.make(pod, pairs.down[POD])
                    raise_pod = pairs.raised(pod, "", ipv6=self._ipv6)
                    changes.make(pod, pairs.rest[POD], first=raise_pod)
                # The end that is raised last can send at once; the other one only
                # when the kernel has got round to its carrier (linkwatch).
                changes.make(host, pairs.down[HOST])
                raise_host = pairs.raised(host, alias, ipv6=self._ipv6)
                changes.make(host, pairs.rest[HOST], first=raise_host)
                if pod is not None:
                    await_usable(pod, objects)
            except BaseException as error:
                for words in changes.undo():
                    error.add_note(f"not undone: {words}")
                raise
        return tuple(changes.found)

    def remove(self, objects: Sequence[Object], netns: int | None) -> tuple[str, ...]:
        """Take one attachment's objects out of service, at once.

        Its host links go down, and wait in a dead group for `reap`, or are renamed when
        their name is wanted; what stands on them goes with them; all else is deleted.
        Absence is success, and a link of that name that has another MAC address is not
        ours.
        Without ``netns`` (the namespace is gone) the pod's side is left alone.
        LinkStates and Sysctls stay as they are: they go with the link or namespace.

        Returns what is really wrong, in words.
        """
        objects = sorted(objects, key=_RANK)[::-1]
        links = [one for one in objects if isinstance(one, _LINKS)]
        names = {one.name for one in links}
        peers = {one.peer for one in links if isinstance(one, Veth)}
        wrong: list[str] = []
        in_pod = [
            one for one in objects if one.side is POD and not vanishes(one, peers)
        ]
        if netns is not None and in_pod:
            try:
                with self._pod(netns) as pod:
                    wrong += pod.send_removals(
                        message for one in in_pod for message in removal(pod, one)
                    )
            except KernelError as error:
                wrong.append(error.message)
        with self._host() as host:
            messages: list[Message] = []
            for one in objects:
                if one.side is HOST and not vanishes(one, names):
                    messages += removal(host, one)
            for link in links:
                found = host.look(link.name)
                if found is not None and found.mac == link.mac:
                    messages.append(self._graves.bury(found.index))
            wrong += host.send_removals(messages)
        return tuple(wrong)

    def forget(self, objects: Iterable[Object]) -> None:
        """Delete the flows among some objects from conntrack.

        Needs no lock: for each the kernel walks its whole table, 9 ms for one of 262144
        rows.  It is no error where it cannot: flows end by themselves, if later.
        """
        stale = [one for one in objects if isinstance(one, StaleFlows)]
        if stale:
            with (
                aside(),
                suppress(OSError),
                self._connect(uapi.NETLINK_NETFILTER) as socket,
            ):
                for one in stale:
                    flows.forget(socket, one)

    def check(
        self, objects: Sequence[Object], netns: int | None
    ) -> tuple[Difference, ...]:
        """Compare objects with the kernel; without ``netns`` the host's side only.

        Returns a `Difference` for each object that is missing or different, in the
        order of the objects.  Raises KernelError when the kernel cannot be read.
        """
        found: dict[Object, Difference] = {}
        with self._host() as host:
            on_host = [one for one in objects if one.side is HOST]
            for difference in differences(host, on_host):
                found.setdefault(difference.object, difference)
        in_pod = [one for one in objects if one.side is POD or isinstance(one, Veth)]
        if netns is not None and in_pod:
            with self._pod(netns) as pod:
                for difference in differences(pod, in_pod):
                    found.setdefault(difference.object, difference)
        return tuple(found[one] for one in objects if one in found)

    # -- the node ----------------------------------------------------------------------

    def earlier(self, objects: Iterable[Object]) -> dict[Key, str]:
        """Return what the host has in the place of objects, before they are made.

        Of LinkStates and Sysctls it is their present value; what has none (no such link
        or file) is left out.  Other objects that are there already are `THERE`.
        """
        objects = tuple(objects)
        values: dict[Key, str] = {}
        with self._host() as host:
            for one in objects:
                if isinstance(one, LinkState | Sysctl) and one.side is HOST:
                    value = host.value(one)
                    if value is not None:
                        values[one.key] = value
            values |= {one.key: THERE for one in found_there(host, objects)}
        return values

    def settle(
        self,
        had: Collection[Object],
        wanted: Sequence[Object],
        earlier: Mapping[Key, str],
        *,
        elements: Sequence[NftElement] = (),
        alias: str = "",
        anew: Collection[NftTable] = (),
    ) -> None:
        """Make the host's objects as ``wanted``; see `eniplug.core.kernel.settle`.

        ``had`` are ours: they are replaced in place or deleted.  What is wanted and
        missing in the kernel is put back.  A LinkState or Sysctl that is no longer
        wanted gets the value of ``earlier`` if the present one is still ours; what was
        there before (`THERE`) stays.  ``alias`` marks an ifb that is made again.  The
        tables ``anew`` of those that are wanted are set whatever they look like.

        ``elements`` are pods': a table that is made anew has its own of them at once.

        Not all or nothing, but it can be run again after an error.  Raises KernelError
        or ForeignObjectError.
        """
        for one in wanted:
            if one.side is not HOST:
                msg = f"a pod's object is not the node's: {one}"
                raise KernelError(msg)
        with self._host() as host:
            settle(
                host,
                had,
                wanted,
                earlier,
                program=self.nft,
                elements=elements,
                alias=alias,
                anew=anew,
            )

    def links(self) -> Mapping[str, LinkInfo]:
        """Return the host's links by name."""
        with self._host() as host:
            return {link.name: link for link in host.links()}

    def reap(self) -> bool:
        """Delete the links that `remove` buried; returns whether there were any.

        Needs no lock.
        """
        with self._host() as host:
            return graves.reap(host)


def _close_all(sockets: list[Socket]) -> None:
    for one in sockets:
        one.close()
