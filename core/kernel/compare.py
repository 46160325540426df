"""Objects against the kernel: what is missing, and what is otherwise."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Final

from attrs import frozen

from eniplug.core.kernel import decode, encode, nft
from eniplug.core.kernel.namespace import Namespace
from eniplug.core.kernel.netlink import Message, NetlinkError
from eniplug.hooks import (
    Claim,
    Ifb,
    LinkState,
    NftElement,
    NftTable,
    Object,
    StaleFlows,
    Sysctl,
    Veth,
)
from eniplug.hooks.objects import Key

MANY: Final = 8
"""Links of which it costs less to read all that there is than to ask for each."""


@frozen
class Difference:
    """An object that the kernel has otherwise, or (``found`` is None) not at all."""

    object: Object
    found: str | None = None


def differences(there: Namespace, objects: Iterable[Object]) -> Iterator[Difference]:
    """Name what is missing or different in one namespace.  Raises KernelError.

    Of many links everything is read at once, and not link by link.
    """
    objects = tuple(objects)
    many = len({link_of(one) for one in objects}) > MANY
    if many:
        there.learn_links()
    present = find(there, objects, wide=many)
    for one in objects:
        match one:
            case Claim() | StaleFlows():
                pass
            case Veth() | Ifb():
                yield from _link(there, one)
            case LinkState() | Sysctl():
                value = there.value(one)
                if value != text_of(one):
                    yield Difference(one, value)
            case NftTable():
                state = nft.state(there.connect, one)
                if state is not nft.State.WANTED:
                    absent = state is nft.State.ABSENT
                    yield Difference(one, None if absent else state.value)
            case NftElement():
                found = there.elements.value_of(one)
                if found != one.value:
                    yield Difference(one, found)
            case _:
                wanted = decode.canonical(one)
                other = present.get(wanted.key)
                if other != wanted:
                    yield Difference(one, None if other is None else str(other))


def link_of(one: Object) -> str | None:
    """Name the link of its own side that an object is (rank 1), or stands on."""
    named = getattr(one, "link", None)
    if named is None and one.rank == Veth.rank:
        named = getattr(one, "name", None)
    return named if isinstance(named, str) else None


def text_of(one: LinkState | Sysctl) -> str:
    """Return the wanted value as text, as `Namespace.value` gives the present one."""
    return " ".join(str(one.value).split())


def _link(there: Namespace, one: Veth | Ifb) -> Iterator[Difference]:
    name, mac = one.name, one.mac
    if isinstance(one, Veth) and there.side is not one.side:
        name, mac = one.peer, one.peer_mac
    link = there.link(name)
    if link is None:
        yield Difference(one)
    elif link.mac != mac:
        yield Difference(one, f"{name} with MAC address {link.mac}")
    elif not link.up:
        yield Difference(one, f"{name}, but down")
    elif link.mtu != one.mtu:
        yield Difference(one, f"{name} with MTU {link.mtu}")


def find(
    there: Namespace, objects: Iterable[Object], *, wide: bool = False
) -> dict[Key, Object]:
    """Read what the kernel has around some objects, with the fewest dumps.

    ``wide`` looks at the same kinds of things on other links, too.
    """
    requests: dict[Message, None] = {}
    for one in objects:
        if encode.in_dumps(one):
            try:
                requests[encode.look(one, there.index, wide=wide)] = None
            except NetlinkError:
                continue  # its link is gone, and it with it
    found: dict[Key, Object] = {}
    for request in requests:
        for body in there.dump(request):
            present = decode.one(request.type, body, there.side, there.name)
            if present is not None:
                found[present.key] = present
    return found
