"""What EC2 and IMDS said of the node, kept in the store for a start without them."""

from __future__ import annotations

import json
from typing import Final

from attrs import evolve

from eniplug.core.codec import FROZEN
from eniplug.core.discover import Facts
from eniplug.core.ec2 import EniFacts
from eniplug.core.store import Store

NODE: Final = "node"
ENIS: Final = "enis"


def remember(store: Store, facts: Facts) -> None:
    """Keep what was said just now; what was recalled is there already."""
    if facts.fresh:
        store.keep_fact(NODE, json.dumps(FROZEN.unstructure(facts)))
        store.keep_fact(ENIS, written(facts.managed))


def written(managed: tuple[EniFacts, ...]) -> str:
    """Write the managed ENIs, which change while the agent runs."""
    return json.dumps(FROZEN.unstructure(managed, tuple[EniFacts, ...]))


def recall(store: Store) -> Facts | None:
    """Return what was said last, None on a node that is new."""
    node, enis = store.fact(NODE), store.fact(ENIS)
    if node is None or enis is None:
        return None
    managed = FROZEN.structure(json.loads(enis), tuple[EniFacts, ...])
    return evolve(FROZEN.structure(json.loads(node), Facts), managed=managed)
