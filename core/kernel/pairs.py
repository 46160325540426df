"""The links of one declaration, veth pairs and ifbs: made, marked and raised.

What a pair's own messages can carry goes into them: the host end's group into the one
that creates it (there is no moment in which the link is up without it), IPv4 settings
into those that raise the ends.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from errno import EBUSY, EEXIST
from typing import Final

from eniplug.core.kernel import encode_links
from eniplug.core.kernel.changes import Done, Step, refusal
from eniplug.core.kernel.graves import make_way
from eniplug.core.kernel.namespace import Namespace
from eniplug.core.kernel.netlink import Message
from eniplug.core.kernel.uapi import IPV4_DEVCONF, IPV6_MIN_MTU
from eniplug.hooks import (
    HOST,
    POD,
    Ifb,
    LinkState,
    Object,
    Qdisc,
    Redirect,
    Side,
    Veth,
)

_WHILE_DOWN: Final = (Qdisc, Redirect)
"""On a link that is up the kernel would wait for a grace period for each qdisc, and the
first packets would pass before it is there.
"""

TRIES: Final = 4
"""How often a link is made whose name or number is just being given free."""


class Pairs:
    """One declaration's links, and its other objects by when and where they are made.

    ``down`` goes on the new links before they are raised, ``rest`` is made after it;
    what the links' own messages carry is in neither.
    """

    def __init__(self, objects: Iterable[Object]) -> None:
        """Sort objects that come by rank: so the links are known before the others."""
        self.veths: list[Veth] = []
        self.links: list[Veth | Ifb] = []
        self.down: dict[Side, list[Object]] = {HOST: [], POD: []}
        self.rest: dict[Side, list[Object]] = {HOST: [], POD: []}
        self._carried: dict[tuple[Side, str], dict[str, int]] = {}
        new: set[tuple[Side, str]] = set()
        for one in objects:
            if isinstance(one, Veth):
                self.links.append(one)
                self.veths.append(one)
                for end in ((HOST, one.name), (POD, one.peer)):
                    new.add(end)
                    self._carried[end] = {}
            elif isinstance(one, Ifb):
                self.links.append(one)
                new.add((HOST, one.name))
            elif isinstance(one, LinkState) and self._carries(one):
                self._carried[one.side, one.link][one.setting] = one.value
            elif isinstance(one, _WHILE_DOWN) and (one.side, one.link) in new:
                self.down[one.side].append(one)
            else:
                self.rest[one.side].append(one)

    def _carries(self, one: LinkState) -> bool:
        """Whether a pair's own messages can set it; a group is the host's matter."""
        able = one.setting in IPV4_DEVCONF or (
            one.setting == "group" and one.side is HOST
        )
        return able and (one.side, one.link) in self._carried

    @property
    def in_pod(self) -> bool:
        """Whether any of it is in the pod."""
        return bool(self.veths or self.down[POD] or self.rest[POD])

    def make(
        self,
        host: Namespace,
        pod: Namespace | None,
        netns: int | None,
        numbers: Iterator[int],
    ) -> list[Done]:
        """Create the links, down at every end.  All or nothing.

        ``pod`` and ``netns`` are needed for pairs only.  A dead link that bears a
        wanted name is renamed.  Raises InterfaceTakenError,
        ForeignObjectError or KernelError.
        """
        indexes = self._create(host, pod, netns, numbers)
        for link, index in zip(self.links, indexes, strict=True):
            host.born(link.name, index)
            if isinstance(link, Veth) and pod is not None:
                pod.born(link.peer, index)
        return [(host, link, None) for link in self.links]

    def _create(
        self,
        host: Namespace,
        pod: Namespace | None,
        netns: int | None,
        numbers: Iterator[int],
    ) -> list[int]:
        tries = TRIES
        while True:
            indexes = [next(numbers) for _ in self.links]
            refused = host.send(
                [
                    self._message(link, index, netns)
                    for link, index in zip(self.links, indexes, strict=True)
                ]
            )
            if not refused:
                return indexes
            host.send(
                encode_links.delete_link(index)
                for position, index in enumerate(indexes)
                if position not in refused
            )
            position, error = min(refused.items())
            link = self.links[position]
            tries -= 1
            if error.errno not in {EEXIST, EBUSY} or not tries:
                raise refusal(link, error)
            make_way(host, pod, link)

    def _message(self, link: Veth | Ifb, index: int, netns: int | None) -> Message:
        if isinstance(link, Ifb):
            return encode_links.create_ifb(link, index)
        assert netns is not None
        return encode_links.create_veth(link, index, netns, self._group(link))

    def _group(self, veth: Veth) -> int:
        return self._carried[HOST, veth.name].get("group", 0)

    def raised(self, place: Namespace, alias: str, *, ipv6: bool) -> list[Step]:
        """Bring one side's ends up, with the alias and IPv4 settings.

        ``ipv6`` tells whether this kernel has it.
        """
        steps: list[Step] = []
        for link in self.links if place.side is HOST else self.veths:
            name = link.name
            if isinstance(link, Veth) and place.side is not HOST:
                name = link.peer
            carried = self._carried.get((place.side, name), {})
            settings = {k: v for k, v in carried.items() if k in IPV4_DEVCONF}
            messages = encode_links.raise_link(
                place.index(name),
                settings,
                alias=alias if place.side is HOST else "",
                no_link_local=ipv6 and link.mtu >= IPV6_MIN_MTU,
            )
            steps += [(link, message, None) for message in messages]
        return steps
