"""The links of one declaration, veth pairs and ifbs: made, marked and raised.

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
from eniplug.core.kernel.netlink import Message
from eniplug.core.kernel.uapi import IPV4_DEVCONF, IPV6_MIN_MTU
from eniplug.hooks import HOST, Ifb, LinkState, Object, Qdisc, Redirect, Side, Veth

TRIES: Final = 4
"""How often a link is made whose name or number is just being given free."""


class Pairs:
    """The links among some objects, and the settings that their messages carry."""

    def __init__(self, objects: Sequence[Object]) -> None:
        self.links = [one for one in objects if isinstance(one, Veth | Ifb)]
        self.veths = [one for one in self.links if isinstance(one, Veth)]
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

    def while_down(
        self, objects: Sequence[Object], place: Namespace
    ) -> Iterator[Object]:
        """Return what goes on the new links before they are raised.

        On a link that is up the kernel would wait for a grace period for each qdisc,
        and the first packets would pass before it is there.
        """
        for one in objects:
            if one.side is place.side and self._goes_on_new(one, place):
                yield one

    @staticmethod
    def _goes_on_new(one: Object, place: Namespace) -> bool:
        return isinstance(one, Qdisc | Redirect) and one.link in place.new

    def rest(self, objects: Sequence[Object], place: Namespace) -> Iterator[Object]:
        """Return what no link's message carries, and is not there yet."""
        for one in objects:
            if one.side is not place.side or isinstance(one, Veth | Ifb):
                continue
            if self._goes_on_new(one, place):
                continue
            if isinstance(one, LinkState) and _place(one) in self._carried:
                continue
            yield one

    def make(
        self,
        host: Namespace,
        pod: Namespace | None,
        netns: int | None,
        numbers: Iterator[int],
    ) -> Iterator[Done]:
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
            yield Done(host, link)

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
                self._message(link, index, netns)
                for link, index in zip(self.links, indexes, strict=True)
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
        state = self._carried.get((HOST, veth.name, "group"))
        return state.value if state else 0

    def raised(self, place: Namespace, alias: str, *, ipv6: bool) -> list[Step]:
        """Bring one side's ends up, with the alias and IPv4 settings.

        ``ipv6`` tells whether this kernel has it.
        """
        steps: list[Step] = []
        for link in self.links if place.side is HOST else self.veths:
            name = link.name
            if isinstance(link, Veth) and place.side is not HOST:
                name = link.peer
            settings: dict[str, int] = {
                one.setting: one.value
                for (side, link, setting), one in self._carried.items()
                if (side, link) == (place.side, name) and setting in IPV4_DEVCONF
            }
            messages = encode_links.raise_link(
                place.index(name),
                settings,
                alias=alias if place.side is HOST else "",
                no_link_local=ipv6 and link.mtu >= IPV6_MIN_MTU,
            )
            steps += [Step(link, message) for message in messages]
        return steps


def _place(one: LinkState) -> tuple[Side, str, str]:
    return one.side, one.link, one.setting
