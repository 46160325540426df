"""What ADD, DEL, CHECK and GC do to attachments.

ADD: hooks; commit the part as pending; kernel; answer; commit it as live.  DEL removes
what the store says was applied, whatever the configuration is today.  Hooks, the pool
and the store stay outside the kernel lock, so a slow plugin or an empty pool holds
nobody else up.
"""

from __future__ import annotations

import time
from collections.abc import (
    Callable,
    Collection,
    Generator,
    Iterable,
    Mapping,
    Sequence,
)
from contextlib import AbstractContextManager, ExitStack, contextmanager
from functools import partial
from typing import Any

import structlog
from attrs import evolve, frozen

from eniplug.core.chain import Chain
from eniplug.core.crew import aside
from eniplug.core.kernel import Kernel, LinkInfo
from eniplug.core.locks import KeyLocks
from eniplug.core.parts import AttachmentKey, Life, Part
from eniplug.core.public import declared, is_refusal
from eniplug.core.result import allocation_of, result_of
from eniplug.core.state import Desk, State, Waiter, cancelled
from eniplug.hooks import Allocation, Keep, Node, Pod, Veth
from eniplug.hooks.errors import (
    CheckError,
    EniLimitError,
    EniplugError,
    InterfaceTakenError,
    KernelError,
    NoFreePrefixError,
    PluginError,
    PoolEmptyError,
    StoreError,
    UnknownContainerError,
)

log = structlog.get_logger()

GC_PATIENCE = 60.0
"""Seconds between the two GCs that it takes to remove a pod whose link still exists."""

LOOK = 0.25
"""Seconds after which a waiting ADD looks whether its caller is still there."""


@frozen(kw_only=True)
class Request:
    """One request for an attachment.

    ``netns`` is the descriptor of the pod's namespace, or None when the runtime gave
    none that exists; ``sandbox`` its path as the runtime named it.  ``here`` tells
    whether the caller still waits for the answer.
    """

    id: bytes
    pod: Pod
    chain: Chain | None
    plugins: tuple[str, ...]
    netns: int | None
    sandbox: str
    here: Callable[[], bool] = lambda: True

    @property
    def key(self) -> AttachmentKey:
        """The attachment that it is about."""
        return AttachmentKey(self.pod.container_id, self.pod.ifname)


@frozen
class Held:
    """Running parts that stay as they are; somebody is at work on the ``busy``."""

    parts: Sequence[Part]
    busy: set[AttachmentKey]


