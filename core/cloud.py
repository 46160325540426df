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
from ipaddress import IPv4Address, IPv6Address
from itertools import count as counting
from threading import Event, Thread
from typing import Final, Protocol

import structlog
from attrs import evolve

from eniplug.core.arrivals import Arrivals, Receiver
from eniplug.core.audit import Audit, Ward
from eniplug.core.beats import BEAT, until_beat
from eniplug.core.calls import Calls, Journal
from eniplug.core.departures import Departures
from eniplug.core.discover import Facts, is_managed
from eniplug.core.ec2 import Cloud, EniFacts
from eniplug.core.elastic_ips import ElasticIps, Tenants
from eniplug.core.imds import Metadata
from eniplug.core.lookout import Lookout, Resident
from eniplug.core.owner import Owner
from eniplug.core.pace import Pace
from eniplug.core.settings import Settings
from eniplug.core.subnets import Subnets, SubnetState
from eniplug.core.transit import Arrival, with_transit
from eniplug.core.upkeep import Upkeep
from eniplug.hooks.capacity import (
    Action,
    AssignAddresses,
    AssignPrefixes,
    Block,
    CapacityView,
    CreateEni,
    DeleteEni,
    Kind,
    Unassign,
)
from eniplug.hooks.errors import (
    DeniedError,
    EniLimitError,
    EniplugError,
    NoFreePrefixError,
    SubnetFullError,
    ThrottledError,
)

log = structlog.get_logger()

IDLE: Final = BEAT
"""Seconds between looks when nobody wakes the worker: addresses cool, ENIs age."""

GIVE_BACK_EVERY: Final = 30.0
"""Seconds between calls that give single addresses back, as AWS's program has it."""

SHOWN_AFTER: Final = 60.0
"""Seconds for which EC2 and IMDS may still show a block that was given back."""

LOOK_EVERY: Final = 60.0
"""Seconds between looks whether IMDS shows what the pool has."""

ASK_EVERY: Final = 1800.0
"""Seconds after which EC2 is asked what there is, though nothing speaks against it."""

GATHER: Final = 0.02
"""Seconds that are waited for more pods when the first ones begin to wait."""

GATHER_MOST: Final = 0.1

LET_PASS: Final = 0.03
"""Seconds for which whoever woke the worker goes on first: an ADD is done by then, as
are many of a burst, and need not share the interpreter with a plan for the next."""


class Host(Receiver, Ward, Resident, Journal, Protocol):
    """What the worker needs of the agent; safe to call from the worker's thread."""

    def views(self) -> Sequence[CapacityView]:
        """Return the pool at this moment: a view of each card that serves, 0 first."""
        ...

    def plan(self, views: Sequence[CapacityView]) -> Sequence[Action]:
        """Ask plan_capacity about each; the plan of a card that grows comes first."""
        ...

    def release_eni(self, eni_id: str) -> bool:
        """Take an ENI out of the pool and off the node; False if it is in use."""
        ...

    def remember(self, managed: Sequence[EniFacts]) -> None:
        """Keep what EC2 said of the ENIs, for a start without EC2."""
        ...


def utc() -> datetime:
    """Return the time of day."""
    return datetime.now(UTC)


