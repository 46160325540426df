"""What is wrong with a conflist, all of it, before an agent is started with it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from difflib import get_close_matches
from typing import Any, Final

from attrs import frozen

from eniplug.cni.conflist import Conflist, entry_config
from eniplug.cni.errors import CniError
from eniplug.cni.protocol import parse_config
from eniplug.core.chains import Chains, own_chains
from eniplug.core.entries import OURS, Entry, plugins_of
from eniplug.core.manager import Catalogue, Wanted, wanted
from eniplug.core.modes import check_modes
from eniplug.core.settings import Settings
from eniplug.hooks.errors import EniplugError

FIELDS: Final = ("type", "plugins", "mtu", "vethPrefix", "capabilities")
"""What an entry of type eniplug may say beside what runtimes put there."""


@frozen
class Problem:
    """One thing that is wrong: where and what, and what to do about it."""

    message: str
    remedy: str


def problems(
    conflist: Conflist, catalogue: Catalogue, settings: Settings, source: str
) -> tuple[Problem, ...]:
    """Look at each entry and plugin by itself, and then at the whole."""
    found: list[Problem] = []
    entries: list[Entry] = []
    for i, raw in enumerate(conflist.plugins):
        if raw["type"] not in OURS:
            continue
        place = f"{source}: plugins[{i}]"
        found += _misspelt(raw, place)
        try:
            conf = parse_config(entry_config(conflist, i))
            plugins = tuple(plugins_of(conf, settings))
        except CniError as error:
            found.append(Problem(f"{place}.{error.message}", error.details))
            continue
        except EniplugError as error:
            found.append(Problem(error.message, error.details))
            continue
        entry = Entry(type=conf.type, plugins=plugins, place=f"{place}.plugins")
        entries.append(entry)
        found += _wrong_plugins(entry, catalogue)
    return tuple(found or _whole(entries, catalogue, settings, source))


def _misspelt(raw: Any, place: str) -> Iterator[Problem]:
    """A field that is nearly one of ours would be passed over in silence."""
    known = {name.lower(): name for name in FIELDS}
    for key in raw if raw["type"] == "eniplug" else ():
        near = get_close_matches(key.lower(), known, n=1, cutoff=0.8)
        if key not in FIELDS and near:
            right = known[near[0]]
            msg = f"{place}: has a field {key!r}, which nothing reads"
            yield Problem(msg, f"did you mean {right!r}?")


def _wrong_plugins(entry: Entry, catalogue: Catalogue) -> Iterator[Problem]:
    if not entry.plugins:
        return
    try:
        chosen: Sequence[Wanted] = wanted(entry.plugins, entry.place)
    except EniplugError as error:
        yield Problem(error.message, error.details)
        return
    for one in chosen:
        try:
            catalogue.build([one])
        except EniplugError as error:
            yield Problem(error.message, error.details)


def _whole(
    entries: Sequence[Entry], catalogue: Catalogue, settings: Settings, source: str
) -> Iterator[Problem]:
    """What an agent would say that is started with these entries."""
    try:
        own_chains(Chains(catalogue), entries, source)
        check_modes(settings, [entry.plugins for entry in entries])
    except EniplugError as error:
        yield Problem(error.message, error.details)
