"""What is measured: levels over time, calls, and pods that waited."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from attrs import define, field, frozen

from eniplug.testing.cloud import MemoryCloud

CALLS: Final = {
    "enis": "DescribeNetworkInterfaces",
    "leaked": "DescribeNetworkInterfaces",
    "subnets": "DescribeSubnets",
    "assign": "AssignPrivateIpAddresses",
    "assign_prefixes": "AssignPrivateIpAddresses",
    "unassign": "UnassignPrivateIpAddresses",
    "create_eni": "CreateNetworkInterface",
    "attach": "AttachNetworkInterface",
    "delete_on_termination": "ModifyNetworkInterfaceAttribute",
    "detach": "DetachNetworkInterface",
    "delete_eni": "DeleteNetworkInterface",
    "tag": "CreateTags",
}
"""EC2's names of the calls of the port, all of them IPv4's."""

PREFIX: Final = 16
SAMPLE: Final = 900.0
"""Seconds between the points of a curve."""


@frozen(kw_only=True)
class Levels:
    """What EC2 has given at one moment; an ENI's own address is not counted.

    ``held`` are addresses, those of prefixes among them.
    """

    held: int
    used: int
    prefixes: int
    enis: int

    @classmethod
    def of(cls, cloud: MemoryCloud, used: int) -> Levels:
        """Count what the cloud's ENIs have."""
        enis = cloud.all_enis.values()
        prefixes = sum(len(eni.prefixes) for eni in enis)
        single = sum(len(eni.secondary) for eni in enis)
        held = single + PREFIX * prefixes
        return cls(held=held, used=used, prefixes=prefixes, enis=len(enis))


@define
class Level:
    """One level's mean over time, and its most."""

    area: float = 0.0
    most: int = 0

    def add(self, value: int, seconds: float) -> None:
        """It stood at that value for so long."""
        self.area += value * seconds
        self.most = max(self.most, value)


@define
class Meter:
    """Sums levels up as time passes."""

    held: Level = field(factory=Level)
    used: Level = field(factory=Level)
    prefixes: Level = field(factory=Level)
    enis: Level = field(factory=Level)
    seconds: float = 0.0
    curve: list[tuple[float, int, int]] = field(factory=list)

    def add(self, levels: Levels, seconds: float) -> None:
        """The levels stood so for so long."""
        if seconds <= 0:
            return
        for name in ("held", "used", "prefixes", "enis"):
            getattr(self, name).add(getattr(levels, name), seconds)
        if not self.curve or self.seconds - self.curve[-1][0] >= SAMPLE:
            self.curve.append((self.seconds, levels.held, levels.used))
        self.seconds += seconds


@frozen(kw_only=True)
class Outcome:
    """One policy's run.

    ``calls`` are by EC2's action; ``waited`` counts pods that found no address when
    they started, ``unserved`` those of them that ended without one.
    """

    policy: str
    meter: Meter
    calls: Mapping[str, int]
    pods: int
    waited: int
    unserved: int

    def mean(self, level: Level) -> float:
        """A level's mean over the run."""
        return level.area / self.meter.seconds if self.meter.seconds else 0.0

    def figures(self) -> dict[str, float]:
        """Every figure but the calls by action, under the name that JSON has."""
        meter = self.meter
        return {
            "addresses_held_mean": round(self.mean(meter.held), 2),
            "addresses_held_max": meter.held.most,
            "addresses_in_use_mean": round(self.mean(meter.used), 2),
            "prefixes_mean": round(self.mean(meter.prefixes), 2),
            "prefixes_max": meter.prefixes.most,
            "enis_mean": round(self.mean(meter.enis), 2),
            "enis_max": meter.enis.most,
            "ec2_calls": sum(self.calls.values()),
            "pods": self.pods,
            "pods_waited": self.waited,
            "pods_unserved": self.unserved,
        }
