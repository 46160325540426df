"""What `eniplug lab up` was asked for."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from attrs import field, frozen


@frozen(kw_only=True)
class Plan:
    """One lab to be: it goes to the supervisor as JSON.

    ``subnets`` is how many more there are for ENIs, ``ipv6`` gives the VPC and its
    nodes IPv6 as well.  ``conflist`` is a conflist's text; None means the one that the
    agent ships.  ``environment`` is for the agents, ``faults`` for the cloud.
    ``agent`` is the command that is started on each node instead of the agent, for
    tests of the lab.
    """

    lab: str = "eniplug"
    nodes: int = 2
    instance_type: str = "m5.large"
    subnets: int = 0
    ipv6: bool = False
    conflist: str | None = None
    environment: Mapping[str, str] = field(factory=dict)
    faults: Mapping[str, Any] = field(factory=dict)
    agent: tuple[str, ...] | None = None
