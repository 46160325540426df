"""Pods' public addresses: what they declare against what EC2 has, a call at a time.

Rules of this file:

- An Elastic IP bears from its birth, as tags, the attachment and the private address
  that it is for.  So whose it is can be told without the store, and what an answer that
  was lost has made is found again.
- The declaration, which the store has before the ADD goes on, is the intent.
- One that names no living part is taken from its private address, and released.  That
  goes before getting others, unless an ADD waits for these.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from datetime import datetime
from functools import partial
from typing import Final, NamedTuple, Protocol, TypeAlias

import structlog
from attrs import evolve, frozen

from eniplug.core.calls import Calls
from eniplug.core.ec2 import CLUSTER_TAG, INSTANCE_TAG, Cloud, ElasticIpFacts
from eniplug.core.leftovers import CREATED_TAG, STAMP, is_old
from eniplug.core.owner import Owner
from eniplug.core.parts import AttachmentKey, Life, Part
from eniplug.core.public import PASSING, SUBJECT_TAG, Standing, Subject, Told, declared
from eniplug.hooks import ElasticIp, Pod
from eniplug.hooks.errors import (
    CloudError,
    DeniedError,
    EniplugError,
    RetryError,
)

log = structlog.get_logger()

POD_TAG: Final = "eniplug/pod"
"""The tag with the pod's namespace and name, for people."""

ASK_EVERY: Final = 1800.0
"""Seconds after which EC2 is asked what there is, though nothing speaks against it."""

SHOWN_AFTER: Final = 60.0
"""Seconds until EC2 shows for sure what a lost answer was about."""

FIRST_PAUSE: Final = 1.0
LONGEST_PAUSE: Final = 60.0
"""Seconds between tries of a call that EC2 refuses."""

LOOKING: Final = "DescribeAddresses"
GETTING: Final = "AllocateAddress"
"""What is refused for one pod is refused for all; other calls go by an address's id."""


class Tenants(Protocol):
    """Whose public addresses are seen to; called from the worker's thread."""

    def tenants(self) -> Sequence[Part]:
        """The parts that declare one."""
        ...

    def parts_of(self, key: AttachmentKey) -> Sequence[Part]:
        """The parts of an attachment."""
        ...

    def expect_elastic_ips(self) -> None:
        """Commit that from now on EC2 may have some of this node's."""
        ...

    def elastic_ips_are(self, standing: Standing) -> None:
        """Take what is known of them."""
        ...


Wanted: TypeAlias = Mapping[Subject, tuple[ElasticIp, Pod]]


class Deed(NamedTuple):
    """A call to be made.  ``key`` says which others its refusal holds back, too."""

    key: str
    do: Callable[[], None]


@frozen
class Refused:
    """What a call came to, and when (in seconds of the clock) it may be made again."""

    error: EniplugError
    pause: float
    due: float


