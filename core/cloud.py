"""The cloud worker: the one thread that asks EC2, one call at a time.

Rules of this file:

- An address enters the pool when EC2's answer, IMDS and the ENI's link agree on it.
- Each call's intent is committed before the call.  Where an answer is lost, EC2 is
  asked what there is before anything else is done.
- Nothing is waited for but an answer: what takes its time is looked at by a timer.
- Pods that wait come before warm targets, and growing before giving back.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager, suppress
from datetime import UTC, datetime
from itertools import count as counting
from threading import Event, Thread
from typing import Final, Protocol
from uuid import uuid4

import structlog
from attrs import evolve

from eniplug.core.arrivals import Arrivals, Receiver
from eniplug.core.discover import Facts
from eniplug.core.ec2 import INSTANCE_TAG, Cloud, EniFacts
from eniplug.core.imds import Metadata
from eniplug.core.pace import Pace
from eniplug.core.settings import Settings
from eniplug.core.transit import Arrival, Departure, with_transit
from eniplug.hooks.errors import (
    CloudError,
    DeniedError,
    EniLimitError,
    EniplugError,
    RetryError,
    SubnetFullError,
    ThrottledError,
)
from eniplug.hooks.objects import Ip
from eniplug.hooks.values import (
    Action,
    AssignAddresses,
    CapacityView,
    CreateEni,
    DeleteEni,
    UnassignAddresses,
)

log = structlog.get_logger()

CREATED_TAG: Final = "node.k8s.amazonaws.com/createdAt"
CLUSTER_TAG: Final = "cluster.k8s.amazonaws.com/name"
OWNER_TAG: Final = "eks:eni:owner"

IDLE: Final = 5.0
"""Seconds between looks when nobody wakes the worker: addresses cool, ENIs age."""

SWEEP_EVERY: Final = 3600.0
"""Seconds between looks for ENIs that were left behind."""

LATEST_TRY: Final = 60.0
"""Seconds between tries to be rid of an ENI that EC2 will not let go."""

GIVE_BACK_EVERY: Final = 30.0
"""Seconds between calls that give single addresses back, as AWS's program has it."""

FORGET_AFTER: Final = 60.0
"""Seconds for which EC2 and IMDS may still show an address that was given back."""


class Host(Receiver, Protocol):
    """What the worker needs of the agent; safe to call from the worker's thread."""

    def view(self) -> CapacityView:
        """Return the pool at this moment."""
        ...

    def plan(self, view: CapacityView) -> Sequence[Action]:
        """Ask plan_capacity."""
        ...

    def withdraw(self, eni_id: str, addresses: Sequence[Ip]) -> tuple[Ip, ...]:
        """Take those that are idle out of the pool, and return them."""
        ...

    def release_eni(self, eni_id: str) -> bool:
        """Take an ENI out of the pool and off the node; False if it is in use."""
        ...

    def intend(self, token: str, what: str) -> None:
        """Commit that a call is about to be made."""
        ...

    def done(self, token: str) -> None:
        """Commit that the call's outcome is known."""
        ...


def utc() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)


