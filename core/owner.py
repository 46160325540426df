"""Whose an ENI is, by its tags and its description; the AWS VPC CNI uses the same."""

from __future__ import annotations

from datetime import datetime
from typing import Final

from attrs import frozen

from eniplug.core.ec2 import CLUSTER_TAG, INSTANCE_TAG, EniFacts
from eniplug.core.leftovers import CREATED_TAG, DESCRIPTION, STAMP, is_of

OWNER_TAG: Final = "eks:eni:owner"


@frozen(kw_only=True)
class Owner:
    """The node, its cluster if that is told, and more tags that are wanted."""

    instance_id: str
    cluster: str
    more: tuple[tuple[str, str], ...]

    @property
    def description(self) -> str:
        """What ENIs that are made here are described as."""
        return DESCRIPTION + self.instance_id

    @property
    def tags(self) -> dict[str, str]:
        """What marks an ENI as this node's, and its cluster's."""
        tags = {INSTANCE_TAG: self.instance_id}
        if self.cluster:
            tags[CLUSTER_TAG] = self.cluster
            tags[OWNER_TAG] = "amazon-vpc-cni"
        return tags | dict(self.more)

    def birth_tags(self, now: datetime) -> dict[str, str]:
        """The tags of an ENI that is made now."""
        return self.tags | {CREATED_TAG: now.strftime(STAMP)}

    def made(self, eni: EniFacts) -> bool:
        """Whether an agent of this instance made an ENI."""
        return is_of(eni, self.instance_id)

    def left_untied(self, eni: EniFacts) -> bool:
        """Whether an ENI of ours would outlive its instance."""
        return self.made(eni) and not eni.on_termination

    def is_unmarked(self, eni: EniFacts) -> bool:
        """Whether an ENI lacks any of our tags."""
        return not self.tags.items() <= eni.tags.items()
