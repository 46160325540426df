"""Repair: what somebody else deletes or changes on the host is put back.

`Watch` says where something may be otherwise.  After a moment of quiet the scopes that
are concerned are compared with the kernel, all in one go, and what they lack is made
again, under the lock that ADD and DEL take.  Attachments that a request is at work on
are looked at afterwards.  What is not heard of is found by a look at everything, now
and then.
"""

from __future__ import annotations

import time
from collections.abc import Collection, Mapping, Sequence
from threading import Condition, Thread
from typing import Any, Final

import structlog

from eniplug.core.attach import Attachments
from eniplug.core.backoff import Backoff
from eniplug.core.kernel import Difference, Kernel
from eniplug.core.kernel.changes import slot
from eniplug.core.kernel.compare import link_of
from eniplug.core.kernel.watch import Heard, TableName, Watch
from eniplug.core.node import NodeScope
from eniplug.core.parts import AttachmentKey, Part
from eniplug.core.state import State
from eniplug.hooks import HOST, MAIN_TABLE, Ifb, NftElement, NftTable, Object, Rule
from eniplug.hooks.errors import EniplugError
from eniplug.hooks.objects import Key

log = structlog.get_logger()

QUIET: Final = 0.02
"""Seconds without a word after which a flush counts as over."""

LIMIT: Final = 0.5
"""Seconds after the first word at which repair begins in any case."""

AUDIT: Final = 60.0
"""Seconds between looks at everything."""

AGAIN: Final = 1.0
"""Seconds until a look at everything after one that failed."""

SHOWN: Final = 8
"""Objects that one line of the log names, at most."""

KERNELS: Final = 2
"""RTPROT_KERNEL: the kernel's own rules carry it."""

THE_KERNELS_RULES: Final = (
    Rule(priority=32766, table=MAIN_TABLE, protocol=KERNELS),
    Rule(priority=32767, table=MAIN_TABLE - 1, protocol=KERNELS),
    Rule(priority=32766, table=MAIN_TABLE, family=6, protocol=KERNELS),
)
"""`main` and `default`, without which a node has no network; ``ip rule flush`` takes
them along, and they are not ours."""


