"""Objects made in the kernel, with what it takes to undo them.

A netlink batch is not a transaction: what was not refused was done.  So what was done
is known by position, and undone in the exact reverse.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Sequence
from errno import ECANCELED, EEXIST, ENOENT, EROFS
from itertools import groupby
from operator import itemgetter
from typing import Final, TypeAlias

from attrs import evolve

from eniplug.core.kernel import decode, elements, encode, encode_links, qdisc
from eniplug.core.kernel.compare import find, text_of
from eniplug.core.kernel.namespace import Namespace
from eniplug.core.kernel.netlink import Message, NetlinkError
from eniplug.hooks import (
    Ifb,
    LinkState,
    Neighbor,
    NftElement,
    Object,
    Qdisc,
    Redirect,
    Route,
    Sysctl,
    Veth,
)
from eniplug.hooks.errors import ForeignObjectError, KernelError
from eniplug.hooks.objects import Key

_REPLACED: Final = (Neighbor, Qdisc, Redirect, Route)
"""What the kernel can put in the place of another in one step."""


_WITH_VALUE: Final = (LinkState, Sysctl)


Step: TypeAlias = tuple[Object, Message, str | None]
"""A change to come: an object, its message, and the earlier value of a LinkState."""

Done: TypeAlias = tuple[Namespace, Object, str | None]
"""A change: where, of which object, and its earlier value if it has one."""


def refusal(one: Object, error: OSError) -> KernelError:
    """Name the object, its key and the kernel's own words."""
    words = f"{_key(one)}: {error.strerror} (wanted: {one})"
    if error.errno == EROFS:
        return KernelError(words, "mount the host's /proc/sys/net writable")
    if error.errno == ENOENT and isinstance(one, NftElement):
        return KernelError(words, "restart the agent: it makes the table again")
    return KernelError(words)


def _key(one: Object) -> str:
    return " ".join(str(part) for part in one.key)


def slot(one: Object) -> Key:
    """What the kernel lets only one object have.

    That is the key, but for an IPv6 route, which is also refused beside one that
    differs in its next hop only.
    """
    return one.key[:6] if isinstance(one, Route) else one.key


def vanishes(one: Object, links: Collection[str]) -> bool:
    """Whether an object goes when these links of its namespace go."""
    return one.with_link and getattr(one, "link", None) in links


def removal(
    place: Namespace, one: Object, before: str | None = None
) -> tuple[Message, ...]:
    """Return the message that takes an object away, if it takes one.

    A LinkState goes back to the value ``before``.  Of qdiscs and redirects the kernel
    would delete whatever is in that place; so they are looked at first.
    """
    try:
        if isinstance(one, LinkState) and before is not None:
            return (encode.create(evolve(one, value=int(before)), place.index),)
        if isinstance(one, NftElement):
            return (elements.delete(one),)
        if isinstance(one, Qdisc | Redirect):
            wanted = decode.canonical(one)
            if find(place, (one,)).get(wanted.key) != wanted:
                return ()
        if encode.in_dumps(one):
            return (encode.delete(one, place.index),)
    except NetlinkError:
        pass  # its link is gone, and it with it
    return ()


def _innocent_last(refused: tuple[int, NetlinkError]) -> tuple[bool, int]:
    position, error = refused
    return error.errno == ECANCELED, position


class Changes:
    """What one call has changed so far."""

    def __init__(self) -> None:
        self.done: list[Done] = []
        self.found: list[Object] = []

    def make(
        self,
        place: Namespace,
        objects: Iterable[Object],
        *,
        first: Sequence[Step] = (),
        ours: Collection[Key] = frozenset(),
    ) -> None:
        """Make objects in their order, in one batch; sysctls are written before it.

        ``first`` goes ahead in the batch.  What stands in a slot of ``ours`` is
        replaced; elsewhere an equal object is found, a different one foreign.
        Raises KernelError.
        """
        steps = list(first)
        for one in objects:
            try:
                if isinstance(one, _WITH_VALUE):
                    steps += self._set(place, one)
                elif isinstance(one, NftElement):
                    steps += [(one, m, None) for m in elements.create(one)]
                elif isinstance(one, Qdisc) and _occupied(place, one, ours):
                    self._refused(place, one, NetlinkError(EEXIST))
                else:
                    replace = ours and isinstance(one, _REPLACED) and slot(one) in ours
                    flags = encode.REPLACE if replace else encode.NEW
                    message = encode.create(one, place.index, flags)
                    steps.append((one, message, None))
            except OSError as why:
                raise refusal(one, why) from why
        if not steps:
            return
        refused = place.send([message for _, message, _ in steps])
        self.done += [
            (place, one, before)
            for position, (one, _, before) in enumerate(steps)
            if position not in refused
        ]
        for position, error in sorted(refused.items(), key=_innocent_last):
            self._refused(place, steps[position][0], error)

    def _set(self, place: Namespace, one: LinkState | Sysctl) -> Iterator[Step]:
        """Write a sysctl, or return a link's setting as a step; neither if it is so."""
        before = place.value(one)
        if before == text_of(one):
            self.found.append(one)
        elif isinstance(one, LinkState):
            yield one, encode.create(one, place.index), before
        else:
            place.write(one, one.value)
            self.done.append((place, one, before))

    def _refused(self, place: Namespace, one: Object, error: NetlinkError) -> None:
        if error.errno != EEXIST or not encode.in_dumps(one):
            raise refusal(one, error)
        there = {slot(o): o for o in find(place, (one,), wide=True).values()}
        other = there.get(slot(decode.canonical(one)))
        if other == decode.canonical(one):
            self.found.append(one)
        elif other is None and isinstance(one, Neighbor):
            # A dynamic entry: the kernel's own finding, which a permanent one replaces.
            message = encode.create(one, place.index, encode.REPLACE)
            if refused := place.send((message,)):
                raise refusal(one, refused[0])
            self.done.append((place, one, None))
        else:
            what = f"{other} is there" if other else error.strerror
            msg = f"{_key(one)}: {what} (wanted: {one})"
            raise ForeignObjectError(msg)

    def undo(self) -> list[str]:
        """Take everything back; returns what is really wrong, in words."""
        wrong: list[str] = []
        for place, group in groupby(reversed(self.done), itemgetter(0)):
            messages: list[Message] = []
            for _, each, before in group:
                match each:
                    case (Veth() | Ifb()) as link if place.side is link.side:
                        messages.append(
                            encode_links.delete_link(place.index(link.name))
                        )
                    case Sysctl() as sysctl:
                        wrong += restore(place, sysctl, before)
                    case one if not vanishes(one, place.new):
                        messages += removal(place, one, before)
                    case _:
                        pass
            wrong += place.send_removals(messages)
        self.done.clear()
        return wrong


def _occupied(place: Namespace, one: Qdisc, ours: Collection[Key]) -> bool:
    """Whether somebody else's qdisc is there: the kernel refuses only one of a sort."""
    if one.link in place.new or slot(one) in ours:
        return False
    return any(map(qdisc.was_made, place.dump(encode.look(one, place.index))))


def restore(place: Namespace, sysctl: Sysctl, before: str | None) -> list[str]:
    """Write the earlier value if the present one is still ours."""
    if before is None or place.value(sysctl) != text_of(sysctl):
        return []
    try:
        place.write(sysctl, before)
    except OSError as error:
        return [f"{sysctl.path}: {error.strerror}"]
    return []
