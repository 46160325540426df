"""What the agent tells an operator of its node, its addresses, and EC2.

Nothing here asks EC2, IMDS or the kernel: it is what the agent goes by itself.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from importlib.metadata import version
from ipaddress import IPv4Address, IPv6Address
from typing import Any, Final, Protocol

from attrs import asdict

from eniplug.core.entries import Entry
from eniplug.core.parts import Part
from eniplug.core.refusals import Refusal, Refusals
from eniplug.core.settings import Settings
from eniplug.core.state import State, Waiting
from eniplug.core.subnets import SubnetState
from eniplug.hooks import Block, Eni, EniView, Family, Ip, Nic, Node
from eniplug.hooks.errors import EniplugError

SHOWN: Final = 10
"""Refusals that a status shows."""

FAMILIES: Final[tuple[Family, Family]] = (4, 6)


class Ec2Side(Protocol):
    """What the cloud worker tells of EC2; any thread may look.

    ``trouble`` is the last call's error, as long ago as ``trouble_at`` of the
    monotonic clock; ``pause`` the seconds until EC2 is asked again.
    """

    @property
    def trouble(self) -> EniplugError | None:
        """The last error."""
        ...

    @property
    def trouble_at(self) -> float:
        """When it was."""
        ...

    @property
    def pause(self) -> float:
        """What is left of the pause after it."""
        ...

    def subnets(self) -> tuple[SubnetState, ...]:
        """The subnets that the node's ENIs are in, or may be made in."""
        ...


class Reporter:
    """Describes the node at this moment.  Safe to call from many threads.

    ``node`` gives the node as it is now, with the ENIs that have come since the start;
    ``entries`` are those of the agent's conflist that are its own; ``repaired`` tells
    what was put back, ``planned`` what is otherwise than declared, ``plugins`` how each
    plugin has behaved; ``refused`` hears of each refusal.
    """

    def __init__(
        self,
        state: State,
        node: Callable[[], Node],
        worker: Ec2Side,
        settings: Settings,
        entries: Sequence[Entry] = (),
        *,
        clock: Callable[[], float] = time.monotonic,
        repaired: Callable[[], Mapping[str, Any]] = dict,
        planned: Callable[[], dict[str, Any]] = dict,
        plugins: Callable[[], list[dict[str, Any]]] = list,
        refused: Callable[[Refusal], None] = lambda _: None,
    ) -> None:
        self.planned = planned
        self.refusals = Refusals(refused)
        self._state = state
        self._node = node
        self._worker = worker
        self._settings = settings
        self._entries = entries
        self._clock = clock
        self._repaired = repaired
        self._plugins = plugins

    def parts(self) -> tuple[Part, ...]:
        """All pods' parts."""
        return self._state.parts()

    def waiting(self) -> tuple[Waiting, ...]:
        """The pods that wait for an address, in order."""
        return self._state.waiting()

    def why_not_ready(self) -> EniplugError | None:
        """Why no ADD can succeed now: no address is left and none can be had."""
        blocked = self._state.why_blocked()
        counts = [self._state.counts(family) for family in FAMILIES]
        used = [one for one in counts if one.total] or counts
        spent = any(one.idle == 0 and one.cooling == 0 for one in used)
        return blocked if spent else None

    # -- the whole node ----------------------------------------------------------------

    def status(self) -> dict[str, Any]:
        """Say how the node is, in what JSON can hold: `eniplug status --json`."""
        node, (views, waiting) = self._node(), self._state.views()
        enis = {eni.id: eni for eni in node.enis}
        counts = {f"ipv{f}": asdict(self._state.counts(f)) for f in FAMILIES}
        refused = self.refusals.latest()[:SHOWN]
        return {
            "version": version("eniplug"),
            "not_ready": _told(self.why_not_ready()),
            "node": {
                "instance": node.instance_id,
                "type": node.instance_type,
                "zone": node.zone,
            },
            "entries": [
                {"type": one.type, "plugins": list(one.plugins)}
                for one in self._entries
            ],
            "addresses": {**counts, "waiting": waiting},
            "enis": [_row(view, enis.get(view.id)) for view in views],
            "subnets": [
                asdict(one) | {"lacks": list(one.lacks)}
                for one in self._worker.subnets()
            ],
            "elastic_ips": self._state.elastic_ips.counts(),
            "ec2": self._ec2(),
            "quarantined": [
                asdict(one) | {"block": str(one.block)}
                for one in self._state.quarantined()
            ],
            "repair": dict(self._repaired()),
            "refusals": [one.told() for one in refused],
            "targets": asdict(self._settings.targets),
            "plugins": self._plugins(),
        }

    def _ec2(self) -> dict[str, Any] | None:
        """The last trouble with EC2, or None if there was none."""
        told = _told(self._worker.trouble)
        if told is None:
            return None
        ago = round(self._clock() - self._worker.trouble_at, 1)
        return {**told, "seconds_ago": ago, "pause": round(self._worker.pause, 1)}

    # -- as lines ----------------------------------------------------------------------

    def facts(self) -> tuple[str, ...]:
        """What decides whether an ADD gets an address: node, ENIs, subnets, EC2."""
        node = self._node()
        enis = {eni.id: eni for eni in node.enis}
        views, _ = self._state.views()
        return (
            *self._node_lines(node),
            *(_eni_line(view, enis.get(view.id)) for view in views),
            *(_subnet_line(one) for one in self._worker.subnets()),
            *self._ec2_lines(),
        )

    def chain(self, part: Part) -> tuple[str, ...]:
        """What a pod's network hangs on: pod, node, ENI, prefix, subnet, EC2."""
        without = (f"goes without: {one}" for one in part.skipped)
        lines = [_pod_line(part), *without, *self._node_lines(self._node())]
        for nic in part.allocation.nics:
            lines += self._nic_lines(nic)
        lines += self._public_lines(part)
        return (*lines, *self._ec2_lines())

    def _public_lines(self, part: Part) -> Iterator[str]:
        """The pod's public addresses; of one found again without the store as well."""
        for subject, told in self._state.elastic_ips.told.items():
            if subject.attachment != part.key:
                continue
            line = f"public address of {subject.private}: "
            if told.trouble is not None:
                why = told.trouble
                yield f"{line}{why.reason}: {why.message}; {why.details}"
            else:
                yield f"{line}{told.public or 'on its way'}"

    def _node_lines(self, node: Node) -> Iterator[str]:
        _, waiting = self._state.views()
        yield f"node {node.instance_id}: {node.instance_type} in {node.zone}"
        for family in FAMILIES:
            one = self._state.counts(family)
            if one.total or family == FAMILIES[0]:
                yield (
                    f"addresses IPv{family}: {one.assigned} assigned, {one.cooling}"
                    f" cooling, {one.idle} idle, {one.held} held"
                )
        if waiting:
            yield f"pods that wait for an address: {waiting}"
        if (why := self.why_not_ready()) is not None:
            yield f"not ready: {why.reason}: {why.message}; {why.details}"

    def _nic_lines(self, nic: Nic) -> Iterator[str]:
        eni = nic.eni
        if eni is None:
            addresses = ", ".join(str(one.ip) for one in nic.addresses)
            yield f"interface {nic.ifname}: {addresses} is another plugin's, of no ENI"
            return
        views, _ = self._state.views()
        view = next((one for one in views if one.id == eni.id), None)
        if view is None:
            yield f"ENI {eni.id}: not on this node any more"
            return
        yield _eni_line(view, eni)
        blocks = self._state.blocks(eni.id)
        held = {one.block: one.reason for one in self._state.quarantined()}
        for one in nic.addresses:
            block = _block_of(one.ip, blocks)
            yield _block_line(one.ip, block, view, held.get(block) if block else None)
        for subnet in self._worker.subnets():
            if subnet.id == eni.subnet:
                yield _subnet_line(subnet)

    def _ec2_lines(self) -> Iterator[str]:
        told = self._ec2()
        if told is None:
            yield "EC2: no call has failed"
            return
        yield (
            f"EC2: {told['seconds_ago']} s ago: {told['reason']}: {told['message']};"
            f" {told['remedy']}"
        )
        if told["pause"]:
            yield f"EC2: is asked again in {told['pause']} s"