class Repair:
    """Puts back what is lost, on a thread of its own; another one listens.

    Made in the node's namespace.
    With ``main_rules`` the kernel's own rules are put back, too.
    """

    def __init__(
        self,
        kernel: Kernel,
        state: State,
        scope: NodeScope,
        attachments: Attachments,
        *,
        main_rules: bool = False,
        quiet: float = QUIET,
        audit: float = AUDIT,
    ) -> None:
        self._kernel = kernel
        self._state = state
        self._scope = scope
        self._attachments = attachments
        self._extra = THE_KERNELS_RULES if main_rules else ()
        self._quiet = quiet
        self._audit = audit
        self._backoff = Backoff()
        self._suspects: dict[TableName, str] = {}
        self._later: dict[Key, float] = {}
        self._count = 0
        self._at: float | None = None
        self._change = Condition()
        self._heard = Heard()
        self._busy: set[AttachmentKey] = set()
        self._first = self._last = 0.0
        self._next_audit = time.monotonic() + audit
        self._over = False
        self._watch = Watch(self.hear, kernel.nft.is_own)
        self._thread = Thread(target=self._run, name="repair", daemon=True)

    def start(self) -> None:
        """Begin to listen; put back what is missing now, before this returns."""
        self._watch.start()
        self._mend(Heard(everything=True), set())
        self._thread.start()

    def stop(self) -> None:
        """End; what is being put back is."""
        self._watch.stop()
        with self._change:
            self._over = True
            self._change.notify()
        if self._thread.is_alive():
            self._thread.join()

    def hear(self, heard: Heard) -> None:
        """Take note of where something may be otherwise."""
        with self._change:
            self._last = time.monotonic()
            if not self._heard:
                self._first = self._last
                self._change.notify()  # later ones only put it off
            self._heard.add(heard)

    def told(self) -> dict[str, Any]:
        """Say how often this was needed, for `eniplug status`."""
        return {
            "put_back": self._count,
            "seconds_ago": None
            if self._at is None
            else round(time.monotonic() - self._at, 1),
            "fought_over": list(self._backoff.fought()),
        }

    # -- the thread --------------------------------------------------------------------

    def _run(self) -> None:
        while (work := self._wait()) is not None:
            try:
                self._mend(*work)
            except (EniplugError, OSError) as error:
                log.error("repair: everything is looked at again", error=str(error))
                self._next_audit = time.monotonic() + AGAIN
            except Exception:
                log.exception("a bug", thread="repair")

    def _wait(self) -> tuple[Heard, set[AttachmentKey]] | None:
        """Wait until there is something to look at; None at the end."""
        with self._change:
            while not self._over:
                now = time.monotonic()
                if now >= self._due():
                    self._take_what_is_due(now)
                    work, self._heard = (self._heard, self._busy), Heard()
                    self._busy = set()
                    return work
                self._change.wait(self._due() - now)
        return None

    def _due(self) -> float:
        due = min((self._next_audit, *self._later.values()))
        if self._heard or self._busy:
            due = min(due, self._last + self._quiet, self._first + LIMIT)
        return due

    def _take_what_is_due(self, now: float) -> None:
        if now >= self._next_audit:
            self._heard.everything = True
            self._next_audit = now + self._audit
        ripe = {place for place, due in self._later.items() if due <= now}
        self._heard.slots |= ripe
        for place in ripe:
            del self._later[place]

    # -- a look ------------------------------------------------------------------------

    def _mend(self, heard: Heard, keys: set[AttachmentKey]) -> None:
        self._tell_of_the_kernels_rules(heard)
        with self._scope.held() as wanted:
            remade = self._mend_node(wanted, heard)
        if heard.everything or remade:
            # What was added to a table's sets went with it.
            keys = {part.key for part in self._state.parts()}
        else:
            keys = keys | self._state.owners(heard.slots, heard.links)
        if not keys:
            return
        with self._attachments.held(keys) as held:
            self._make_ifbs(held.parts)
            self._mend_objects(
                [
                    one
                    for part in held.parts
                    for one in part.objects
                    if one.side is HOST
                ],
                pods=len(held.parts),
            )
        if held.busy:
            with self._change:
                self._last = self._first = time.monotonic()
                self._busy |= held.busy

    def _make_ifbs(self, parts: Sequence[Part]) -> None:
        """Make ifbs again that are gone: each bears the alias of its own pod."""
        owners = {o: part for part in parts for o in part.objects if isinstance(o, Ifb)}
        for lost in self._kernel.check(tuple(owners), None) if owners else ():
            one = lost.object
            if not isinstance(one, Ifb) or not self._may(one):
                continue
            with self._kernel.lock:
                self._kernel.settle((one,), (one,), {}, alias=owners[one].alias)
            log.warning("put back", count=1, objects=_told([lost]), pods=1)
            self._note([lost])

    def _mend_node(self, wanted: Sequence[Object], heard: Heard) -> bool:
        """Put the node's own objects back; tells whether a table was made anew."""
        wanted = (*self._extra, *wanted)
        remade = self._remake(
            {(o.family, o.name): o for o in wanted if isinstance(o, NftTable)}, heard
        )
        if (heard.everything or heard.node) or any(
            slot(one) in heard.slots or link_of(one) in heard.links for one in wanted
        ):
            done = self._mend_objects(wanted)
            remade |= any(isinstance(one, NftTable) for one in done)
        return remade

    def _remake(self, ours: Mapping[TableName, NftTable], heard: Heard) -> bool:
        """Make tables anew that somebody has been at.

        A rule that is missing in one cannot be seen, only heard of.
        """
        lost = dict.fromkeys(ours, "") if heard.every_table else {}
        known = lost | self._suspects | heard.tables
        self._suspects = {name: by for name, by in known.items() if name in ours}
        ready = {n: by for n, by in self._suspects.items() if self._may(ours[n])}
        if not ready:
            return False
        told = {" ".join(name): by for name, by in ready.items()}
        log.warning("tables are made anew", changed_by=told)
        try:
            with self._kernel.lock:
                tables = [ours[name] for name in ready]
                held = self._scope.elements()
                self._kernel.settle(tables, tables, {}, elements=held, anew=tables)
        except EniplugError as error:
            log.error("not put back", tables=list(told), error=error.message)
            for name in ready:
                self._look_again(ours[name])
        else:
            for name in ready:
                del self._suspects[name]
        self._note(
            [Difference(ours[name], by or "changed") for name, by in ready.items()]
        )
        return True

    def _mend_objects(
        self, wanted: Sequence[Object], pods: int | None = None
    ) -> Sequence[Object]:
        """Compare objects with the kernel, and put back those that may be."""
        lacking = self._kernel.check(wanted, None)
        ready = [d for d in lacking if self._may(d.object)]
        if not ready:
            return ()
        refused = self._put_back([d.object for d in ready])
        done = [d for d in ready if d.object not in refused]
        if done:
            of = {} if pods is None else {"pods": pods}
            log.warning("put back", count=len(done), objects=_told(done), **of)
        self._note(ready)
        return [d.object for d in done]

    def _put_back(self, lost: Sequence[Object]) -> Collection[Object]:
        """All at once, or, where one is refused, one by one; returns the refused."""
        try:
            with self._kernel.lock:
                self._kernel.settle(lost, lost, {}, elements=self._elements(lost))
        except EniplugError:
            return {one for one in lost if self._is_refused(one)}
        return ()

    def _elements(self, lost: Sequence[Object]) -> Sequence[NftElement]:
        """Pods' elements, which a table that is made anew has from the first."""
        tables = any(isinstance(one, NftTable) for one in lost)
        return self._scope.elements() if tables else ()

    def _is_refused(self, one: Object) -> bool:
        try:
            with self._kernel.lock:
                held = self._elements((one,))
                self._kernel.settle((one,), (one,), {}, elements=held)
        except EniplugError as error:
            log.error("not put back", object=str(one), error=error.message)
            self._look_again(one)
            return True
        return False

    # -- fights ------------------------------------------------------------------------

    def _may(self, one: Object) -> bool:
        """Whether an object may be put back now; if not, it is looked at again."""
        if self._backoff.wait(one.key) <= 0:
            return True
        self._look_again(one)
        return False

    def _look_again(self, one: Object) -> None:
        with self._change:
            wait = max(self._backoff.wait(one.key), self._quiet)
            self._later[slot(one)] = time.monotonic() + wait

    def _note(self, changed: Sequence[Difference]) -> None:
        """Count what was put back; say so where somebody keeps changing it."""
        pauses = self._backoff.note((d.object.key, str(d.object)) for d in changed)
        self._count += len(changed)
        self._at = time.monotonic()
        fights = [d for d, pause in zip(changed, pauses, strict=True) if pause]
        if fights:
            log.warning(
                "somebody else keeps changing this",
                count=len(fights),
                objects=_told(fights),
                left_as_it_is_for=max(pauses),
            )

    def _tell_of_the_kernels_rules(self, heard: Heard) -> None:
        gone = [r for r in THE_KERNELS_RULES if slot(r) in heard.slots]
        if not gone or self._extra:
            return
        missing = [d.object for d in self._kernel.check(gone, None)]
        if missing:
            log.error(
                "the kernel's own rules are gone, and not ours to put back",
                rules=[str(one) for one in missing],
                remedy="ip rule add lookup main priority 32766; "
                "ip rule add lookup default priority 32767; "
                "or set ENIPLUG_PUT_BACK_MAIN_RULES=true",
            )


def _told(changed: Sequence[Difference]) -> list[str]:
    return [f"{d.object} was {d.found or 'missing'}" for d in changed[:SHOWN]]
