"""What `eniplug lab up` was asked for."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from contextlib import suppress
from typing import Any, Final

from attrs import field, frozen


@frozen(kw_only=True)
class Plan:
    """One lab to be: it goes to the supervisor as JSON.

    ``subnets`` is how many more there are for ENIs, ``ipv6`` gives the VPC and its
    nodes IPv6 as well; None: if the conflist or a setting wants it.  ``conflist`` is a
    conflist's text; None means the one that the agent ships.  ``executable`` is the one
    that the nodes get, "native" or "python".  ``environment`` is for the agents,
    ``faults`` for the cloud.
    ``agent`` is the command that is started on each node instead of the agent, for
    tests of the lab.
    """

    lab: str = "eniplug"
    nodes: int = 2
    instance_type: str = "m5.large"
    subnets: int = 0
    ipv6: bool | None = None
    conflist: str | None = None
    executable: str = "native"
    environment: Mapping[str, str] = field(factory=dict)
    faults: Mapping[str, Any] = field(factory=dict)
    agent: tuple[str, ...] | None = None

    @property
    def has_ipv6(self) -> bool:
        """Whether the VPC and its nodes have IPv6."""
        if self.ipv6 is not None:
            return self.ipv6
        told = any(self.environment.get(name) == "true" for name in _SWITCHES)
        return told or any(_wants_ipv6(one) for one in _plugins(self.conflist))


_SWITCHES: Final = ("ENABLE_IPv6", "ENABLE_V6_EGRESS")


def _plugins(conflist: str | None) -> Iterator[Any]:
    """Yield what a conflist's entries of ours list; of a bad one the agent tells."""
    with suppress(ValueError, TypeError, AttributeError):
        for entry in json.loads(conflist or "{}").get("plugins", ()):
            yield from entry.get("plugins", ())


def _wants_ipv6(plugin: Any) -> bool:
    options = plugin if isinstance(plugin, dict) else {"name": plugin}
    family = options.get("family") in {"ipv6", "dual-stack"}
    return family or options.get("name") == "egress-v6"