def _told(error: EniplugError | None) -> dict[str, str] | None:
    if error is None:
        return None
    return {"reason": error.reason, "message": error.message, "remedy": error.details}


def _row(view: EniView, eni: Eni | None) -> dict[str, Any]:
    """One ENI; counts are of IPv4, prefixes and places of both families."""
    return {
        "id": view.id,
        "card": view.card,
        "link": eni.link if eni else "",
        "subnet": eni.subnet if eni else "",
        "assigned": view.assigned,
        "cooling": view.cooling,
        "idle": view.free,
        "prefixes_used": sum(not one.unused for one in view.prefixes),
        "prefixes": len(view.prefixes),
        "places_left": {"ipv4": view.slots, "ipv6": view.slots6},
    }


def _pod_line(part: Part) -> str:
    pod, nics = part.pod, part.allocation.nics
    addresses = ", ".join(str(one.ip) for nic in nics for one in nic.addresses)
    links = ", ".join(nic.host_ifname for nic in nics)
    return (
        f"pod {pod.namespace}/{pod.name}, container {pod.container_id}, {pod.ifname}:"
        f" {part.life}, {addresses or 'no address'}, host link {links or 'none'}"
    )


def _eni_line(view: EniView, eni: Eni | None) -> str:
    row = _row(view, eni)
    prefixes = (
        f", prefixes {row['prefixes_used']} used of {row['prefixes']}"
        if view.prefixes
        else ""
    )
    where = f", network card {view.card}" if view.card else ""
    return (
        f"ENI {view.id}: link {row['link'] or 'unknown'}{where},"
        f" {view.assigned} assigned,"
        f" {view.cooling} cooling, {view.free} idle{prefixes}, places left {view.slots}"
    )


def _block_of(address: Ip, blocks: frozenset[Block]) -> Block | None:
    """The single address or prefix of an ENI that an address comes from."""
    if address in blocks:
        return address
    prefixes = (b for b in blocks if not isinstance(b, IPv4Address | IPv6Address))
    return next((b for b in prefixes if address in b), None)


def _block_line(
    address: Ip, block: Block | None, view: EniView, held: str | None
) -> str:
    used = next((p for p in view.prefixes if p.prefix == block), None)
    if block is None:
        line = f"address {address}: no longer the ENI's, as EC2 has it"
    elif block == address:
        line = f"address {address}: a single one"
    elif used is None:
        line = f"prefix {block}: of {address}"
    else:
        line = (
            f"prefix {block}: {used.assigned} assigned, {used.cooling} cooling,"
            f" {used.idle} idle"
        )
    return line if held is None else f"{line}; in quarantine: {held}"


def _subnet_line(subnet: SubnetState) -> str:
    free = "not listed" if subnet.free is None else f"{subnet.free} free when listed"
    none_left = {"address": "addresses", "prefix": "prefixes"}
    lacks = " and ".join(none_left[kind] for kind in subnet.lacks)
    return f"subnet {subnet.id}: {free}" + (f"; had no {lacks} left" if lacks else "")
