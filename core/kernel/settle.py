"""The node's own objects: what is wanted, and what was, made into the difference.

First everything that is missing is made, by rank; then the nftables tables change, all
in one transaction; then what is no longer wanted goes, in reverse order.  So a rule or
route that replaces another is there before the other leaves.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from errno import ENODEV
from typing import Final

from eniplug.core.kernel import encode, encode_links, nft
from eniplug.core.kernel.changes import (
    Changes,
    refusal,
    removal,
    restore,
    slot,
)
from eniplug.core.kernel.compare import Difference, differences, text_of
from eniplug.core.kernel.namespace import Namespace
from eniplug.core.kernel.netlink import Message, NetlinkError
from eniplug.hooks import (
    PROTOCOL,
    Ifb,
    LinkState,
    NftElement,
    NftTable,
    Object,
    Sysctl,
    Veth,
)
from eniplug.hooks.errors import ForeignObjectError, KernelError
from eniplug.hooks.objects import Key

THERE: Final = "there"
"""The earlier value of an object that has none: that it was there."""


def settle(
    host: Namespace,
    had: Collection[Object],
    wanted: Sequence[Object],
    earlier: Mapping[Key, str],
    *,
    program: nft.Program,
    elements: Sequence[NftElement] = (),
    alias: str = "",
    anew: Collection[NftTable] = (),
) -> None:
    """Carry the difference out.  Raises KernelError; can be run again after it."""
    keys = {one.key for one in wanted}
    gone = [
        one
        for one in sorted(had, key=_rank, reverse=True)
        if one.key not in keys and not was_there(one, earlier)
    ]
    lacking = sorted(differences(host, wanted), key=lambda d: d.object.rank)
    seen = tuple(_tables(lacking, {one.key for one in had}))
    tables = (*seen, *(one for one in anew if one not in seen))
    within = tuple(_within(tables, (*wanted, *elements)))
    Changes().make(
        host,
        [
            d.object
            for d in lacking
            if not isinstance(d.object, Veth | Ifb | NftTable)
            and d.object not in within
        ],
        first=[
            (d.object, message, None)
            for d in lacking
            if isinstance(d.object, Veth | Ifb)
            for message in _repair(host, d.object, alias)
        ],
        ours={slot(one) for one in had},
    )
    nft.change(program, tables, tuple(_tables_gone(host, gone)), within)
    wrong = host.send_removals(m for one in gone for m in removal(host, one))
    wrong += [words for one in gone for words in _restore(host, one, earlier)]
    if wrong:
        raise KernelError("; ".join(wrong))


def was_there(one: Object, earlier: Mapping[Key, str]) -> bool:
    """Whether an object was there before us: used, and not ours to delete."""
    return encode.in_dumps(one) and earlier.get(one.key) == THERE


def found_there(host: Namespace, objects: Sequence[Object]) -> Iterator[Object]:
    """Name what is there already and does not say by its protocol that it is ours."""
    some = [
        one
        for one in objects
        if encode.in_dumps(one) and getattr(one, "protocol", None) != PROTOCOL
    ]
    lacking = {difference.object for difference in differences(host, some)}
    return (one for one in some if one not in lacking)


def _rank(one: Object) -> int:
    return one.rank


def _tables(lacking: Sequence[Difference], had: Collection[Key]) -> Iterator[NftTable]:
    for difference in lacking:
        table = difference.object
        if not isinstance(table, NftTable):
            continue
        if difference.found == nft.State.FOREIGN.value and table.key not in had:
            msg = f"nftables table {table.family} {table.name} is {difference.found}"
            raise ForeignObjectError(msg)
        yield table


def _within(
    tables: Collection[NftTable], objects: Iterable[Object]
) -> Iterator[NftElement]:
    """Name the elements of tables that are made anew: they would be lost."""
    names = {(table.family, table.name) for table in tables}
    for one in objects:
        if isinstance(one, NftElement) and (one.family, one.table) in names:
            yield one


def _tables_gone(host: Namespace, gone: Sequence[Object]) -> Iterator[NftTable]:
    for one in gone:
        if isinstance(one, NftTable):
            state = nft.state(host.connect, one)
            if state in {nft.State.WANTED, nft.State.OURS}:
                yield one


def _repair(host: Namespace, one: Veth | Ifb, alias: str) -> tuple[Message, Message]:
    """Bring a link back to what it was made as; an ifb that is gone is made again."""
    link = host.link(one.name)
    if link is None and isinstance(one, Ifb):
        return _made_again(host, one, alias)
    if link is None or link.mac != one.mac:
        msg = f"host link {one.name} is gone: its pod must be made again"
        raise KernelError(msg)
    return (
        encode_links.set_link(link.index, "mtu", one.mtu),
        encode_links.set_link(link.index, "up", 1),
    )


def _made_again(host: Namespace, ifb: Ifb, alias: str) -> tuple[Message, Message]:
    for error in host.send((encode_links.create_ifb(ifb),)).values():
        raise refusal(ifb, error)
    link = host.look(ifb.name)
    if link is None:
        raise refusal(ifb, NetlinkError(ENODEV))
    host.born(ifb.name, link.index)
    return encode_links.raise_link(link.index, {}, alias=alias)


def _restore(host: Namespace, one: Object, earlier: Mapping[Key, str]) -> list[str]:
    before = earlier.get(one.key)
    if before is None:
        return []
    if isinstance(one, Sysctl):
        return restore(host, one, before)
    if isinstance(one, LinkState) and host.value(one) == text_of(one):
        return host.send_removals(removal(host, one, before))
    return []