class Attachments:
    """Carries requests out.  Safe to call from many threads.

    ``buried`` is called when a link waits for the reaper.  ``told`` names the chain
    that hears of a part that was removed although no DEL asked for it just now.
    """

    def __init__(
        self,
        state: State,
        kernel: Kernel,
        node: Callable[[], Node],
        buried: Callable[[], None],
        *,
        told: Callable[[Part], Chain | None] = lambda _: None,
        patience: float = 30.0,
        gc_strict: bool = False,
    ) -> None:
        self._state = state
        self._kernel = kernel
        self._node = node
        self._buried = buried
        self._told = told
        self._patience = patience
        self._gc_strict = gc_strict
        self._locks = KeyLocks()
        self._doubted: dict[AttachmentKey, float] = {}

    # -- ADD ---------------------------------------------------------------------------

    def add(self, request: Request) -> Part:
        """Attach a pod; returns its live part.

        The same request id again gets the same part.  Raises EniplugError, after which
        nothing of it is left.
        """
        assert request.chain is not None
        assert request.netns is not None
        key = request.key
        with self._locks.hold(key):
            parts = self._state.parts_of(key)
            for part in parts:
                if part.life is not Life.LIVE:
                    self._remove(part, request.netns)
                elif set(part.plugins) & set(request.plugins):
                    if part.request == request.id.hex():
                        return part
                    msg = (
                        f"container {part.pod.container_id} has an interface "
                        f"{part.pod.ifname!r} already"
                    )
                    raise InterfaceTakenError(msg)
            siblings = [part for part in parts if part.life is Life.LIVE]
            return self._add(request, request.chain, request.netns, siblings)

    def _add(
        self, request: Request, chain: Chain, netns: int, siblings: Sequence[Part]
    ) -> Part:
        slot = siblings[0].pod.slot if siblings else self._state.open_slot()
        pod = evolve(request.pod, slot=slot)
        desk: Desk | None = None
        part: Part | None = None
        applied = False
        try:
            if chain.address_plugins:
                allocation, desk = self._allocate(chain, pod, request.here)
            else:
                allocation = _given(pod, siblings)
            skipped: list[PluginError] = []
            objects = chain.declare(pod, allocation, self._node(), skipped.append)
            result = result_of(objects, pod, allocation, request.sandbox)
            part = self._state.begin(
                Part(
                    pod=pod,
                    plugins=request.plugins,
                    allocation=allocation,
                    leased=desk is not None,
                    objects=objects,
                    skipped=tuple(error.message for error in skipped),
                    request=request.id.hex(),
                    made=time.time(),
                    result=result,
                )
            )
            self._await_elastic_ips(part, request.here)
            with self._kernel.lock:
                foreign = self._kernel.apply(part.objects, netns, part.alias)
            applied = True
            self._kernel.forget(part.objects)
            if foreign or not _links_of(part):
                return self._state.live(part, result, foreign)
            return self._state.made(part)
        except BaseException:
            if part is not None:
                self._undo(part, netns, applied=applied)
            else:
                if desk is not None:
                    desk.give_back()
                if not siblings:
                    self._state.close_slot(slot)
            raise

    def _await_elastic_ips(self, part: Part, here: Callable[[], bool]) -> None:
        """Wait for the public addresses without which the pod is not to begin."""
        if not [one for one in declared(part) if one.waited]:
            return
        end = time.monotonic() + self._patience
        with self._state.standing_by(part.key) as waiter:
            while error := self._state.elastic_ips.trouble(part):
                if is_refusal(error) or time.monotonic() > end:
                    raise error
                with aside():
                    waiter.turn.wait(LOOK)
                waiter.turn.clear()
                if not waiter.cancelled and not here():
                    waiter.cancelled = "the caller hung up"
                if waiter.cancelled:
                    raise cancelled(waiter)

    def _undo(self, part: Part, netns: int, *, applied: bool) -> None:
        """Leave nothing of a part that never came to live.

        What the store cannot be told now, because it is full, the sweep tells it.
        """
        if applied:
            with self._kernel.lock:
                self._kernel.remove(part.objects, netns)
        try:
            self._state.aborted(part)
        except StoreError as error:
            log.error("left to the sweep", error=error.message, **_names(part))

    def _allocate(
        self, chain: Chain, pod: Pod, here: Callable[[], bool]
    ) -> tuple[Allocation, Desk]:
        """Ask the chain for addresses; wait for the pool when it is empty."""
        desk = Desk(self._state, None)
        try:
            return self._ask(chain, pod, desk), desk
        except PoolEmptyError:
            desk.give_back()
        except BaseException:
            desk.give_back()
            raise
        waiter = self._state.queue(
            AttachmentKey(pod.container_id, pod.ifname),
            every_card=desk.every_card,
            pod=(pod.namespace, pod.name),
        )
        try:
            return self._wait(chain, pod, waiter, here)
        finally:
            self._state.leave(waiter)

    def _wait(
        self, chain: Chain, pod: Pod, waiter: Waiter, here: Callable[[], bool]
    ) -> tuple[Allocation, Desk]:
        end = time.monotonic() + self._patience
        while True:
            with aside():
                waiter.turn.wait(LOOK)
            waiter.turn.clear()
            if waiter.cancelled:
                raise cancelled(waiter)
            if not here():
                waiter.cancelled = "the caller hung up"
                raise cancelled(waiter)
            desk = Desk(self._state, waiter)
            try:
                return self._ask(chain, pod, desk), desk
            except PoolEmptyError as error:
                desk.give_back()
                why = self._state.why_blocked()
                full = isinstance(why, EniLimitError | NoFreePrefixError)
                # What stops the first may not stop those behind it.
                full = full and self._state.is_first(waiter)
                hopeless = full and not self._state.counts().cooling
                if hopeless or time.monotonic() > end:
                    raise why or error from error
            except BaseException:
                desk.give_back()
                raise

    def _ask(self, chain: Chain, pod: Pod, desk: Desk) -> Allocation:
        allocation = chain.allocate(pod, desk)
        desk.close()
        if allocation is None:
            names = ", ".join(chain.address_plugins)
            msg = f"no plugin gave the pod an address; asked were: {names}"
            raise PoolEmptyError(msg)
        desk.keep({a.ip for nic in allocation.nics for a in nic.addresses})
        return allocation

    # -- DEL ---------------------------------------------------------------------------

    def delete(self, request: Request) -> tuple[Part, ...]:
        """Take away what the entry added; returns the parts that went.

        An entry with an address plugin removes all that is left of the attachment, any
        other the parts that share a plugin with it.  Nothing there is success.
        """
        key = request.key
        with self._hold_for_del(key):
            parts = self._state.parts_of(key)
            mine = [p for p in parts if set(p.plugins) & set(request.plugins)]
            addresses = request.chain is not None and request.chain.address_plugins
            going = parts if addresses or any(p.leased for p in mine) else mine
            for part in reversed(going):
                self._remove(part, request.netns)
            return tuple(going)

    def bury(self, key: AttachmentKey, before: float) -> bool:
        """Carry out a DEL that was left while the agent was away.

        Only what was made before it was left goes. Returns whether there was anything.
        """
        with self._hold_for_del(key):
            going = [p for p in self._state.parts_of(key) if p.made < before]
            for part in reversed(going):
                self._remove(part, None)
                self._tell(part)
            return bool(going)

    def _hold_for_del(self, key: AttachmentKey) -> AbstractContextManager[None]:
        """Hold an attachment, whose ADD ends early if it waits or is about to."""
        cancel = partial(self._state.cancel, key, "the pod was deleted")
        return self._locks.hold(key, cancel)

    def _remove(self, part: Part, netns: int | None) -> None:
        part = self._state.dying(part)
        with self._kernel.lock:
            wrong = self._kernel.remove(part.objects, netns)
        self._kernel.forget(part.objects)
        if wrong:
            msg = f"container {part.pod.container_id}: {'; '.join(wrong)}"
            raise KernelError(msg)
        self._state.gone(part)
        self._doubted.pop(part.key, None)
        self._buried()

    def release(self, part: Part, chain: Chain) -> None:
        """Tell a chain that a part's addresses went back, and keep what it wants kept.

        Between the two they cool.  A wish that cannot be written down is only logged.
        """
        said = chain.observe("release_ip", pod=part.pod, allocation=part.allocation)
        wish = next((one for one in said if isinstance(one, Keep)), None)
        if wish is not None:
            try:
                self._state.keep(part.addresses, wish)
            except StoreError as error:
                log.warning("not kept", error=error.message, **_names(part))

    def _tell(self, part: Part) -> None:
        """Tell the plugins of a part that went without a DEL of its own."""
        chain = self._told(part)
        if chain is not None:
            self.release(part, chain)
            chain.observe("detached", pod=part.pod, allocation=part.allocation)

    # -- CHECK, GC ---------------------------------------------------------------------

    def check(self, request: Request) -> None:
        """Compare an attachment with the kernel.

        Raises CheckError that names what is missing or different,
        UnknownContainerError when there is no such attachment.
        """
        with self._locks.hold(request.key):
            mine = [
                part
                for part in self._state.parts_of(request.key)
                if part.life is Life.LIVE and set(part.plugins) & set(request.plugins)
            ]
            if not mine:
                msg = f"nothing is known of container {request.key.container_id}"
                raise UnknownContainerError(f"{msg}, interface {request.key.ifname}")
            with self._kernel.lock:
                found = [
                    difference
                    for part in mine
                    for difference in self._kernel.check(part.objects, request.netns)
                ]
            standing = self._state.elastic_ips
            found += (d for part in mine for d in standing.differences(part))
        if found:
            words = "; ".join(
                f"{d.object} is {'missing' if d.found is None else d.found}"
                for d in found
            )
            raise CheckError(words)

    def collect(
        self, network: str, valid: Collection[AttachmentKey], arrived: float
    ) -> tuple[Part, ...]:
        """Remove the network's attachments that the runtime no longer knows (GC).

        One whose host link still exists is kept for a second GC at least a minute
        later, unless ``--gc-strict`` was given. Returns the parts that went. Raises
        KernelError, after all that could be removed, when one could not.
        """
        with self._kernel.lock:
            links = self._kernel.links()
        gone: list[Part] = []
        wrong: list[str] = []
        for part in self._state.parts():
            stale = (
                part.pod.network == network
                and part.life is Life.LIVE
                and part.made < arrived
                and part.key not in valid
            )
            if not stale:
                continue
            if not self._gc_strict and is_alive(part, links):
                since = self._doubted.setdefault(part.key, arrived)
                if arrived - since < GC_PATIENCE:
                    log.warning("kept until a second GC", **_names(part))
                    continue
            with self._locks.hold(part.key):
                if part in self._state.parts_of(part.key):
                    try:
                        self._remove(part, None)
                    except EniplugError as error:
                        wrong.append(error.message)
                    else:
                        self._tell(part)
                        gone.append(part)
        if wrong:
            raise KernelError("; ".join(wrong))
        return tuple(gone)

    # -- the agent's own ---------------------------------------------------------------

    def catch_up(self) -> None:
        """Have the store know which parts are live; if it cannot, the next time."""
        try:
            self._state.catch_up()
        except StoreError as error:
            log.error("the store is behind", error=error.message)

    def recover(self) -> None:
        """Remove what a crash cut off: dying parts, and pending ones that are not made.

        Called before the socket is opened.  What running pods lack on the host is the
        repair's business.
        """
        with self._kernel.lock:
            links = self._kernel.links()
        for part in self._state.parts():
            if part.life is Life.PENDING and self._is_made(part, links):
                self._kernel.forget(part.objects)
                self._state.made(part)
                log.info("the crash cut off an answer", **_names(part))
            elif part.life is not Life.LIVE:
                log.info(
                    "removing what a crash cut off", life=part.life, **_names(part)
                )
                self._try_remove(part)
        self.catch_up()

    def _is_made(self, part: Part, links: Mapping[str, LinkInfo]) -> bool:
        """Whether the kernel was done with a pending part, and refused nothing of it.

        Its links are raised after all that is in the pod.  What is missing on the host
        repair makes; what is there with another value somebody else has made.
        """
        found = [links.get(name) for name in _links_of(part)]
        if not found or part.result is None:  # an earlier agent's has no result yet
            return False
        if not all(link and link.up and link.alias == part.alias for link in found):
            return False
        return all(d.found is None for d in self._kernel.check(part.objects, None))

    @contextmanager
    def held(self, keys: Iterable[AttachmentKey]) -> Generator[Held]:
        """Hold those attachments that nobody is at work on; others are not waited for.

        So repair never waits for a request, and never undoes what one is doing.
        """
        with ExitStack() as stack:
            busy = {
                key for key in keys if not stack.enter_context(self._locks.attempt(key))
            }
            live = [
                part
                for key in keys
                if key not in busy
                for part in self._state.parts_of(key)
                if part.life is Life.LIVE
            ]
            links = self._kernel.links() if live else {}
            yield Held([part for part in live if is_alive(part, links)], busy)

    def _try_remove(self, part: Part) -> None:
        """Remove a part that nobody waits for; what resists is tried again later."""
        try:
            self._remove(part, None)
        except EniplugError as error:
            log.error("not removed", error=error.message, **_names(part))
        else:
            if part.life is not Life.PENDING:
                self._tell(part)

    def sweep(
        self, absent: Mapping[int, float], after: float, *, moved: bool = True
    ) -> dict[int, float]:
        """Remove parts whose host link has been gone for ``after`` seconds.

        So are those removed whose ADD or DEL failed, or was cut off, that long ago.
        Takes and returns since when (monotonic seconds) each part's link is absent.
        If none is, and no link has ``moved`` since, all are there still.
        """
        now = time.monotonic()
        look = moved or bool(absent)
        links: Mapping[str, LinkInfo] = {}
        if look:
            with self._kernel.lock:
                links = self._kernel.links()
        still: dict[int, float] = {}
        for part in self._state.parts():
            if part.life is Life.LIVE and (not look or is_alive(part, links)):
                continue
            since = absent.get(part.id, now)
            if now - since < after:
                still[part.id] = since
                continue
            with self._locks.hold(part.key):
                if part in self._state.parts_of(part.key):
                    log.info("swept", life=part.life, **_names(part))
                    self._try_remove(part)
        return still


def _given(pod: Pod, siblings: Iterable[Part]) -> Allocation:
    """What an entry in front of this one gave the pod.

    An entry of ours is known better from the store than from its result; both must be
    there, as the result is what this entry passes on.
    """
    ours = (part.allocation for part in siblings if part.leased and pod.prev)
    return next(ours, None) or allocation_of(pod)


def _links_of(part: Part) -> list[str]:
    """The host links that a part has made; none where another plugin made them."""
    return [one.name for one in part.objects if isinstance(one, Veth)]


def is_alive(part: Part, links: Mapping[str, Any]) -> bool:
    """Whether the attachment's host link is there and, where it is ours, marked so."""
    nic = part.allocation.nics[0]
    link = links.get(nic.host_ifname)
    if link is None:
        return False
    return not part.leased or link.alias == part.alias


def _names(part: Part) -> dict[str, str]:
    return {
        "container": part.pod.container_id,
        "ifname": part.pod.ifname,
        "pod": f"{part.pod.namespace}/{part.pod.name}",
    }