class CloudWorker(Thread):
    """Carries out what plan_capacity asks for.

    ``waker`` is set by whoever changed the pool; `wake` does so too.  `step` is one
    turn of the loop and returns the seconds until the next.
    """

    def __init__(  # noqa: PLR0917 - the ports come first, in order
        self,
        cloud: Cloud,
        metadata: Metadata,
        host: Host,
        facts: Facts,
        settings: Settings,
        waker: Event | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        today: Callable[[], datetime] = utc,
        pace: Pace | None = None,
    ) -> None:
        super().__init__(name="cloud", daemon=True)
        self._cloud = cloud
        self._host = host
        self._facts = facts
        self._settings = settings
        self._waker = waker or Event()
        self._clock = clock
        self._today = today
        self._pace = pace or Pace(clock)
        self._ending = Event()
        self._enis = {eni.id: eni for eni in facts.managed}
        self._arrivals = Arrivals(metadata, host, clock)
        self._departures: dict[str, Departure] = {}
        self._given_back: dict[Ip, float] = {}
        self._doubts: list[str] = []
        self._recount_due = False
        self._swept = float("-inf")
        self._most: int | None = None
        self._waiting = 0
        self._gave_back = float("-inf")
        self._began = False
        self._failed = False

    # -- the thread --------------------------------------------------------------------

    def wake(self) -> None:
        """Let the worker look at once."""
        self._waker.set()

    def stop(self) -> None:
        """Let the thread end after the call it is in; returns at once."""
        self._ending.set()
        self._waker.set()

    def run(self) -> None:
        """Step until `stop`."""
        while not self._ending.is_set():
            # Cleared before the look, so that no wake during it is lost.
            self._waker.clear()
            try:
                pause = self.step()
            except Exception:  # the thread must outlive any bug
                log.exception("the cloud worker's step failed")
                self._pace.failed()
                pause = self._pace.wait()
            self._waker.wait(pause)

    def step(self) -> float:
        """Do what is due, with one action of EC2 at most.

        Returns the seconds until there is something to do, 0 if there may be now.
        """
        if not self._began:
            self._begin()
        for arrival in self._arrivals.look():
            self._give_up(arrival)
        view = self._host.view()
        if view.waiting > self._waiting:
            self._pace.hurry()
        self._waiting = view.waiting
        if self._pace.wait() > 0:
            return self._next()
        try:
            acted = self._act(view)
        except EniplugError as error:
            self._failed = True
            self._pace.failed(throttled=isinstance(error, ThrottledError))
            pause = round(self._pace.wait(), 1)
            log.warning(
                "EC2 call failed", error=error.message, reason=error.reason, pause=pause
            )
            return self._next()
        return 0.0 if acted else self._next()

    def _begin(self) -> None:
        """Take up what an earlier life of the agent left half done."""
        self._began = True
        adopted = {eni.id for eni in self._host.view().enis}
        for eni in self._facts.managed:
            self._arrivals.expect(eni, eni.secondary, new=eni.id not in adopted)
        for eni in self._facts.unmanaged:
            if self._is_ours(eni) and eni.status == "detaching":
                self._depart(eni.id, eni.attachment_id, detached=True)

    def _next(self) -> float:
        now, pace = self._clock(), self._pace.wait()
        waits = [IDLE, *(one.due - now for one in self._arrivals.all())]
        waits += (max(one.due - now, pace) for one in self._departures.values())
        if pace:
            waits.append(pace)
        return max(min(waits), 0.0)

    # -- one action --------------------------------------------------------------------

    def _act(self, view: CapacityView) -> bool:
        if self._recount_due:
            self._recount()
            return True
        # Growing comes first, but must not keep all else away while it fails.
        if self._failed and self._tidy():
            return True
        self._failed = False
        seen = with_transit(view, self._arrivals.all(), len(self._departures))
        for action in self._host.plan(seen):
            if isinstance(action, AssignAddresses | CreateEni):
                self._grow(action)
                return True
            if self._give_back(action):
                return True
        return self._tidy()

    def _grow(self, action: AssignAddresses | CreateEni) -> None:
        """Get addresses; a subnet that is too full is asked for fewer each time."""
        number = min(action.count, self._most or action.count)
        try:
            if isinstance(action, AssignAddresses):
                self._assign(action.eni, number)
            else:
                self._create(number)
        except SubnetFullError as error:
            self._most = max(number // 2, 1)
            if number == 1:
                self._host.blocked(error)
                raise
            return
        except EniplugError as error:
            self._host.blocked(error)
            raise
        self._pace.succeeded()
        self._host.blocked(None)
        if self._most is not None:
            self._most = 2 * self._most
            if self._most >= self._facts.limits.eni_capacity:
                self._most = None

    def _assign(self, eni_id: str, number: int) -> None:
        with self._intent(f"assign {number} addresses to {eni_id}"):
            try:
                addresses = self._ask().assign(eni_id, number)
            except EniLimitError:
                # EC2 counts more than we do: find out what it has.
                self._recount_due = True
                raise
        log.info("addresses assigned", eni=eni_id, count=len(addresses))
        for address in addresses:
            self._given_back.pop(address, None)
        self._arrivals.expect(self._enis[eni_id], addresses)

    def _create(self, number: int) -> None:
        """Make an ENI and attach it, or leave none behind."""
        limits, primary = self._facts.limits, self._facts.primary
        taken = self._ask().describe_instance(self._facts.instance_id).devices
        devices = {device for card, device in taken if card == 0}
        if len(devices) >= limits.max_enis:
            msg = f"{self._facts.instance_type} may have {limits.max_enis} ENIs"
            raise EniLimitError(msg)
        device = next(n for n in counting(1) if n not in devices)
        with self._intent(f"create an ENI with {number} addresses") as token:
            eni = self._ask().create_eni(
                primary.subnet,
                primary.groups,
                number,
                token=token,
                description=self._description,
                tags=self._tags(),
            )
            attachment = None
            try:
                attachment = self._ask().attach(
                    eni.id, self._facts.instance_id, device, 0
                )
                self._ask().delete_on_termination(eni.id, attachment)
            except EniplugError:
                with suppress(ThrottledError):
                    self._part_with(self._depart(eni.id, attachment))
                raise
        log.info("ENI attached", eni=eni.id, device=device, addresses=number)
        made = _placed(eni, device, attachment)
        self._enis[eni.id] = made
        self._arrivals.expect(made, made.secondary, new=True)

    def _give_back(self, action: UnassignAddresses | DeleteEni) -> bool:
        if isinstance(action, UnassignAddresses):
            return self._unassign(action.eni, action.addresses)
        # An EFA serves pods like any ENI, but was not put there for them.
        if self._enis[action.eni].kind != "interface" or self._departures:
            return False
        if not self._host.release_eni(action.eni):
            return False
        self._arrivals.forget(action.eni)
        gone = self._enis.pop(action.eni)
        log.info("ENI given back", eni=gone.id)
        self._depart(gone.id, gone.attachment_id)
        return True

    def _unassign(self, eni_id: str, addresses: Sequence[Ip]) -> bool:
        now = self._clock()
        if now - self._gave_back < GIVE_BACK_EVERY:
            return False
        idle = self._host.withdraw(eni_id, addresses)
        if not idle:
            return False
        self._gave_back = now
        try:
            with self._intent(f"unassign {len(idle)} addresses of {eni_id}"):
                self._ask().unassign(eni_id, idle)
        except EniplugError:
            # They are still the ENI's: back into the pool, once all agree on it.
            self._recount_due = True
            raise
        self._given_back |= dict.fromkeys(idle, now)
        log.info("addresses given back", eni=eni_id, count=len(idle))
        return True

    # -- departures, and what was left behind ------------------------------------------

    def _give_up(self, arrival: Arrival) -> None:
        """Part with an ENI that never came; ask again what a known one has."""
        eni = arrival.eni
        if not arrival.new:
            self._recount_due = True
            return
        self._enis.pop(eni.id, None)
        if self._is_ours(eni):
            self._depart(eni.id, eni.attachment_id)

    def _depart(
        self, eni_id: str, attachment: str | None, *, detached: bool = False
    ) -> Departure:
        now = self._clock()
        leaving = Departure(
            eni_id=eni_id,
            attachment=attachment,
            detached=detached,
            since=now,
            due=now,
        )
        self._departures[eni_id] = leaving
        return leaving

    def _tidy(self) -> bool:
        """Go one step further with an ENI that leaves, or find those left behind."""
        now = self._clock()
        due = [one for one in self._departures.values() if one.due <= now]
        if due:
            self._part_with(min(due, key=lambda one: one.due))
            return True
        if now - self._swept >= SWEEP_EVERY:
            self._swept = now
            self._sweep()
            return True
        return False

    def _part_with(self, leaving: Departure) -> None:
        """Detach an ENI, or delete it; what fails is tried again, ever less often."""
        now = self._clock()
        try:
            if leaving.attachment is not None and not leaving.detached:
                with self._intent(f"detach {leaving.eni_id}"):
                    self._ask().detach(leaving.attachment)
                leaving.detached = True
                leaving.later(now)
                return
            with self._intent(f"delete {leaving.eni_id}"):
                self._ask().delete_eni(leaving.eni_id)
        except ThrottledError:
            raise
        except RetryError:
            # It is attached still.  If nobody knows how, EC2 does.
            self._recount_due = self._recount_due or leaving.attachment is None
            leaving.later(now)
            return
        except EniplugError as error:
            log.warning("ENI stays", eni=leaving.eni_id, error=error.message)
            leaving.later(now, LATEST_TRY)
            return
        del self._departures[leaving.eni_id]
        log.info("ENI deleted", eni=leaving.eni_id)

    def _sweep(self) -> None:
        """Find ENIs that were made for this instance and never attached."""
        for eni in self._ask().leaked(self._facts.instance_id):
            known = eni.id in self._enis or eni.id in self._departures
            if self._is_ours(eni) and not known:
                log.info("leaked ENI found", eni=eni.id)
                self._depart(eni.id, None)

    def _recount(self) -> None:
        """Ask EC2 what there is, after an answer was lost or contradicted us."""
        now = self._clock()
        self._given_back = {
            address: since
            for address, since in self._given_back.items()
            if now - since < FORGET_AFTER
        }
        found = self._ask().enis(self._facts.instance_id)
        here = {eni.id for eni in self._host.view().enis}
        aside = {eni.id for eni in self._facts.unmanaged}
        for eni in found:
            if eni.id in self._departures:
                self._departures[eni.id].attachment = eni.attachment_id
            elif eni.id in self._enis:
                self._enis[eni.id] = eni
                has = set(eni.secondary) - self._given_back.keys()
                self._arrivals.expect(eni, has, new=eni.id not in here)
            elif eni.id not in aside and self._is_ours(eni):
                self._depart(eni.id, eni.attachment_id)
        self._recount_due, self._swept = False, float("-inf")
        for token in self._doubts:
            self._host.done(token)
        self._doubts.clear()

    # -- calls -------------------------------------------------------------------------

    def _ask(self) -> Cloud:
        """Return the cloud for one call."""
        self._pace.spend()
        return self._cloud

    @contextmanager
    def _intent(self, what: str) -> Generator[str]:
        """Commit a call's intent; keep it while the outcome is in doubt."""
        token = str(uuid4())
        self._host.intend(token, what)
        try:
            yield token
        except (DeniedError, RetryError):
            self._host.done(token)
            raise
        except CloudError:
            # It may have happened: EC2 is asked before the next action.
            self._doubts.append(token)
            self._recount_due = True
            raise
        self._host.done(token)

    def _is_ours(self, eni: EniFacts) -> bool:
        """Tell whether an agent of this instance made that ENI."""
        tagged = eni.tags.get(INSTANCE_TAG) == self._facts.instance_id
        return tagged and eni.description == self._description

    @property
    def _description(self) -> str:
        return f"aws-K8S-{self._facts.instance_id}"

    def _tags(self) -> dict[str, str]:
        tags = {
            INSTANCE_TAG: self._facts.instance_id,
            CREATED_TAG: self._today().strftime("%Y-%m-%dT%H:%M:%SZ"),
        }
        if self._settings.cluster_name:
            tags[CLUSTER_TAG] = self._settings.cluster_name
            tags[OWNER_TAG] = "amazon-vpc-cni"
        return tags | dict(self._settings.additional_eni_tags)


def _placed(eni: EniFacts, device: int, attachment: str) -> EniFacts:
    """Say of a new ENI where it was put; EC2 described it before that."""
    return evolve(eni, device=device, attachment_id=attachment, status="in-use")
