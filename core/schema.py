"""A JSON Schema of the conflist, made from the options of the installed plugins.

For editors, which offer names and mark mistakes while one writes; the agent's own check
is that of `eniplug.core.conflist_check`.  An option's type and its attrs validators say
what it accepts.
"""

from __future__ import annotations

import types
from collections.abc import Iterable, Iterator, Mapping
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from typing import Any, Final, Literal, Union, get_args, get_origin

import attrs

from eniplug.cni.protocol import MTUS
from eniplug.cni.versions import VERSIONS
from eniplug.core.manager import CHOICES, ON_ERROR, Catalogue

Schema = dict[str, Any]

_V4: Final = r"^[0-9.]+(/[0-9]+)?$"
_V6: Final = r"^[0-9a-fA-F:.]+(/[0-9]+)?$"

_PLAIN: Final[Mapping[Any, Schema]] = {
    bool: {"type": "boolean"},
    int: {"type": "integer"},
    str: {"type": "string"},
    types.NoneType: {"type": "null"},
    IPv4Address: {"type": "string", "format": "ipv4"},
    IPv6Address: {"type": "string", "format": "ipv6"},
    IPv4Network: {"title": "IPv4 network", "type": "string", "pattern": _V4},
    IPv6Network: {"title": "IPv6 network", "type": "string", "pattern": _V6},
    IPv4Interface: {"title": "IPv4 address/length", "type": "string", "pattern": _V4},
    IPv6Interface: {"title": "IPv6 address/length", "type": "string", "pattern": _V6},
}

_BOUNDS: Final[Mapping[str, str]] = {
    ">=": "minimum",
    "<=": "maximum",
    ">": "exclusiveMinimum",
    "<": "exclusiveMaximum",
}
"""What the comparisons of `attrs.validators` are called in JSON Schema."""


def options_of(kind: type) -> dict[str, Schema]:
    """What each option of a plugin accepts; ``default`` where there is one."""
    resolved = attrs.resolve_types(kind)
    return {one.name: _option(one) for one in attrs.fields(resolved)}


def words_of(schema: Schema) -> str:
    """Say in a word or two what an option accepts."""
    if "anyOf" in schema:
        return " or ".join(words_of(one) for one in schema["anyOf"])
    if "enum" in schema:
        return ", ".join(str(one) for one in schema["enum"])
    kind = str(schema.get("title") or schema.get("format") or schema.get("type", "any"))
    bounds = [f"{k} {schema[k]}" for k in _BOUNDS.values() if k in schema]
    return " ".join((kind, *bounds))


def schema_of(catalogue: Catalogue) -> Schema:
    """Make the schema of conflists that name these plugins.

    Raises ConfigError when one of them cannot be loaded.
    """
    plugins = {name: catalogue.load(name, name) for name in catalogue.points}
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "A conflist with entries of type eniplug",
        "type": "object",
        "required": ["cniVersion", "name", "plugins"],
        "properties": {
            "cniVersion": {"enum": list(VERSIONS)},
            "name": {"type": "string", "pattern": "^[A-Za-z0-9][A-Za-z0-9_.-]*$"},
            "plugins": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "type": "object",
                    "required": ["type"],
                    "properties": {"type": {"type": "string"}},
                    "if": {"properties": {"type": {"const": "eniplug"}}},
                    "then": {"$ref": "#/$defs/eniplug"},
                },
            },
        },
        "$defs": {
            "eniplug": _entry(plugins),
            **{f"plugin-{name}": _plugin(name, kind) for name, kind in plugins.items()},
        },
    }


def _entry(plugins: Iterable[str]) -> Schema:
    """An entry of type eniplug: a runtime's own fields may stand beside these."""
    names = sorted(plugins)
    chosen = [
        {
            "if": {"type": "object", "properties": {"name": {"const": name}}},
            "then": {"anyOf": [{"type": "string"}, {"$ref": f"#/$defs/plugin-{name}"}]},
        }
        for name in names
    ]
    return {
        "required": ["plugins"],
        "properties": {
            "plugins": {
                "type": "array",
                "minItems": 1,
                "items": {
                    "if": {"type": "string"},
                    "then": {"enum": names},
                    "else": {
                        "type": "object",
                        "required": ["name"],
                        "properties": {"name": {"enum": names}},
                        "allOf": chosen,
                    },
                },
            },
            "mtu": {
                "anyOf": [
                    {
                        "type": "integer",
                        "minimum": MTUS.start,
                        "maximum": MTUS.stop - 1,
                    },
                    {"type": "string", "pattern": "^[0-9]*$"},
                ]
            },
            "vethPrefix": {"type": "string", "maxLength": 4},
            "capabilities": {
                "type": "object",
                "additionalProperties": {"type": "boolean"},
            },
        },
    }


def _plugin(name: str, kind: type) -> Schema:
    """A plugin as an object: its name, its options, and what is the operator's."""
    options = options_of(kind)
    return {
        "description": (kind.__doc__ or "").strip().split("\n")[0],
        "properties": {
            "name": {"const": name},
            ON_ERROR: {"enum": list(CHOICES), "default": CHOICES[0]},
            **options,
        },
        "required": ["name", *(o for o in options if "default" not in options[o])],
        "additionalProperties": False,
    }


def _option(field: attrs.Attribute[Any]) -> Schema:
    schema = _type(field.type)
    for validator in _flat(field.validator):
        schema |= _limits(validator)
    if field.default is not attrs.NOTHING and not isinstance(
        field.default,
        attrs.Factory,  # type: ignore[arg-type]
    ):
        schema["default"] = _json(field.default)
    return schema


def _type(kind: Any) -> Schema:
    origin = get_origin(kind)
    if origin is Literal:
        return {"enum": list(get_args(kind))}
    if origin in {Union, types.UnionType}:
        return {"anyOf": [_type(one) for one in get_args(kind)]}
    if isinstance(kind, type) and issubclass(kind, Enum):
        return {"enum": [one.value for one in kind]}
    return dict(_PLAIN.get(kind, {}))


def _flat(validator: Any) -> Iterator[Any]:
    """Validators are one, or several in an ``and_``."""
    if validator is not None:
        inner = getattr(validator, "_validators", None)
        if inner is None:
            yield validator
        else:
            for one in inner:
                yield from _flat(one)


def _limits(validator: Any) -> Schema:
    """What a validator of attrs allows; one of a plugin's own says nothing here."""
    if (bound := getattr(validator, "bound", None)) is not None:
        return {_BOUNDS[validator.compare_op]: bound}
    if isinstance(choices := getattr(validator, "options", None), list | tuple):
        return {"enum": [_json(one) for one in choices]}
    return {}


def _json(value: Any) -> Any:
    if isinstance(value, Enum):
        return _json(value.value)
    return value if isinstance(value, bool | int | str | None) else str(value)
