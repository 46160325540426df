"""The elements of our nftables tables, as nft tells them in JSON.

Only a lost store needs this: then the program may be run.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from typing import Any, Final

import structlog

from eniplug.core.kernel.nft import MARK, PATIENCE
from eniplug.hooks import NftElement

log = structlog.get_logger()

LIST: Final = ("nft", "-j", "list", "ruleset")


def listed_elements(command: Sequence[str] = LIST) -> Iterator[NftElement]:
    """Read what stands in our tables' sets and maps.

    What no object can say is left out.  Where nft cannot tell, as it cannot without its
    JSON output, the log says so and nothing is found: a node must start without.
    """
    try:
        done = subprocess.run(
            command, capture_output=True, timeout=PATIENCE, check=True
        )
        found: Sequence[Mapping[str, Any]] = json.loads(done.stdout)["nftables"]
    except (OSError, subprocess.SubprocessError, ValueError, KeyError) as error:
        log.warning("pods' elements of nftables are not known", error=str(error))
        return
    ours = {
        (chain["family"], chain["table"])
        for chain in (one["chain"] for one in found if "chain" in one)
        if chain["name"].startswith(MARK)
    }
    for one in found:
        group = one.get("set") or one.get("map")
        if group and (group["family"], group["table"]) in ours:
            yield from _elements(group)


def _elements(group: Mapping[str, Any]) -> Iterator[NftElement]:
    for item in group.get("elem", ()):
        key, value = item if isinstance(item, list) else (item, None)
        with suppress(ValueError):  # a prefix, a verdict, a counter
            yield NftElement(
                family=group["family"],
                table=group["table"],
                set=group["name"],
                element=_text(key),
                value="" if value is None else _text(value),
            )


def _text(value: Any) -> str:
    parts = (
        value["concat"] if isinstance(value, dict) and "concat" in value else [value]
    )
    return " . ".join(map(str, parts))
