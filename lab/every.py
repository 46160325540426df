"""The traffic matrix for every way of giving pods addresses and of routing to them."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from eniplug.lab import launch
from eniplug.lab.names import Names
from eniplug.lab.plan import Plan
from eniplug.lab.verify import Finding, Matrix

_ALWAYS: Final = ("host-ports", "bandwidth")

LAYOUTS: Final = ("flat-routes", "policy-routes")


@frozen(kw_only=True)
class Mode:
    """What a conflist says of addresses and of the ways out.

    The instance type has few addresses on an ENI: some pods are of the second one.
    """

    name: str
    addresses: str | Mapping[str, Any]
    egress: Sequence[str] = ("snat",)
    instance_type: str = "t3.nano"

    def conflist(self, layout: str) -> str:
        """Write the conflist."""
        entry = {
            "type": "eniplug",
            "plugins": [self.addresses, "pod-veth", layout, *self.egress, *_ALWAYS],
            "capabilities": {"bandwidth": True, "portMappings": True},
        }
        return json.dumps({"cniVersion": "1.0.0", "name": "vpc", "plugins": [entry]})


def _prefixes(family: str) -> Mapping[str, str]:
    return {"name": "prefix-delegation", "family": family}


MODES: Final = (
    Mode(name="secondary-ip", addresses="secondary-ip", instance_type="t3.small"),
    Mode(name="prefix-delegation", addresses="prefix-delegation"),
    Mode(name="IPv6 + egress-v4", addresses=_prefixes("ipv6"), egress=("egress-v4",)),
    Mode(name="dual stack", addresses=_prefixes("dual-stack")),
    Mode(
        name="IPv4 + egress-v6",
        addresses="prefix-delegation",
        egress=("snat", "egress-v6"),
    ),
)


@frozen(kw_only=True)
class Column:
    """One column of the great table: a conflist, and what was found with it."""

    mode: str
    layout: str
    findings: tuple[Finding, ...]

    @property
    def holds(self) -> bool:
        """Whether all of it does."""
        return all(finding.holds for finding in self.findings)

    def cell(self, title: str) -> bool | None:
        """Whether a line holds; None if nothing was tried that belongs to it."""
        tried = [found.holds for found in self.findings if found.cell == title]
        return all(tried) if tried else None


def columns(
    names: Names, say: Callable[[str], None], modes: Sequence[Mode] = MODES
) -> Iterator[Column]:
    """Bring a lab up for each mode and layout in turn, try all, and take it down.

    Raises LabError when one cannot come up.
    """
    for mode in modes:
        for layout in LAYOUTS:
            say(f"{mode.name}, {layout}")
            plan = Plan(
                lab=names.lab,
                instance_type=mode.instance_type,
                conflist=mode.conflist(layout),
            )
            launch.up(plan, lambda _: None)
            try:
                with Matrix(names) as matrix:
                    found = tuple(matrix.findings())
            finally:
                launch.down(names)
            yield Column(mode=mode.name, layout=layout, findings=found)


def titles(all_columns: Sequence[Column]) -> list[str]:
    """The table's lines, in the order in which they were tried first."""
    found = (finding.cell for column in all_columns for finding in column.findings)
    return list(dict.fromkeys(found))
