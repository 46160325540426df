from __future__ import annotations

from ipaddress import IPv4Address, ip_interface
from threading import Event, Thread

import pytest
from attrs import evolve

from eniplug.core.discover import (
    NO_MANAGE_TAG,
    Facts,
    discover,
    eni_of,
    is_managed,
    look,
)
from eniplug.core.ec2 import INSTANCE_TAG, EniFacts
from eniplug.hooks.capacity import CreateEni
from eniplug.hooks.errors import CancelledError, CloudError
from eniplug.hooks.values import Eni
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata


@pytest.fixture
def cloud() -> MemoryCloud:
    return MemoryCloud()


@pytest.fixture
def metadata(cloud: MemoryCloud) -> MemoryMetadata:
    return MemoryMetadata(cloud=cloud)


def attach(cloud: MemoryCloud, device: int, **tags: str) -> EniFacts:
    made = cloud.create_eni(
        "subnet-1",
        ("sg-1",),
        CreateEni(addresses=2),
        token=f"t{device}",
        description="",
        tags=tags,
    )
    cloud.attach(made.id, cloud.instance_id, device, 0)
    return cloud.all_enis[made.id]


def test_the_node_is_learned_from_both(
    cloud: MemoryCloud, metadata: MemoryMetadata
) -> None:
    second = attach(cloud, 1)

    facts, found = discover(metadata, lambda _: cloud)

    (primary, *_) = cloud.enis(cloud.instance_id)
    assert found is cloud
    assert facts == Facts(
        instance_id=cloud.instance_id,
        instance_type="t3.small",
        region="us-east-1",
        zone="us-east-1a",
        vpc_cidrs=metadata.vpc,
        limits=cloud.instance_limits,
        managed=(primary, second),
    )
    assert facts.primary == primary
    assert facts.limits.eni_slots == 3
    assert facts.limits.max_pods == 11


def test_the_cloud_is_that_of_the_region(
    cloud: MemoryCloud, metadata: MemoryMetadata
) -> None:
    regions: list[str] = []

    def connect(region: str) -> MemoryCloud:
        regions.append(region)
        return cloud

    discover(metadata, connect)

    assert regions == ["us-east-1"]


def test_unmanaged_enis_are_set_aside(
    cloud: MemoryCloud, metadata: MemoryMetadata
) -> None:
    foreign = attach(cloud, 1, **{NO_MANAGE_TAG: "true"})

    facts = look(metadata, cloud, manage_untagged=True)

    assert [eni.device for eni in facts.managed] == [0]
    assert facts.unmanaged == (foreign,)
    assert facts.places_lost() == 1


PRIMARY = EniFacts(
    id="eni-0",
    mac="02:00:00:00:00:01",
    subnet="subnet-1",
    subnet_cidr=ip_interface("10.0.2.0/23").network,  # type: ignore[arg-type]
    address=IPv4Address("10.0.3.7"),
    device=0,
    status="in-use",
)
SECOND = evolve(PRIMARY, id="eni-1", device=1)


@pytest.mark.parametrize(
    ("eni", "untagged", "expected"),
    [
        (PRIMARY, False, True),
        (evolve(PRIMARY, tags={NO_MANAGE_TAG: "true"}), True, True),
        (SECOND, True, True),
        (SECOND, False, False),
        (evolve(SECOND, tags={INSTANCE_TAG: "i-1"}), False, True),
        (evolve(SECOND, tags={INSTANCE_TAG: "i-2"}), False, False),
        (evolve(SECOND, tags={NO_MANAGE_TAG: "true"}), True, False),
        (evolve(SECOND, tags={NO_MANAGE_TAG: "no"}), False, True),
        (
            evolve(SECOND, tags={NO_MANAGE_TAG: "true", INSTANCE_TAG: "i-1"}),
            True,
            False,
        ),
        (evolve(SECOND, card=1), True, True),
        (evolve(SECOND, kind="efa"), True, True),
        (evolve(SECOND, kind="efa-only"), True, False),
        (evolve(SECOND, kind="trunk"), True, False),
        (evolve(SECOND, status="detaching"), True, False),
    ],
)
def test_tags_and_type_say_whether_an_eni_is_managed(
    eni: EniFacts, untagged: bool, expected: bool
) -> None:
    assert is_managed(eni, "i-1", untagged) is expected


def test_an_eni_has_the_table_and_the_gateway_of_aws() -> None:
    assert eni_of(SECOND, "ens6", 5) == Eni(
        id="eni-1",
        link="ens6",
        mac="02:00:00:00:00:01",
        device=1,
        card=0,
        mark=5,
        table=2,
        addresses=(ip_interface("10.0.3.7/23"),),
        gateways=(IPv4Address("10.0.2.1"),),
        subnet="subnet-1",
    )


@pytest.mark.parametrize(
    ("card", "device", "table"), [(0, 0, 254), (0, 4, 5), (1, 0, 10100), (2, 3, 10203)]
)
def test_each_eni_has_a_table_of_its_own(card: int, device: int, table: int) -> None:
    assert eni_of(evolve(SECOND, card=card, device=device), "x", 2).table == table


def test_it_is_asked_again_until_both_answer(
    cloud: MemoryCloud, metadata: MemoryMetadata
) -> None:
    cloud.fail("limits", CloudError("not yet"))

    facts, _ = discover(metadata, lambda _: cloud)

    assert facts.instance_id == cloud.instance_id
    assert len(cloud.named("limits")) == 2


def test_a_stop_ends_the_waiting(metadata: MemoryMetadata, cloud: MemoryCloud) -> None:
    metadata.error = CloudError("no answer from IMDS")
    stop = Event()
    caught: list[CancelledError] = []

    def run() -> None:
        try:
            discover(metadata, lambda _: cloud, stop=stop)
        except CancelledError as error:
            caught.append(error)

    thread = Thread(target=run)
    thread.start()
    stop.set()
    thread.join(5)

    assert not thread.is_alive()
    assert [error.reason for error in caught] == ["cancelled"]


def test_an_instance_without_its_primary_eni_is_not_ready(
    cloud: MemoryCloud, metadata: MemoryMetadata
) -> None:
    metadata.behind = True
    cloud.all_enis.clear()

    with pytest.raises(CloudError, match="primary ENI"):
        look(metadata, cloud, manage_untagged=True)
