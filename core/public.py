"""What is known of pods' public addresses: what each is for, and how it stands.

The cloud worker says it (`eniplug.core.elastic_ips`); ADDs that wait, CHECK, plans and
reports go by it.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from ipaddress import IPv4Address
from typing import Final, NamedTuple

from attrs import field, frozen

from eniplug.core.ec2 import ElasticIpFacts
from eniplug.core.kernel import Difference
from eniplug.core.parts import AttachmentKey, Part
from eniplug.hooks import ElasticIp
from eniplug.hooks.errors import (
    CloudAwayError,
    CloudSlowError,
    ElasticIpLimitError,
    EniplugError,
    RetryError,
    ThrottledError,
)

SUBJECT_TAG: Final = "eniplug/address-of"
"""The tag with container id, interface name and private address."""

PASSING: Final = (ThrottledError, CloudAwayError, CloudSlowError)
"""What concerns every call of EC2, and is over after a while."""


class Subject(NamedTuple):
    """What a public address is for: an attachment's private one."""

    attachment: AttachmentKey
    private: IPv4Address

    @classmethod
    def of(cls, one: ElasticIpFacts) -> Subject | None:
        """Read an Elastic IP's tag; None if it is none of ours."""
        words = one.tags.get(SUBJECT_TAG, "").split(" ")
        try:
            container_id, ifname, private = words
            return cls(AttachmentKey(container_id, ifname), IPv4Address(private))
        except ValueError:
            return None

    def __str__(self) -> str:
        return f"{' '.join(self.attachment)} {self.private}"


@frozen
class Told:
    """What is known of one: the public address, or why it is not there, if not yet."""

    public: IPv4Address | None = None
    trouble: EniplugError | None = None


@frozen
class Standing:
    """All that is known of pods' public addresses; ``leaving`` have no pod any more."""

    told: Mapping[Subject, Told] = field(factory=dict)
    leaving: int = 0

    def counts(self) -> dict[str, int]:
        """How many are there, lacking, and leaving."""
        there = sum(one.public is not None for one in self.told.values())
        lacking = len(self.told) - there
        return {"there": there, "lacking": lacking, "leaving": self.leaving}

    def of(self, part: Part, one: ElasticIp) -> Told:
        """What is known of what a part declares."""
        return self.told.get(Subject(part.key, one.private), Told())

    def differences(self, part: Part) -> Iterator[Difference]:
        """Name what a part lacks against EC2's will; what is on its way is not."""
        for one in declared(part):
            if (trouble := self.of(part, one).trouble) is not None:
                words = f"not there: {trouble.reason}: {trouble.message}"
                yield Difference(one, words)

    def trouble(self, part: Part) -> EniplugError | None:
        """Why what a part waits for is not there; None when all of it is.

        An error that passes, if nothing was refused.
        """
        lacking = [
            told.trouble
            for one in declared(part)
            if one.waited and (told := self.of(part, one)).public is None
        ]
        if not lacking:
            return None
        late = RetryError("the pod's public address is on its way still")
        return next((one for one in lacking if one is not None), late)


def declared(part: Part) -> tuple[ElasticIp, ...]:
    """The public addresses that a part declares."""
    return tuple([one for one in part.objects if isinstance(one, ElasticIp)])


def is_refusal(error: EniplugError) -> bool:
    """Whether waiting is in vain: EC2 has said no."""
    limit = isinstance(error, ElasticIpLimitError)
    return limit or not isinstance(error, (*PASSING, RetryError))