class CloudWorker(Thread):
    """Carries out what plan_capacity asks for.

    ``waker`` is set by whoever changed the pool; `wake` does so too.  `step` is one
    turn of the loop and returns the seconds until the next.  ``held`` says why the
    node's ENIs and addresses are to stay as they are, if they are to.  ``tenants`` tell
    of the pods with public addresses; ``seek`` says that EC2 may have some of these
    that no pod declares.
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
        held: Callable[[], EniplugError | None] = lambda: None,
        tenants: Tenants | None = None,
        seek: bool = False,
    ) -> None:
        super().__init__(name="cloud", daemon=True)
        self._host = host
        self._facts = facts
        self._settings = settings
        self._waker = waker or Event()
        self._clock = clock
        self._today = today
        self._pace = pace or Pace(clock)
        self._calls = Calls(cloud, self._pace, host)
        self._owner = Owner(
            instance_id=facts.instance_id,
            cluster=settings.cluster_name,
            more=settings.additional_eni_tags,
        )
        self._held = held
        self._was_held = False
        self._ending = Event()
        self._enis = {eni.id: eni for eni in facts.managed}
        self._aside = {eni.id: eni for eni in facts.unmanaged}
        self._arrivals = Arrivals(metadata, host, clock)
        self._audit = Audit(host)
        self._lookout = Lookout(metadata, host, facts, clock)
        self._subnets = Subnets(
            facts.primary.subnet,
            settings.cluster_name,
            settings.enable_subnet_discovery,
            clock,
            facts.limits.prefixes,
        )
        self._metadata = metadata
        self._departures = Departures(self._calls, clock)
        self._upkeep = Upkeep(
            self._calls,
            self._enis,
            self._departures,
            self._lookout,
            self._owner,
            others=not settings.disable_leaked_eni_cleanup,
            clock=clock,
            today=today,
        )
        self._elastic_ips = None
        if tenants is not None:
            self._elastic_ips = ElasticIps(
                self._calls,
                self._owner,
                tenants,
                clock=clock,
                today=today,
                seek=seek,
                others=not settings.disable_leaked_eni_cleanup,
            )
        self._took_turn = False
        self._given_back: dict[Block, float] = {}
        self._recount_due = not facts.fresh
        self._asked = self._looked = clock()
        self._waiting = 0
        self._gathering: tuple[float, float] | None = None
        self._gave_back = float("-inf")
        self._began = False
        self._failed = False
        self.trouble: EniplugError | None = None
        self.trouble_at = float("-inf")

    # -- looking, from any thread ------------------------------------------------------

    def subnets(self) -> tuple[SubnetState, ...]:
        """The subnets that the ENIs are in, or may be made in."""
        return self._subnets.states([eni.subnet for eni in tuple(self._enis.values())])

    @property
    def pause(self) -> float:
        """Seconds for which EC2 is let alone after an error; 0 if it is not."""
        return self._pace.pause

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
            if pause == IDLE:
                pause = until_beat(self._clock())
            if self._waker.wait(pause):
                self._ending.wait(LET_PASS)

    def step(self) -> float:
        """Do what is due, with one action of EC2 at most.

        Returns the seconds until there is something to do, 0 if there may be now.
        """
        if not self._began:
            self._begin()
        self._lookout.look()
        for arrival in self._arrivals.look():
            self._give_up(arrival)
        views = self._host.views()
        # Whoever waits, waits for an address of card 0 too.
        if (pause := self._gather(views[0].waiting)) > 0:
            return pause
        if self._pace.wait() > 0:
            return self._next()
        try:
            acted = self._act(views)
        except EniplugError as error:
            self._failed = True
            self.trouble, self.trouble_at = error, self._clock()
            self._pace.failed(throttled=isinstance(error, ThrottledError))
            pause = round(self._pace.wait(), 1)
            log.warning(
                "EC2 call failed", error=error.message, reason=error.reason, pause=pause
            )
            return self._next()
        return 0.0 if acted else self._next()

    def _gather(self, waiting: int) -> float:
        """Let a burst of pods come together, so that one call serves them all."""
        now, more = self._clock(), waiting > self._waiting
        self._waiting = waiting
        if more:
            self._pace.hurry()
            first = self._gathering[0] if self._gathering else now
            self._gathering = (first, min(now + GATHER, first + GATHER_MOST))
        if self._gathering is None:
            return 0.0
        pause = self._gathering[1] - now
        if pause <= 0:
            self._gathering = None
        return pause

    def _begin(self) -> None:
        """Take up what an earlier life of the agent left half done."""
        self._began = True
        adopted = {eni.id for view in self._host.views() for eni in view.enis}
        self._host.remember(self._facts.managed)
        if not self._facts.fresh:
            return
        for eni in self._facts.managed:
            self._upkeep.meet(eni)
            let_in = self._audit.compare(eni.id, eni.blocks, self._clock())
            self._arrivals.expect(eni, let_in, new=eni.id not in adopted)
            self._recount_due = self._recount_due or self._owner.left_untied(eni)
        for eni in self._facts.unmanaged:
            if self._owner.made(eni) and eni.status == "detaching":
                self._departures.begin(eni, eni.attachment_id, detached=True)

    def _next(self) -> float:
        now, pace = self._clock(), self._pace.wait()
        waits = [IDLE, *(one.due - now for one in self._arrivals.all())]
        waits += (max(one.due - now, pace) for one in self._departures)
        if self._elastic_ips:
            waits.append(max(self._elastic_ips.due_in(), pace))
        if pace:
            waits.append(pace)
        return max(min(waits), 0.0)

    # -- one action --------------------------------------------------------------------

    def _act(self, views: Sequence[CapacityView]) -> bool:
        if self._recount_due or self._calls.in_doubt or self._departures.unsure:
            self._recount()
            return True
        if self._see_to_elastic_ips(views[0].waiting):
            return True
        if self._settings.disable_network_resource_provisioning:
            return self._look()
        if self._is_held():
            return self._tidy()
        # Growing comes first, but must not keep all else away while it fails.
        if self._failed and self._tidy():
            return True
        self._failed = False
        for action in self._host.plan([self._completed(view) for view in views]):
            if isinstance(action, AssignAddresses | AssignPrefixes | CreateEni):
                self._grow(action)
                return True
            if self._give_back(action):
                return True
        return self._tidy()

    def _see_to_elastic_ips(self, waiting: int) -> bool:
        """Make a call for public addresses; pods that wait have every other turn."""
        if self._elastic_ips is None or (waiting and self._took_turn):
            self._took_turn = False
        else:
            self._took_turn = self._elastic_ips.step()
        return self._took_turn

    def _is_held(self) -> bool:
        """Whether nothing is to change now; pods that wait are told why."""
        why = self._held()
        if why is not None or self._was_held:
            self._host.blocked(why)
        self._was_held = why is not None
        return self._was_held

    def _completed(self, view: CapacityView) -> CapacityView:
        """Add to a view what only the worker knows: what moves, and what is lacking."""
        arrivals = [one for one in self._arrivals.all() if one.eni.card == view.card]
        seen = with_transit(view, arrivals, self._leaving(view.card))
        homes = {eni.id: eni.subnet for eni in self._enis.values()}
        return self._subnets.told(seen, homes)

    def _leaving(self, card: int) -> int:
        """Places that are taken and serve nobody, beside those known at the start."""
        aside = sum(eni.card == card for eni in self._aside.values())
        leaving = sum(one.card == card for one in self._departures)
        return leaving + aside - self._facts.places_lost(card)

    # -- growing -----------------------------------------------------------------------

    def _grow(self, action: AssignAddresses | AssignPrefixes | CreateEni) -> None:
        """Get addresses; a subnet that is too full is asked for fewer each time."""
        try:
            if isinstance(action, CreateEni):
                self._create(action)
            else:
                self._assign(action)
        except (SubnetFullError, NoFreePrefixError):
            return  # noted by subnet, for the next plan
        except EniplugError as error:
            self._host.blocked(error)
            raise
        self._pace.succeeded()
        self._host.blocked(None)

    def _assign(self, action: AssignAddresses | AssignPrefixes) -> None:
        eni = self._enis[action.eni]
        kind: Kind = "address" if isinstance(action, AssignAddresses) else "prefix"
        number = self._subnets.most(eni.subnet, kind, action.count)
        what = "addresses" if kind == "address" else "prefixes"
        blocks: Sequence[Block]
        six = isinstance(action, AssignPrefixes) and action.family == 6  # noqa: PLR2004
        with (
            # That a subnet has no /80 says nothing of its /28s.
            self._asking_subnet("" if six else eni.subnet, kind, number),
            self._calls.intent(f"assign {number} {what} to {eni.id}"),
        ):
            try:
                if isinstance(action, AssignAddresses):
                    blocks = self._calls.ask().assign(eni.id, number)
                else:
                    blocks = self._calls.ask().assign_prefixes(
                        eni.id, number, action.family
                    )
            except EniLimitError:
                # EC2 counts more than we do: find out what it has.
                self._recount_due = True
                raise
        log.info(f"{what} assigned", eni=eni.id, count=len(blocks))
        for block in blocks:
            self._given_back.pop(block, None)
        self._arrivals.expect(eni, blocks)

    @contextmanager
    def _asking_subnet(self, subnet: str, kind: Kind, number: int) -> Generator[None]:
        """Remember whether a subnet had what is asked of it; "" is not remembered."""
        try:
            yield
        except (SubnetFullError, NoFreePrefixError) as error:
            if subnet:
                self._subnets.refused(subnet, kind, number)
            if number == 1:
                self._host.blocked(error)
            raise
        if subnet:
            self._subnets.gave(subnet, kind)

    def _create(self, action: CreateEni) -> None:
        """Make an ENI and attach it, or leave none behind."""
        kind: Kind = "prefix" if action.prefixes else "address"
        self._list_subnets()
        subnet = self._subnets.choose(kind)
        if subnet is None:
            msg = f"no subnet in which ENIs may be made has a free {kind} left"
            raise SubnetFullError(msg)
        device = self._free_device(action.card)
        number = self._subnets.most(subnet, kind, action.prefixes or action.addresses)
        want = (
            evolve(action, prefixes=number)
            if kind == "prefix"
            else evolve(action, addresses=number)
        )
        with (
            self._asking_subnet(subnet, kind, number),
            self._calls.intent(f"create an ENI with {number} of {kind}") as token,
        ):
            eni = self._calls.ask().create_eni(
                subnet,
                self._lookout.groups,
                want,
                token=token,
                description=self._owner.description,
                tags=self._owner.birth_tags(self._today()),
            )
            attachment = None
            try:
                attachment = self._calls.ask().attach(
                    eni.id, self._facts.instance_id, device, action.card
                )
                self._calls.ask().delete_on_termination(eni.id, attachment)
            except EniplugError:
                # Some device of which we do not know is there already.
                self._recount_due = self._recount_due or attachment is None
                self._departures.begin(eni, attachment)
                with suppress(ThrottledError):
                    self._departures.part_with(eni.id)
                raise
        log.info("ENI attached", eni=eni.id, device=device, subnet=subnet)
        made = _placed(eni, device, action.card, attachment)
        self._enis[eni.id] = made
        self._host.remember(tuple(self._enis.values()))
        self._arrivals.expect(made, made.blocks, new=True)

    def _free_device(self, card: int) -> int:
        """The lowest device index of a card that no ENI has; 0 is for primary ENIs."""
        most = self._facts.limits.max_enis_of(card)
        here = (*self._enis.values(), *self._aside.values())
        devices = {eni.device for eni in here if eni.card == card}
        devices |= {one.device for one in self._departures if one.card == card}
        if len(devices - {None}) >= most:
            where = f" on network card {card}" if card else ""
            msg = f"{self._facts.instance_type} may have {most} ENIs{where}"
            raise EniLimitError(msg)
        return next(n for n in counting(1) if n not in devices)

    def _list_subnets(self) -> None:
        """List the zone's subnets anew; without leave to, the primary ENI's serves."""
        if not self._subnets.list_is_due:
            return
        try:
            found = self._calls.ask().describe_subnets(
                self._facts.primary.vpc, self._facts.zone
            )
        except DeniedError as error:
            log.warning("subnets cannot be listed", error=error.message)
            found = ()
        self._subnets.listed(found)

    # -- giving back -------------------------------------------------------------------

    def _give_back(self, action: Unassign | DeleteEni) -> bool:
        if isinstance(action, Unassign):
            return self._unassign(action.eni, action.blocks)
        # An EFA serves pods like any ENI, but was not put there for them.
        if self._enis[action.eni].kind != "interface" or self._departures:
            return False
        if not self._host.release_eni(action.eni):
            return False
        self._arrivals.forget(action.eni)
        self._audit.forget(action.eni)
        gone = self._enis.pop(action.eni)
        self._host.remember(tuple(self._enis.values()))
        log.info("ENI given back", eni=gone.id)
        self._departures.begin(gone, gone.attachment_id, device=gone.device)
        return True

    def _unassign(self, eni_id: str, blocks: Sequence[Block]) -> bool:
        """Give one kind of blocks back, by one call; the rest has its turn later."""
        now = self._clock()
        # The plan counts what arrives: it goes back once it is here.
        if now - self._gave_back < GIVE_BACK_EVERY or eni_id in self._arrivals:
            return False
        kind = _kind_of(blocks[0])
        alike = tuple(block for block in blocks if _kind_of(block) == kind)
        idle = self._host.withdraw(eni_id, alike)
        if not idle:
            return False
        self._gave_back = now
        try:
            with self._calls.intent(f"unassign {len(idle)} blocks of {eni_id}"):
                self._calls.ask().unassign(eni_id, idle)
        except EniplugError:
            # They are still the ENI's: back into the pool, once all agree on it.
            self._recount_due = True
            raise
        self._given_back |= dict.fromkeys(idle, now)
        log.info("given back", eni=eni_id, count=len(idle), first=str(idle[0]))
        return True

    # -- looking whether all is as it should be ----------------------------------------

    def _give_up(self, arrival: Arrival) -> None:
        """Part with an ENI that never came; ask again what a known one has."""
        eni = arrival.eni
        if not arrival.new:
            self._recount_due = True
            return
        self._enis.pop(eni.id, None)
        if self._owner.made(eni):
            self._departures.begin(eni, eni.attachment_id)

    def _tidy(self) -> bool:
        """Go one step further with an ENI that leaves, or see to the others."""
        if self._departures.step():
            return True
        if self._upkeep.step(self._facts.primary.vpc):
            self._host.remember(tuple(self._enis.values()))
            return True
        return self._look()

    def _look(self) -> bool:
        """Look whether IMDS contradicts the pool; EC2 is asked if it does.

        EC2 is asked as well while something is in doubt, and now and then anyway.
        """
        now = self._clock()
        again = self._audit.again_in
        if now - self._asked >= (ASK_EVERY if again is None else again):
            self._recount()
            return True
        if now - self._looked < LOOK_EVERY or self._arrivals.all():
            return False
        self._looked = now
        for eni in self._enis.values():
            shown = self._metadata.blocks(eni.mac) - self._given_back.keys()
            if shown != self._host.blocks(eni.id):
                log.info("IMDS and the pool differ: EC2 is asked", eni=eni.id)
                self._recount()
                return True
        return False

    def _recount(self) -> None:
        """Ask EC2 what there is, after an answer was lost or contradicted us."""
        now = self._clock()
        self._given_back = {
            block: since
            for block, since in self._given_back.items()
            if now - since < SHOWN_AFTER
        }
        found = self._calls.ask().enis(self._facts.instance_id)
        here = {eni.id for view in self._host.views() for eni in view.enis}
        for eni in found:
            if eni.id in self._departures:
                self._departures.learn(eni.id, eni.attachment_id)
            elif eni.id in self._enis:
                self._hold_against(eni, new=eni.id not in here)
            elif eni.id not in self._aside:
                self._meet(eni)
        shown = {eni.id for eni in found}
        for eni_id in [e for e in self._enis if e not in shown]:
            self._miss(eni_id)
        self._host.remember(tuple(self._enis.values()))
        self._recount_due, self._asked = False, now
        self._departures.unsure = False
        if self._calls.in_doubt:
            self._upkeep.sweep_soon()
        self._calls.settled()

    def _hold_against(self, eni: EniFacts, *, new: bool) -> None:
        """Compare what the pool has of an ENI with what EC2 says."""
        self._enis[eni.id] = eni
        has = set(eni.blocks) - self._given_back.keys()
        let_in = self._audit.compare(eni.id, has, self._clock())
        self._arrivals.expect(eni, let_in, new=new)
        if eni.attachment_id and self._owner.left_untied(eni):
            self._calls.ask().delete_on_termination(eni.id, eni.attachment_id)

    def _meet(self, eni: EniFacts) -> None:
        """An ENI that was not known: one that was cut off on its way, or another's."""
        untagged = self._settings.manage_untagged_eni
        serves = eni.card in self._facts.cards
        if self._owner.made(eni):
            self._departures.begin(eni, eni.attachment_id)
        elif serves and is_managed(eni, self._facts.instance_id, untagged):
            log.info("ENI found", eni=eni.id)
            self._enis[eni.id] = eni
            self._upkeep.meet(eni)
            self._arrivals.expect(eni, eni.blocks, new=True)
        else:
            self._aside[eni.id] = eni

    def _miss(self, eni_id: str) -> None:
        """EC2 does not show an ENI: pods keep it, and when none is left it goes."""
        self._audit.compare(eni_id, (), self._clock())
        if self._host.blocks(eni_id) or not self._host.release_eni(eni_id):
            return
        log.warning("ENI is gone", eni=eni_id)
        self._enis.pop(eni_id)
        self._arrivals.forget(eni_id)
        self._audit.forget(eni_id)


def _kind_of(block: Block) -> tuple[int, bool]:
    """What EC2 takes back by one call: one family, addresses or prefixes."""
    return block.version, isinstance(block, IPv4Address | IPv6Address)


def _placed(eni: EniFacts, device: int, card: int, attachment: str) -> EniFacts:
    """Say of a new ENI where it was put; EC2 described it before that."""
    return evolve(
        eni, device=device, card=card, attachment_id=attachment, status="in-use"
    )
