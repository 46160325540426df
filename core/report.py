"""What the agent tells of itself: `eniplug status` and `eniplug why`.

``why`` walks from a pod to the cause: pod, node, ENI, prefix, subnet, EC2.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from importlib.metadata import version
from typing import Any, Final

from attrs import asdict, frozen

from eniplug.core.parts import Part
from eniplug.core.refusals import Refusal, Refusals
from eniplug.core.settings import Settings
from eniplug.core.state import State
from eniplug.core.subnets import SubnetState
from eniplug.hooks import EniView, Node, Pod
from eniplug.hooks.errors import EniplugError

SHOWN: Final = 5
"""Refusals that status shows, and names that are offered for one that is unknown."""

LEAST_OF_ID: Final = 6
"""Characters of a container id by which a pod may be named."""


@frozen(kw_only=True)
class CloudState:
    """The cloud worker at one moment; ``ago`` and ``pause`` in seconds."""

    trouble: EniplugError | None
    ago: float
    pause: float
    subnets: tuple[SubnetState, ...]
    homes: Mapping[str, str]
    """The subnet of each ENI."""


class Reporter:
    """Reads what there is; changes nothing.  Safe to call from many threads."""

    def __init__(
        self,
        state: State,
        node: Callable[[], Node],
        cloud: Callable[[], CloudState],
        settings: Settings,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._state = state
        self._node = node
        self._cloud = cloud
        self._settings = settings
        self._now = now
        self._refusals = Refusals()

    # -- refusals ----------------------------------------------------------------------

    def refused(self, pod: Pod, error: EniplugError) -> None:
        """Remember that a pod was refused, and why."""
        name = _name(pod.namespace, pod.name, pod.container_id)
        words = f"pod {name}: {error.message}"
        self._refusals.note(pod, error, (words, *self._chain()), self._now())

    # -- answers -----------------------------------------------------------------------

    def answer(self, question: Mapping[str, Any]) -> dict[str, Any]:
        """Answer what is asked: "status", or "why" with a pod or "last" in "about"."""
        if question.get("ask") == "status":
            return self.status()
        return self.why(str(question.get("about", "last")))

    def status(self) -> dict[str, Any]:
        """Tell how the node is."""
        node, cloud, why = self._node(), self._cloud(), self._state.why_blocked()
        enis, waiting = self._state.views()
        links = {eni.id: eni.link for eni in node.enis}
        return {
            "version": version("eniplug"),
            "node": {
                "instance": node.instance_id,
                "type": node.instance_type,
                "zone": node.zone,
            },
            "blocked": None if why is None else _error(why),
            "waiting": waiting,
            "addresses": {
                f"ipv{family}": asdict(self._state.counts(family))
                for family in (4, 6)
                if self._state.counts(family).total
            },
            "enis": [_eni(eni, links.get(eni.id, ""), cloud.homes) for eni in enis],
            "subnets": [asdict(subnet) for subnet in cloud.subnets],
            "quarantined": [
                {**asdict(one), "block": str(one.block)}
                for one in self._state.quarantined()
            ],
            "ec2": {
                "trouble": None if cloud.trouble is None else _error(cloud.trouble),
                "seconds_ago": round(cloud.ago, 1) if cloud.trouble else None,
                "pause": round(cloud.pause, 1),
            },
            "targets": asdict(self._settings.targets),
            "refused": [
                asdict(one)
                for _, one in zip(
                    range(SHOWN), self._refusals.newest_first(), strict=False
                )
            ],
        }

    def why(self, about: str) -> dict[str, Any]:
        """Tell why a pod has no address, or what it has.

        ``pod`` is None when nothing is known of it; ``near`` then names others.
        """
        if about != "last":
            for part in self._state.parts():
                if _matches(about, part.pod):
                    return self._attached(part)
        for refusal in self._refusals.newest_first():
            if about == "last" or _matches(about, refusal):
                return _refused(refusal)
        if about == "last":
            return {"pod": "", "facts": ["no pod was refused since the agent started"]}
        known: list[Pod | Refusal] = [part.pod for part in self._state.parts()]
        names: dict[str, None] = {}
        for one in (*known, *self._refusals.newest_first()):
            names[_name(one.namespace, one.name, one.container_id)] = None
        return {"pod": None, "near": list(names)[:SHOWN]}

    def _attached(self, part: Part) -> dict[str, Any]:
        pod, facts = part.pod, list[str]()
        held = {str(one.block): one for one in self._state.quarantined()}
        reason = ""
        for address in part.addresses:
            lease = self._state.lease_of(address)
            if lease is None:
                continue
            block = str(lease.prefix or address)
            of = f" of prefix {lease.prefix}" if lease.prefix else ""
            eni = lease.eni
            facts.append(f"address {address}{of} of {eni.id} ({eni.link})")
            if block in held:
                reason = "quarantined"
                facts.append(f"{block} is in quarantine: {held[block].reason}")
        name = _name(pod.namespace, pod.name, pod.container_id)
        return {
            "pod": name,
            "reason": reason,
            "message": f"pod {name} is attached: {part.life}",
            "remedy": "recreate the pod: it then gets another address"
            if reason
            else "",
            "facts": [*facts, *(self._chain() if reason else ())],
        }

    # -- facts -------------------------------------------------------------------------

    def _chain(self) -> Iterator[str]:
        """From the node to EC2, a line for each thing that has a say."""
        node, cloud = self._node(), self._cloud()
        enis, waiting = self._state.views()
        counts = self._state.counts(4)
        yield (
            f"node {node.instance_id} ({node.instance_type}): {len(enis)} ENIs; of"
            f" {counts.total} IPv4 addresses {counts.assigned} are assigned,"
            f" {counts.cooling} cool down, {counts.idle} are free, {counts.held} are in"
            f" quarantine; {waiting} pods wait"
        )
        for eni in enis:
            yield from _eni_facts(eni, cloud.homes.get(eni.id, ""))
        for one in self._state.quarantined():
            yield f"{one.block} of {one.eni} is in quarantine: {one.reason}"
        for subnet in cloud.subnets:
            yield from _subnet_facts(subnet)
        if (why := self._state.why_blocked()) is not None:
            yield f"no more addresses can be had: {why.message} ({why.reason})"
        if cloud.trouble is not None:
            again = f"; asked again in {cloud.pause:.1f} s" if cloud.pause else ""
            yield f"EC2, {cloud.ago:.1f} s ago: {cloud.trouble.message}{again}"


def _eni_facts(eni: EniView, subnet: str) -> Iterator[str]:
    primary = "primary, " if eni.primary else ""
    yield (
        f"ENI {eni.id} ({primary}{subnet}): {eni.assigned} assigned, {eni.cooling} cool"
        f" down, {eni.free} free, room for {eni.slots} more"
    )
    for one in eni.prefixes_of(4):
        yield f"prefix {one.prefix} of {eni.id}: {one.assigned} of 16 assigned"


def _subnet_facts(subnet: SubnetState) -> Iterator[str]:
    said = [f"no free {kind}, when it was asked last" for kind in subnet.lacks]
    if subnet.free is not None:
        said.append(f"{subnet.free} free addresses, when it was listed last")
    if said:
        yield f"subnet {subnet.id}: {'; '.join(said)}"


def _eni(eni: EniView, link: str, homes: Mapping[str, str]) -> dict[str, Any]:
    prefixes = eni.prefixes_of(4)
    return {
        "id": eni.id,
        "link": link,
        "primary": eni.primary,
        "subnet": homes.get(eni.id, ""),
        "assigned": eni.assigned,
        "cooling": eni.cooling,
        "free": eni.free,
        "prefixes": len(prefixes),
        "prefixes_unused": sum(one.unused for one in prefixes),
        "places_left": eni.slots,
    }


def _error(error: EniplugError) -> dict[str, str]:
    return {
        "reason": error.reason,
        "message": error.message,
        "remedy": error.details,
    }


def _refused(refusal: Refusal) -> dict[str, Any]:
    name = _name(refusal.namespace, refusal.name, refusal.container_id)
    return {
        "pod": name,
        "at": refusal.at,
        "reason": refusal.reason,
        "message": refusal.message,
        "remedy": refusal.remedy,
        "facts": list(refusal.facts),
    }


def _name(namespace: str, name: str, container_id: str) -> str:
    return f"{namespace}/{name}" if name else container_id


def _matches(about: str, pod: Pod | Refusal) -> bool:
    """Whether a pod is meant: by names, or by the beginning of its container id."""
    if about in {pod.name, f"{pod.namespace}/{pod.name}"}:
        return bool(pod.name)
    return len(about) >= LEAST_OF_ID and pod.container_id.startswith(about)