class ElasticIps:
    """Sees to the public addresses of this node's pods.

    With ``seek`` EC2 is asked at the start what an earlier life has left; with
    ``others`` what dead nodes of the cluster have left is released as well.
    """

    def __init__(
        self,
        calls: Calls,
        owner: Owner,
        tenants: Tenants,
        *,
        clock: Callable[[], float],
        today: Callable[[], datetime],
        seek: bool,
        others: bool,
    ) -> None:
        self._calls = calls
        self._owner = owner
        self._tenants = tenants
        self._clock = clock
        self._today = today
        self._others = others and bool(owner.cluster)
        self._have: dict[str, ElasticIpFacts] = {}
        self._refused: dict[str, Refused] = {}
        self._look_due = clock() if seek else float("inf")
        self._look_next = ASK_EVERY
        self._standing = Standing()

    def step(self) -> bool:
        """Make the call that is due first; False if none is.

        Raises what concerns all calls: ThrottledError, CloudAwayError, CloudSlowError.
        """
        wanted = self._wanted()
        deeds = self._deeds(wanted)
        keys = {deed.key for deed in deeds}
        self._refused = {k: one for k, one in self._refused.items() if k in keys}
        deed = next((one for one in deeds if self._held_back(one.key) <= 0), None)
        try:
            if deed is not None:
                self._carry_out(deed)
        finally:
            self._tell(wanted)
        return deed is not None

    def due_in(self) -> float:
        """Seconds until something is due that nobody wakes the worker for."""
        waits = [self._look_due - self._clock(), *map(self._held_back, self._refused)]
        return max(min(waits), 0.0)

    def _held_back(self, key: str) -> float:
        refused = self._refused.get(key)
        return 0.0 if refused is None else refused.due - self._clock()

    # -- what there is to do -----------------------------------------------------------

    def _wanted(self) -> Wanted:
        return {
            Subject(part.key, one.private): (one, part.pod)
            for part in self._tenants.tenants()
            if part.life is not Life.DYING
            for one in declared(part)
            if one.waited or part.life is Life.LIVE
        }

    def _kept(self, wanted: Wanted) -> dict[Subject, ElasticIpFacts]:
        """The one address of each subject that is to have one.

        A pod that was found again without the store keeps what it has, undeclared.
        """
        kept: dict[Subject, ElasticIpFacts] = {}
        for one in sorted(self._have.values(), key=lambda o: o.association is None):
            subject = Subject.of(one)
            if subject is None or not self._is_ours(one):
                continue
            if subject in wanted or (_serves(one, subject) and self._lives(subject)):
                kept.setdefault(subject, one)
        return kept

    def _is_ours(self, one: ElasticIpFacts) -> bool:
        return one.tags.get(INSTANCE_TAG) == self._owner.instance_id

    def _lives(self, subject: Subject) -> bool:
        return any(
            part.life is not Life.DYING and subject.private in part.addresses
            for part in self._tenants.parts_of(subject.attachment)
        )

    def _deeds(self, wanted: Wanted) -> list[Deed]:
        """All calls that are to be made; first those for which an ADD waits."""
        if wanted and self._look_due == float("inf"):
            self._look_due = self._clock()
        if self._look_due <= self._clock():
            return [Deed(LOOKING, self._look)]
        kept = self._kept(wanted)
        stay = {one.id for one in kept.values()}
        first: list[Deed] = []
        last: list[Deed] = []
        for subject, (what, pod) in wanted.items():
            had, deeds = kept.get(subject), first if what.waited else last
            if had is None:
                deeds.append(Deed(GETTING, partial(self._get, subject, what, pod)))
            elif not _serves(had, subject):
                deeds.append(Deed(had.id, partial(self._associate, had, what, pod)))
        leaving = [one for one in self._have.values() if one.id not in stay]
        return [
            *first,
            *(Deed(one.id, partial(self._part_with, one)) for one in leaving),
            *last,
        ]

    # -- one call ----------------------------------------------------------------------

    def _carry_out(self, deed: Deed) -> None:
        try:
            deed.do()
        except PASSING as error:
            # All of EC2 is let alone for a while: the worker's business.
            self._refused[deed.key] = Refused(error, FIRST_PAUSE, self._clock())
            raise
        except EniplugError as error:
            had = self._refused.get(deed.key)
            pause = FIRST_PAUSE if had is None else min(2 * had.pause, LONGEST_PAUSE)
            self._refused[deed.key] = Refused(error, pause, self._clock() + pause)
            words = {"error": error.message, "reason": error.reason}
            log.warning("public address: refused", call=deed.key, pause=pause, **words)
        else:
            self._refused.pop(deed.key, None)

    def _look(self) -> None:
        cluster = {CLUSTER_TAG: self._owner.cluster}
        own = {INSTANCE_TAG: self._owner.instance_id}
        try:
            found = self._calls.ask().elastic_ips(cluster if self._others else own)
        except DeniedError:
            if self._tenants.tenants():
                raise
            # Where nobody wants one the node's role need not allow it.
            self._look_due = float("inf")
            return
        young = [o for o in self._have.values() if not is_old(o.tags, self._today())]
        self._have = {one.id: one for one in (*young, *filter(self._concerns, found))}
        self._look_due = self._clock() + self._look_next
        self._look_next = ASK_EVERY

    def _concerns(self, one: ElasticIpFacts) -> bool:
        """Whether an address is this node's, or was left behind by any."""
        forsaken = one.association is None and is_old(one.tags, self._today())
        return Subject.of(one) is not None and (self._is_ours(one) or forsaken)

    def _get(self, subject: Subject, what: ElasticIp, pod: Pod) -> None:
        tags = {
            **dict(what.tags),
            **({CLUSTER_TAG: self._owner.cluster} if self._owner.cluster else {}),
            INSTANCE_TAG: self._owner.instance_id,
            CREATED_TAG: self._today().strftime(STAMP),
            SUBJECT_TAG: str(subject),
            POD_TAG: f"{pod.namespace}/{pod.name}",
        }
        self._tenants.expect_elastic_ips()
        try:
            one = self._calls.ask().allocate_elastic_ip(tags)
        except (DeniedError, RetryError):
            raise
        except CloudError:
            # It may have been made; EC2 need not show it at once.
            self._look_due, self._look_next = self._clock(), SHOWN_AFTER
            raise
        self._have[one.id] = one

    def _associate(self, one: ElasticIpFacts, what: ElasticIp, pod: Pod) -> None:
        association = self._calls.ask().associate(one.id, what.eni, what.private)
        self._have[one.id] = evolve(
            one, association=association, eni=what.eni, private=what.private
        )
        names = {"pod": f"{pod.namespace}/{pod.name}", "container": pod.container_id}
        where = {"public": str(one.public), "private": str(what.private)}
        log.info("public address in service", eni=what.eni, **where, **names)

    def _part_with(self, one: ElasticIpFacts) -> None:
        if one.association is not None:
            self._calls.ask().disassociate(one.association)
            self._have[one.id] = evolve(one, association=None, eni=None, private=None)
            return
        self._calls.ask().release(one.id)
        del self._have[one.id]
        # What the limit has held back may be had now.
        self._refused.pop(GETTING, None)
        log.info("public address released", public=str(one.public), id=one.id)

    # -- what is known -----------------------------------------------------------------

    def _tell(self, wanted: Wanted) -> None:
        kept = self._kept(wanted)
        subjects = (*wanted, *(one for one in kept if one not in wanted))
        told = {one: self._told(one, kept.get(one)) for one in subjects}
        standing = Standing(told, len(self._have) - len(kept))
        if standing != self._standing:
            self._standing = standing
            self._tenants.elastic_ips_are(standing)

    def _told(self, subject: Subject, one: ElasticIpFacts | None) -> Told:
        if one is not None and _serves(one, subject):
            return Told(one.public)
        keys = (LOOKING, GETTING if one is None else one.id)
        refused = (self._refused[key] for key in keys if key in self._refused)
        return Told(trouble=next((one.error for one in refused), None))


def _serves(one: ElasticIpFacts, subject: Subject) -> bool:
    """Whether an address is where it is meant to be; somebody may have moved it."""
    return one.association is not None and one.private == subject.private


def release_all(cloud: Cloud, instance_id: str) -> None:
    """Release what a node's agent has got.

    Raises what `Cloud` raises; it can be called again.
    """
    found = cloud.elastic_ips({INSTANCE_TAG: instance_id})
    for one in (one for one in found if Subject.of(one) is not None):
        if one.association is not None:
            cloud.disassociate(one.association)
        cloud.release(one.id)
