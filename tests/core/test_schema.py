from __future__ import annotations

from enum import Enum
from ipaddress import IPv4Address, IPv4Network
from typing import Any, Literal

import jsonschema
import pytest
from attrs import field, frozen, validators

from eniplug.core.manager import Catalogue
from eniplug.core.schema import options_of, schema_of, words_of
from eniplug.hooks import Ip

GATEWAY = IPv4Address("169.254.1.1")


class Color(Enum):
    RED = "red"
    BLUE = "blue"


@frozen(eq=False, kw_only=True)
class Every:
    needed: str
    count: int = field(
        default=3, validator=validators.and_(validators.ge(1), validators.lt(10))
    )
    loud: bool = False
    color: Color = Color.RED
    mode: Literal["a", "b"] = "a"
    gateway: IPv4Address = GATEWAY
    to: Ip | None = None
    net: IPv4Network
    size: int = field(default=1, validator=validators.in_([1, 2]))


@pytest.mark.parametrize(
    ("name", "schema", "words"),
    [
        ("needed", {"type": "string"}, "string"),
        (
            "count",
            {"type": "integer", "minimum": 1, "exclusiveMaximum": 10, "default": 3},
            "integer minimum 1 exclusiveMaximum 10",
        ),
        ("loud", {"type": "boolean", "default": False}, "boolean"),
        ("color", {"enum": ["red", "blue"], "default": "red"}, "red, blue"),
        ("mode", {"enum": ["a", "b"], "default": "a"}, "a, b"),
        (
            "gateway",
            {"type": "string", "format": "ipv4", "default": "169.254.1.1"},
            "ipv4",
        ),
        (
            "to",
            {
                "anyOf": [
                    {"type": "string", "format": "ipv4"},
                    {"type": "string", "format": "ipv6"},
                    {"type": "null"},
                ],
                "default": None,
            },
            "ipv4 or ipv6 or null",
        ),
        ("size", {"type": "integer", "enum": [1, 2], "default": 1}, "1, 2"),
    ],
)
def test_an_options_type_and_validators_say_what_it_accepts(
    name: str, schema: dict[str, Any], words: str
) -> None:
    found = options_of(Every)[name]

    assert found == schema
    assert words_of(found) == words


def conflist(*plugins: object, **fields: object) -> dict[str, Any]:
    entry = {"type": "eniplug", "plugins": list(plugins), **fields}
    return {"cniVersion": "1.0.0", "name": "vpc", "plugins": [entry]}


def fits(one: dict[str, Any]) -> bool:
    schema = schema_of(Catalogue(["eniplug"]))
    validator = jsonschema.Draft202012Validator(schema)
    validator.check_schema(schema)
    return bool(validator.is_valid(one))


@pytest.mark.parametrize(
    "one",
    [
        conflist("secondary-ip"),
        conflist({"name": "secondary-ip"}),
        conflist("secondary-ip", {"name": "egress-v4", "subnet": "10.9.0.0/24"}),
        conflist({"name": "snat", "on_error": "skip"}),
        conflist("secondary-ip", mtu=1500, vethPrefix="eni"),
        conflist("secondary-ip", mtu="1500", capabilities={"portMappings": True}),
        {"cniVersion": "1.0.0", "name": "n", "plugins": [{"type": "ptp", "x": 1}]},
    ],
    ids=str,
)
def test_what_the_agent_takes_fits(one: dict[str, Any]) -> None:
    assert fits(one)


@pytest.mark.parametrize(
    "one",
    [
        conflist("secondry-ip"),
        conflist({"name": "secondry-ip"}),
        conflist({"name": "egress-v4", "subnets": "10.9.0.0/24"}),
        conflist({"name": "egress-v4", "subnet": 10}),
        conflist({"name": "prefix-delegation", "family": "ipv5"}),
        conflist({"name": "snat", "on_error": "ignore"}),
        conflist({"subnet": "10.9.0.0/24"}),
        conflist(7),
        conflist(),
        conflist("secondary-ip", mtu=10),
        {"cniVersion": "2.0.0", "name": "n", "plugins": [{"type": "ptp"}]},
        {"cniVersion": "1.0.0", "name": "n", "plugins": [{"plugins": []}]},
        {"cniVersion": "1.0.0", "name": "n", "plugins": []},
    ],
    ids=str,
)
def test_what_the_agent_refuses_does_not(one: dict[str, Any]) -> None:
    assert not fits(one)
