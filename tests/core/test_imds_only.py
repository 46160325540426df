from __future__ import annotations

import pytest
from attrs import evolve

from eniplug.core import imds_only
from eniplug.hooks.capacity import CreateEni
from eniplug.hooks.errors import CloudError
from eniplug.testing.cloud import MemoryCloud, MemoryMetadata


@pytest.fixture
def cloud() -> MemoryCloud:
    return MemoryCloud()


@pytest.fixture
def metadata(cloud: MemoryCloud) -> MemoryMetadata:
    return MemoryMetadata(cloud=cloud)


def attach(cloud: MemoryCloud, device: int) -> str:
    subnet = next(iter(cloud.spaces))
    made = cloud.create_eni(
        subnet, (), CreateEni(), token=f"t{device}", description="", tags={"a": "b"}
    )
    cloud.attach(made.id, cloud.instance_id, device, 0)
    return made.id


def test_enis_come_by_device_index(
    cloud: MemoryCloud, metadata: MemoryMetadata
) -> None:
    attach(cloud, 2)
    attach(cloud, 1)

    found = imds_only.enis(metadata)

    assert [eni.device for eni in found] == [0, 1, 2]
    assert found[0].primary


def test_an_eni_is_an_ordinary_one_without_tags(
    cloud: MemoryCloud, metadata: MemoryMetadata
) -> None:
    attach(cloud, 1)

    _, second = imds_only.enis(metadata)

    assert (second.kind, second.status) == ("interface", "in-use")
    assert second.tags == {}
    assert second.attachment_id is None


def test_an_eni_that_has_no_device_index_yet_is_left_out(
    cloud: MemoryCloud, metadata: MemoryMetadata
) -> None:
    made = attach(cloud, 1)
    cloud.all_enis[made] = evolve(cloud.all_enis[made], device=None)

    assert [eni.primary for eni in imds_only.enis(metadata)] == [True]


def test_without_an_answer_there_is_no_guess(metadata: MemoryMetadata) -> None:
    metadata.error = CloudError("no answer")

    with pytest.raises(CloudError):
        imds_only.enis(metadata)
