"""Entries that others append to the installed conflist: they are kept.

Linkerd's and Istio's installers add an entry of their own at the end of the first
conflist that they find, and write the file anew.  An entry is another's when no entry
of its type stands in our conflist, as it is to be or as it was when last installed.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import suppress
from typing import Any

from eniplug.cni.errors import CniError
from eniplug.cni.shapes import decode, mapping, sequence, text
from eniplug.core.entries import OURS


def with_appended(ours: bytes, found: bytes, before: bytes | None) -> bytes:
    """Return the text that is to be installed: ours, and behind it what is another's.

    ``found`` is the file as it stands, and is returned itself where it says the same;
    ``before`` is our text of the last time, None if that is not known.  Raises CniError
    when ``found`` is no conflist.
    """
    there = decode(found, "it")
    theirs = _theirs(there, _types(ours), before)
    wanted = decode(ours, "our own")
    if theirs:
        wanted["plugins"] = [*wanted["plugins"], *theirs]
    if wanted == there:
        return found
    return json.dumps(wanted, indent=2).encode() + b"\n" if theirs else ours


def has_appended(found: bytes, before: bytes | None) -> bool:
    """Tell whether somebody else's entries stand in the file.

    One that is no conflist counts as somebody else's whole.
    """
    try:
        return bool(_theirs(decode(found, "it"), set(), before))
    except CniError:
        return True


def _theirs(
    there: dict[str, Any], ours: set[str], before: bytes | None
) -> list[dict[str, Any]]:
    own = {*OURS, *ours}
    with suppress(CniError):  # a record that is broken is as good as none
        own |= _types(before) if before else set()
    return [entry for entry in _entries(there) if entry["type"] not in own]


def _types(conflist: bytes) -> set[str]:
    return {entry["type"] for entry in _entries(decode(conflist, "our own"))}


def _entries(conflist: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for i, value in enumerate(sequence(conflist.get("plugins"), "plugins")):
        entry = mapping(value, f"plugins[{i}]")
        text(entry.get("type"), f"plugins[{i}].type")
        yield entry
