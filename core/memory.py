"""What EC2, IMDS and Kubernetes said, kept in the store for a start without them."""

from __future__ import annotations

import json
from ipaddress import IPv4Network
from typing import Final

from attrs import evolve

from eniplug.core.codec import FROZEN
from eniplug.core.discover import Facts
from eniplug.core.ec2 import EniFacts
from eniplug.core.kube_api import NodeFacts
from eniplug.core.store import Store

NODE: Final = "node"
ENIS: Final = "enis"
VPC: Final = "vpc"
KUBE: Final = "kube"


def remember(store: Store, facts: Facts) -> None:
    """Keep what was said just now; what was recalled is there already."""
    if facts.fresh:
        store.keep_fact(NODE, json.dumps(FROZEN.unstructure(facts)))
        store.keep_fact(ENIS, written(facts.managed))
        store.keep_fact(VPC, written_vpc(facts.vpc_cidrs))


def written(managed: tuple[EniFacts, ...]) -> str:
    """Write the managed ENIs, which change while the agent runs."""
    return json.dumps(FROZEN.unstructure(managed, tuple[EniFacts, ...]))


def written_vpc(cidrs: tuple[IPv4Network, ...]) -> str:
    """Write the VPC's CIDRs, which change as well."""
    return json.dumps(FROZEN.unstructure(cidrs, tuple[IPv4Network, ...]))


def written_kube(facts: NodeFacts) -> str:
    """Write what Kubernetes says of the node, which changes too."""
    return json.dumps(FROZEN.unstructure(facts))


def recall_kube(store: Store) -> NodeFacts | None:
    """Return what Kubernetes said last, None if it has said nothing."""
    record = store.fact(KUBE)
    return None if record is None else FROZEN.structure(json.loads(record), NodeFacts)


def recall(store: Store) -> Facts | None:
    """Return what was said last, None on a node that is new."""
    node, enis = store.fact(NODE), store.fact(ENIS)
    if node is None or enis is None:
        return None
    managed = FROZEN.structure(json.loads(enis), tuple[EniFacts, ...])
    facts = evolve(FROZEN.structure(json.loads(node), Facts), managed=managed)
    vpc = store.fact(VPC)
    if vpc is None:
        return facts
    cidrs = FROZEN.structure(json.loads(vpc), tuple[IPv4Network, ...])
    return evolve(facts, vpc_cidrs=cidrs)
