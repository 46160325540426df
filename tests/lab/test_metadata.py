from __future__ import annotations

import json
from collections.abc import Mapping
from ipaddress import IPv4Address, IPv4Network

import pytest
from attrs import evolve

from eniplug.lab.facts import EniFacts, NodeFacts
from eniplug.lab.faults import Faults
from eniplug.lab.metadata import ROLE, Memory, tree

FIRST = EniFacts(
    id="eni-1",
    mac="02:00:00:00:00:01",
    subnet="subnet-1",
    cidr=IPv4Network("10.0.1.0/24"),
    cidr6=None,
    addresses=(IPv4Address("10.0.1.4"),),
    groups=(("sg-1", "nodes"),),
    instance="i-1",
    device=0,
    attachment="attached",
)
SECOND = evolve(
    FIRST,
    id="eni-2",
    mac="02:00:00:00:00:02",
    addresses=(IPv4Address("10.0.1.5"),),
    device=1,
)
MORE = evolve(SECOND, addresses=(*SECOND.addresses, IPv4Address("10.0.1.6")))
NODE = NodeFacts(
    instance_id="i-1",
    instance_type="m5.large",
    image="ami-1",
    account="123456789012",
    region="us-east-1",
    zone="us-east-1a",
    zone_id="use1-az6",
    vpc="vpc-1",
    vpc_cidrs=(IPv4Network("10.0.0.0/16"), IPv4Network("100.64.0.0/16")),
    vpc_cidrs6=(),
    enis=(FIRST,),
)


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


def remembering(faults: Faults, clock: Clock) -> Memory:
    memory = Memory(faults, clock)
    memory.instance(NODE)
    return memory


def test_changes_are_told_at_once_without_faults(clock: Clock) -> None:
    memory = remembering(Faults(), clock)

    memory.attached(SECOND)
    memory.addresses(MORE)

    assert memory.enis("i-1") == (FIRST, MORE)


def test_a_new_eni_is_told_of_late(clock: Clock) -> None:
    memory = remembering(Faults(imds_lag_s=5), clock)
    memory.attached(SECOND)

    clock.now += 4.9
    before = memory.enis("i-1")
    clock.now += 0.2

    assert before == (FIRST,)
    assert memory.enis("i-1") == (FIRST, SECOND)


def test_new_and_removed_addresses_are_told_of_late(clock: Clock) -> None:
    memory = remembering(Faults(imds_address_lag_s=5), clock)
    memory.attached(SECOND)
    memory.addresses(MORE)

    assert memory.enis("i-1") == (FIRST, SECOND)
    clock.now += 5
    assert memory.enis("i-1") == (FIRST, MORE)
    memory.addresses(SECOND)
    assert memory.enis("i-1") == (FIRST, MORE)
    clock.now += 5
    assert memory.enis("i-1") == (FIRST, SECOND)


def test_addresses_never_come_before_their_eni(clock: Clock) -> None:
    memory = remembering(Faults(imds_lag_s=5), clock)
    memory.attached(SECOND)
    memory.addresses(MORE)

    assert memory.enis("i-1") == (FIRST,)
    clock.now += 5
    assert memory.enis("i-1") == (FIRST, MORE)


def test_a_detached_eni_is_gone_at_once(clock: Clock) -> None:
    memory = remembering(Faults(imds_address_lag_s=5), clock)
    memory.attached(SECOND)
    memory.addresses(MORE)

    memory.detached(evolve(MORE, attachment="detaching"))

    assert memory.enis("i-1") == (FIRST,)
    clock.now += 10
    assert memory.enis("i-1") == (FIRST,)


def test_an_eni_that_is_attached_again_is_told_of_again(clock: Clock) -> None:
    memory = remembering(Faults(), clock)
    memory.attached(SECOND)
    memory.detached(SECOND)

    memory.attached(MORE)

    assert memory.enis("i-1") == (FIRST, MORE)


def test_stale_imds_tells_what_was_until_it_is_cleared(clock: Clock) -> None:
    memory = remembering(Faults(), clock)
    memory.attached(SECOND)
    clock.now += 1
    memory.set_faults(Faults(imds_stale=True))
    clock.now += 1

    memory.addresses(MORE)
    changed = memory.enis("i-1")
    memory.detached(MORE)
    removed = memory.enis("i-1")
    memory.set_faults(Faults())

    assert changed == (FIRST, SECOND)
    assert removed == (FIRST, SECOND)
    assert memory.enis("i-1") == (FIRST,)


def test_a_new_instance_is_known_while_imds_is_stale(clock: Clock) -> None:
    assert remembering(Faults(imds_stale=True), clock).enis("i-1") == (FIRST,)


def test_an_instance_that_is_gone_is_forgotten(clock: Clock) -> None:
    memory = remembering(Faults(), clock)

    memory.instance_gone(NODE)

    assert memory.enis("i-1") == ()


def test_an_eni_that_nobody_has_is_not_remembered(clock: Clock) -> None:
    memory = remembering(Faults(), clock)

    memory.addresses(evolve(SECOND, instance="", device=-1, attachment=""))

    assert memory.enis("i-1") == (FIRST,)
    assert memory.enis("") == ()


def interface(eni: EniFacts, node: NodeFacts = NODE) -> Mapping[str, object]:
    found: object = tree(node, (eni,))
    for name in ("meta-data", "network", "interfaces", "macs", eni.mac):
        assert isinstance(found, dict)
        found = found[name]
    assert isinstance(found, dict)
    return found


def test_an_interface_has_no_key_with_nothing_to_say() -> None:
    assert interface(FIRST) == {
        "device-number": "0",
        "interface-id": "eni-1",
        "local-hostname": "ip-10-0-1-4.ec2.internal",
        "local-ipv4s": "10.0.1.4",
        "mac": "02:00:00:00:00:01",
        "owner-id": "123456789012",
        "security-group-ids": "sg-1",
        "security-groups": "nodes",
        "subnet-id": "subnet-1",
        "subnet-ipv4-cidr-block": "10.0.1.0/24",
        "vpc-id": "vpc-1",
        "vpc-ipv4-cidr-block": "10.0.0.0/16",
        "vpc-ipv4-cidr-blocks": "10.0.0.0/16\n100.64.0.0/16",
    }


def test_prefixes_and_cards_are_told() -> None:
    eni = evolve(
        FIRST,
        prefixes=(IPv4Network("10.0.1.16/28"), IPv4Network("10.0.1.64/28")),
        card=1,
    )

    told = interface(eni)

    assert told["ipv4-prefix"] == "10.0.1.16/28\n10.0.1.64/28"
    assert told["network-card"] == "1"


def test_a_public_address_is_as_it_is_now() -> None:
    now = evolve(NODE, enis=(evolve(FIRST, public=IPv4Address("198.51.100.11")),))

    told = interface(FIRST, now)

    assert told["public-ipv4s"] == "198.51.100.11"
    assert told["ipv4-associations"] == {"198.51.100.11": "10.0.1.4"}


def test_the_roles_credentials_are_what_sdks_take() -> None:
    meta = tree(NODE, (FIRST,))["meta-data"]
    assert isinstance(meta, dict)
    iam = meta["iam"]
    assert isinstance(iam, dict)
    roles = iam["security-credentials"]
    assert isinstance(roles, dict)

    credentials = json.loads(str(roles[ROLE]))

    assert credentials["Code"] == "Success"
    assert credentials["Expiration"] > credentials["LastUpdated"]
