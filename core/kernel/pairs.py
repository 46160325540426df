"""The veth pairs of one declaration: made, marked and raised.

What a pair's own messages can carry goes into them: the host end's group into the one
that creates it (there is no moment in which the link is up without it), IPv4 settings
into those that raise the ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from errno import EBUSY, EEXIST
from typing import Final

from eniplug.core.kernel import encode_links
from eniplug.core.kernel.changes import Done, Step, refusal
from eniplug.core.kernel.graves import make_way
from eniplug.core.kernel.namespace import Namespace
from eniplug.core.kernel.uapi import IPV4_DEVCONF, IPV6_MIN_MTU
from eniplug.hooks import HOST, LinkState, Object, Side, Veth

TRIES: Final = 4
"""How often a pair is made whose name or number is just being given free."""


class Pairs:
    """The pairs among some objects, and the settings that their messages carry."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self.veths = [one for one in objects if isinstance(one, Veth)]
        hosts = {veth.name for veth in self.veths}
        peers = {veth.peer for veth in self.veths}
        self._carried = {
            _place(one): one
            for one in objects
            if isinstance(one, LinkState)
            and one.link in (hosts if one.side is HOST else peers)
            and (
                one.setting in IPV4_DEVCONF
                or (one.setting == "group" and one.side is HOST)
            )
        }

    def rest(self, objects: Sequence[Object], side: Side) -> Iterator[Object]:
        """Return what no pair's message carries."""
        for one in objects:
            if one.side is not side or isinstance(one, Veth):
                continue
            if isinstance(one, LinkState) and _place(one) in self._carried:
                continue
            yield one

    def make(
        self, host: Namespace, pod: Namespace, netns: int, numbers: Iterator[int]
    ) -> Iterator[Done]:
        """Create the pairs, both ends down.  All or nothing.

        A dead link that bears a wanted name is renamed.  Raises InterfaceTakenError,
        ForeignObjectError or KernelError.
        """
        indexes = self._create(host, pod, netns, numbers)
        for veth, index in zip(self.veths, indexes, strict=True):
            host.born(veth.name, index)
            pod.born(veth.peer, index)
            yield Done(host, veth)

    def _create(
        self, host: Namespace, pod: Namespace, netns: int, numbers: Iterator[int]
    ) -> list[int]:
        tries = TRIES
        while True:
            indexes = [next(numbers) for _ in self.veths]
            refused = host.send(
                encode_links.create_veth(veth, index, netns, self._group(veth))
                for veth, index in zip(self.veths, indexes, strict=True)
            )
            if not refused:
                return indexes
            host.send(
                encode_links.delete_link(index)
                for position, index in enumerate(indexes)
                if position not in refused
            )
            position, error = min(refused.items())
            veth = self.veths[position]
            tries -= 1
            if error.errno not in {EEXIST, EBUSY} or not tries:
                raise refusal(veth, error)
            make_way(host, pod, veth)

    def _group(self, veth: Veth) -> int:
        state = self._carried.get((HOST, veth.name, "group"))
        return state.value if state else 0

    def raised(self, place: Namespace, alias: str, *, ipv6: bool) -> list[Step]:
        """Bring one side's ends up, with the alias and IPv4 settings.

        ``ipv6`` tells whether this kernel has it.
        """
        steps: list[Step] = []
        for veth in self.veths:
            name = veth.name if place.side is HOST else veth.peer
            settings: dict[str, int] = {
                one.setting: one.value
                for (side, link, setting), one in self._carried.items()
                if (side, link) == (place.side, name) and setting in IPV4_DEVCONF
            }
            messages = encode_links.raise_link(
                place.index(name),
                settings,
                alias=alias if place.side is HOST else "",
                no_link_local=ipv6 and veth.mtu >= IPV6_MIN_MTU,
            )
            steps += [Step(veth, message) for message in messages]
        return steps


def _place(one: LinkState) -> tuple[Side, str, str]:
    return one.side, one.link, one.setting
