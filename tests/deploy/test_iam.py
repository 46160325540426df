"""What EC2 is asked for is what the policies allow: no less, no more."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterable
from pathlib import Path
from typing import Any, Final

import pytest

from eniplug.core import ec2_boto
from eniplug.core.ec2 import CLUSTER_TAG, Limits
from eniplug.core.ec2_boto import Ec2
from eniplug.plugins.prefix_delegation import PrefixDelegation
from kit.benches import bench

IAM: Final = Path(__file__).parents[2] / "deploy/iam"
ENIS: Final = "arn:aws:ec2:*:*:network-interface/*"

CALLED: Final = set(re.findall(r'_asking\("([A-Z]\w+)"\)', inspect.getsource(ec2_boto)))


def policy(name: str) -> list[dict[str, Any]]:
    return list(json.loads((IAM / f"{name}.json").read_text())["Statement"])


def allowed(name: str) -> set[str]:
    return {a.removeprefix("ec2:") for one in policy(name) for a in one["Action"]}


IN_MEMORY: Final = {"subnets": "describe_subnets"}
"""Calls that the twin lists under another name than the port's."""


def actions(methods: Iterable[str]) -> set[str]:
    """The actions that methods of the adapter call, by its source."""
    found: set[str] = set()
    for name in methods:
        source = inspect.getsource(getattr(Ec2, IN_MEMORY.get(name, name)))
        found |= set(re.findall(r'_asking\("([A-Z]\w+)"\)', source))
        for helper in re.findall(r"self\.(_describe|_subnets)\(", source):
            found |= actions([helper])
    return found


def test_the_policies_together_are_what_the_agent_calls() -> None:
    assert {"AssignIpv6Addresses", "AllocateAddress"} <= CALLED
    assert allowed("ipv4") | allowed("ipv6") | allowed("elastic-ip") == CALLED | {
        "CreateTags"  # what is made bears tags from its birth
    }


def test_each_call_is_made_under_the_name_of_its_action() -> None:
    source = inspect.getsource(ec2_boto)
    calls = re.findall(r'_client\.(?:get_paginator\("(\w+)"\)|(\w+)\()', source)
    made = {page or call for page, call in calls} - {"close", "get_paginator"}

    named = {re.sub("_?([a-z0-9]+)", lambda m: m[1].capitalize(), one) for one in made}

    assert named == CALLED


@pytest.mark.parametrize("name", ["ipv4", "ipv6", "elastic-ip"])
def test_only_what_describes_is_allowed_everywhere(name: str) -> None:
    for one in policy(name):
        assert one["Effect"] == "Allow"
        if one["Resource"] == "*":
            assert all(action.startswith("ec2:Describe") for action in one["Action"])
        elif one["Resource"] != ENIS or one["Action"] != ["ec2:CreateTags"]:
            assert one["Condition"], one


@pytest.mark.parametrize("name", ["ipv4", "ipv6", "elastic-ip"])
def test_enis_are_changed_only_where_they_bear_the_clusters_tag(name: str) -> None:
    tag = {f"aws:ResourceTag/{CLUSTER_TAG}": "${CLUSTER_NAME}"}
    born = {f"aws:RequestTag/{CLUSTER_TAG}": "${CLUSTER_NAME}"}

    for one in policy(name):
        if one["Resource"] == ENIS and one["Action"] != ["ec2:CreateTags"]:
            made = one["Action"] == ["ec2:CreateNetworkInterface"]
            assert one["Condition"] == {"StringEquals": born if made else tag}


def test_elastic_ips_are_changed_only_where_they_bear_the_clusters_tag() -> None:
    tag = {f"aws:ResourceTag/{CLUSTER_TAG}": "${CLUSTER_NAME}"}
    born = {f"aws:RequestTag/{CLUSTER_TAG}": "${CLUSTER_NAME}"}
    conditions = {
        action: one["Condition"]["StringEquals"]
        for one in policy("elastic-ip")
        for action in one["Action"]
        if one["Resource"] == "arn:aws:ec2:*:*:elastic-ip/*"
    }

    assert conditions == {
        "ec2:AllocateAddress": born,
        "ec2:CreateTags": {"ec2:CreateAction": "AllocateAddress"},
        "ec2:AssociateAddress": tag,
        "ec2:DisassociateAddress": tag,
        "ec2:ReleaseAddress": tag,
    }


def test_the_ipv4_policy_lets_a_node_grow_and_shrink() -> None:
    one = bench(CLUSTER_NAME="blue", WARM_IP_TARGET="1")
    one.node.waiting = 15
    one.settle()
    one.node.waiting = 0
    one.pass_time(7200)

    called = {str(call[0]) for call in one.cloud.calls}

    assert {"create_eni", "attach", "delete_eni", "unassign", "tag"} <= called
    assert actions(called) - {"UnassignIpv6Addresses"} <= allowed("ipv4")


def test_the_ipv6_policy_lets_a_node_have_its_prefix() -> None:
    limits = Limits(max_enis=3, ipv4_per_eni=10, ipv6_per_eni=10)
    one = bench(limits, CLUSTER_NAME="blue", DISABLE_LEAKED_ENI_CLEANUP="true")
    one.node.planner = PrefixDelegation(family="ipv6")
    one.settle()
    one.pass_time(7200)

    called = {str(call[0]) for call in one.cloud.calls}

    assert {"assign_prefixes", "tag"} <= called
    assert actions(called) - {"AssignPrivateIpAddresses"} <= allowed("ipv6")
