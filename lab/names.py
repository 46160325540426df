"""How a lab's things are called: one lab's name is the prefix of all of them.

::

    NAME-vpc  NAME-internet  NAME-node1 …  NAME-pod-POD …   network namespaces
    /run/NAME-lab/                                          everything that is a file

Whoever knows the name can therefore find, and remove, all that a lab has left.
"""

from __future__ import annotations

import re
from pathlib import Path

from attrs import Attribute, field, frozen

from eniplug.lab.errors import LabError

_LABEL = re.compile(r"[a-z0-9]([a-z0-9-]{0,38}[a-z0-9])?")
_POD = re.compile(r"[a-z0-9]([a-z0-9.-]{0,61}[a-z0-9])?")
_OTHERS = re.compile(r"internet|vpc|node\d+")


def _lab(_: object, __: Attribute[str], value: str) -> None:
    """Refuse names under which two labs could take each other's namespaces."""
    if not _LABEL.fullmatch(value):
        msg = f"{value!r} is no name for a lab"
        raise LabError(msg, "use lower-case letters, digits and hyphens (at most 40)")
    if "-pod-" in f"{value}-":
        msg = f"{value!r} is no name for a lab: its namespaces would look like pods"
        raise LabError(msg, "leave out the word 'pod'")


@frozen
class Names:
    """The names of one lab."""

    lab: str = field(validator=_lab)

    @property
    def run(self) -> Path:
        """The directory of the lab's files."""
        return Path(f"/run/{self.lab}-lab")

    @property
    def control(self) -> Path:
        """The socket on which the supervisor takes commands."""
        return self.run / "control.sock"

    @property
    def vpc(self) -> str:
        """The namespace that is the VPC's router."""
        return f"{self.lab}-vpc"

    @property
    def internet(self) -> str:
        """The namespace of the host on the internet."""
        return f"{self.lab}-internet"

    def node(self, number: int) -> str:
        """Return the namespace of a node; nodes count from 1."""
        return f"{self.lab}-node{number}"

    def pod(self, name: str) -> str:
        """Return the namespace of a pod.

        Raises LabError when a pod cannot have that name.
        """
        if not _POD.fullmatch(name) or _OTHERS.fullmatch(name):
            msg = f"{name!r} is no name for a pod"
            remedy = (
                "use lower-case letters, digits, dots and hyphens, and no node's name"
            )
            raise LabError(msg, remedy)
        return f"{self.lab}-pod-{name}"

    def owns(self, namespace: str) -> bool:
        """Tell whether a namespace is this lab's."""
        kinds = r"vpc|internet|node\d+|pod-.+"
        return bool(re.fullmatch(f"{re.escape(self.lab)}-({kinds})", namespace))
