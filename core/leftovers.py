"""ENIs that were made for pods and hang on nothing: whose they are, and what is done.

Both this program and the AWS VPC CNI tag what they make in one way, so each finds what
the other left (amazon-vpc-cni-k8s, "Leaked ENIs").
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Final

from eniplug.core.ec2 import INSTANCE_TAG, EniFacts

CREATED_TAG: Final = "node.k8s.amazonaws.com/createdAt"
STAMP: Final = "%Y-%m-%dT%H:%M:%SZ"
DESCRIPTION: Final = "aws-K8S-"
"""How the description of each ENI begins that a CNI made; an instance's id follows."""

OLD_AFTER: Final = timedelta(minutes=5)
"""Younger ones may be on their way to their node."""


def is_of(eni: EniFacts, instance_id: str) -> bool:
    """Tell whether an agent of this instance made an ENI."""
    tagged = eni.tags.get(INSTANCE_TAG) == instance_id
    return tagged and eni.description == DESCRIPTION + instance_id


def is_stamped(eni: EniFacts) -> bool:
    """Tell whether an ENI says when it was made."""
    return CREATED_TAG in eni.tags


def is_forsaken(eni: EniFacts, now: datetime) -> bool:
    """Tell whether any node may delete an ENI: a CNI made it, some time ago.

    One whose time cannot be read is let be.
    """
    if not eni.description.startswith(DESCRIPTION) or INSTANCE_TAG not in eni.tags:
        return False
    return is_old(eni.tags, now)


def is_old(tags: Mapping[str, str], now: datetime) -> bool:
    """Tell whether a tag says that something was made some time ago."""
    try:
        made = datetime.fromisoformat(tags.get(CREATED_TAG, ""))
    except ValueError:
        return False
    if made.tzinfo is None:
        return False
    return now - made > OLD_AFTER
