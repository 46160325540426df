from __future__ import annotations

from typing import Any

import pytest

from eniplug.cni.errors import CniError
from eniplug.cni.versions import (
    VERSIONS,
    at_least,
    check_version,
    from_version,
    to_version,
    version_answer,
)

OURS: dict[str, Any] = {
    "cniVersion": "1.1.0",
    "interfaces": [
        {"name": "eni1", "mac": "0a:00:00:00:00:01", "mtu": 9001},
        {
            "name": "eth0",
            "mac": "0a:00:00:00:00:02",
            "sandbox": "/run/netns/pod",
            "mtu": 9001,
            "socketPath": "/run/vhost",
            "pciID": "0000:00:05.0",
        },
    ],
    "ips": [
        {"address": "10.0.1.5/32", "gateway": "169.254.1.1", "interface": 1},
        {"address": "2600:1f13::5/128", "interface": 1},
    ],
    "routes": [
        {
            "dst": "0.0.0.0/0",
            "gw": "169.254.1.1",
            "mtu": 1500,
            "advmss": 1460,
            "priority": 10,
            "table": 254,
            "scope": 0,
        }
    ],
    "dns": {"nameservers": ["10.0.0.2"]},
}

OF_1_0: dict[str, Any] = {
    "interfaces": [
        {"name": "eni1", "mac": "0a:00:00:00:00:01"},
        {"name": "eth0", "mac": "0a:00:00:00:00:02", "sandbox": "/run/netns/pod"},
    ],
    "ips": OURS["ips"],
    "routes": [{"dst": "0.0.0.0/0", "gw": "169.254.1.1"}],
    "dns": OURS["dns"],
}

OLD_IPS: list[dict[str, Any]] = [
    {**OURS["ips"][0], "version": "4"},
    {**OURS["ips"][1], "version": "6"},
]

FORMS: dict[str, dict[str, Any]] = {
    "0.3.0": {**OF_1_0, "ips": OLD_IPS, "cniVersion": "0.3.0"},
    "0.3.1": {**OF_1_0, "ips": OLD_IPS, "cniVersion": "0.3.1"},
    "0.4.0": {**OF_1_0, "ips": OLD_IPS, "cniVersion": "0.4.0"},
    "1.0.0": {**OF_1_0, "cniVersion": "1.0.0"},
    "1.1.0": OURS,
}


def refusal(value: Any, version: str = "1.0.0") -> tuple[int, str]:
    with pytest.raises(CniError) as caught:
        from_version(value, version, "prevResult")
    return caught.value.code, caught.value.message


def test_the_table_of_forms_has_every_version() -> None:
    assert tuple(FORMS) == VERSIONS


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_has_exactly_the_fields_of_the_version_asked_for(version: str) -> None:
    assert to_version(OURS, version) == FORMS[version]


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_of_any_version_is_read_into_our_form(version: str) -> None:
    known = {**FORMS["1.0.0"], "cniVersion": "1.1.0"}

    assert from_version(FORMS[version], version) == (
        OURS if version == "1.1.0" else known
    )


@pytest.mark.parametrize("version", VERSIONS)
def test_a_result_comes_back_the_same_in_its_own_version(version: str) -> None:
    result = FORMS[version]

    assert to_version(from_version(result, version), version) == result


def test_conversion_leaves_the_original_alone() -> None:
    before = repr(OURS)

    for version in VERSIONS:
        to_version(OURS, version)
        from_version(OURS, version)

    assert repr(OURS) == before


@pytest.mark.parametrize("version", VERSIONS)
def test_an_empty_result_stays_empty(version: str) -> None:
    assert from_version({}, version) == {"cniVersion": "1.1.0"}
    assert to_version({"cniVersion": "1.1.0"}, version) == {"cniVersion": version}


def test_what_go_writes_as_null_is_left_out() -> None:
    result = {"interfaces": None, "ips": None, "routes": None, "dns": None}

    ours = from_version(result, "1.0.0")

    assert {"interfaces", "ips", "routes"}.isdisjoint(ours)
    to_version(ours, "0.4.0")


def test_unknown_fields_are_kept() -> None:
    result = {"ips": [{"address": "10.0.0.1/24", "vendor": {"a": 1}}], "vendor": [2]}

    assert from_version(result, "1.0.0") == {**result, "cniVersion": "1.1.0"}


@pytest.mark.parametrize(
    ("result", "place"),
    [
        (None, "prevResult: wants an object, not None"),
        ([], "prevResult: wants an object, not []"),
        ("x", "prevResult: wants an object, not 'x'"),
        ({"ips": {}}, "prevResult.ips: wants a list, not {}"),
        ({"ips": "10.0.0.1"}, "prevResult.ips: wants a list, not '10.0.0.1'"),
        ({"ips": ["10.0.0.1"]}, "prevResult.ips[0]: wants an object"),
        ({"ips": [{}]}, "prevResult.ips[0].address: wants a string, not None"),
        ({"ips": [{"address": 1}]}, "prevResult.ips[0].address: wants a string, not 1"),
        (
            {"ips": [{"address": "10.0.0.1/24"}, {"address": None}]},
            "prevResult.ips[1].address: wants a string, not None",
        ),
        (
            {"ips": [{"address": "10.0.0.1/24", "interface": "0"}]},
            "prevResult.ips[0].interface: wants a number, not '0'",
        ),
        (
            {"ips": [{"address": "10.0.0.1/24", "interface": True}]},
            "prevResult.ips[0].interface: wants a number, not True",
        ),
        ({"interfaces": [{"mac": "x"}]}, "prevResult.interfaces[0].name: wants"),
        ({"interfaces": 7}, "prevResult.interfaces: wants a list, not 7"),
        ({"routes": [{"gw": "10.0.0.1"}]}, "prevResult.routes[0].dst: wants"),
        ({"dns": "10.0.0.2"}, "prevResult.dns: wants an object"),
    ],
)
def test_a_wrong_shape_is_named_with_its_place(result: Any, place: str) -> None:
    code, message = refusal(result)

    assert code == 6
    assert message.startswith(place)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_version_is_itself(version: str) -> None:
    assert check_version(version) == version


@pytest.mark.parametrize(
    "version", [None, "", "0.1.0", "0.2.0", "2.0.0", "1.0", "v1.0.0", 1, 1.0, [], {}]
)
def test_any_other_version_is_refused_with_what_is_spoken(version: Any) -> None:
    with pytest.raises(CniError) as caught:
        check_version(version)

    assert caught.value.code == 1
    assert caught.value.details == "eniplug speaks 0.3.0, 0.3.1, 0.4.0, 1.0.0, 1.1.0"


def test_results_cannot_be_converted_to_or_from_an_unknown_version() -> None:
    for convert in (to_version, from_version):
        with pytest.raises(CniError) as caught:
            convert(OURS, "0.2.0")
        assert caught.value.code == 1


def test_versions_are_ordered_by_age() -> None:
    assert at_least("1.1.0", "1.0.0")
    assert at_least("1.0.0", "1.0.0")
    assert not at_least("0.4.0", "1.0.0")


@pytest.mark.parametrize("version", VERSIONS)
def test_version_is_answered_in_the_version_asked_in(version: str) -> None:
    assert version_answer(version) == {
        "cniVersion": version,
        "supportedVersions": list(VERSIONS),
    }


@pytest.mark.parametrize("version", [None, "0.2.0", "9.9.9", 1, [], {}])
def test_version_asked_in_another_is_answered_in_the_shipped_one(version: Any) -> None:
    assert version_answer(version)["cniVersion"] == "1.0.0"
