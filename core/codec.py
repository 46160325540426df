"""Values to JSON and back, for the store and for plugins' options.

Two converters of cattrs: `FROZEN` writes what the core itself made and reads it again;
`OPTIONS` reads what a person wrote and is strict about types, so that a quoted number
is an error with a place and not a surprise.
"""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
    ip_address,
    ip_interface,
    ip_network,
)
from typing import Any, Final

from cattrs import Converter
from cattrs.preconf.json import make_converter
from cattrs.strategies import configure_tagged_union

from eniplug.hooks import Interface, Ip, Network, Object

_IP_TYPES: Final[dict[Any, Callable[[str], object]]] = {
    IPv4Address: IPv4Address,
    IPv6Address: IPv6Address,
    IPv4Interface: IPv4Interface,
    IPv6Interface: IPv6Interface,
    IPv4Network: IPv4Network,
    IPv6Network: IPv6Network,
    Ip: ip_address,
    Interface: ip_interface,
    Network: ip_network,
}


ADDRESSES: Final = tuple(_IP_TYPES)
"""The types of addresses: what is written as text, and read by the type's own rules."""


def _teach_addresses(converter: Converter) -> None:
    for kind, parse in _IP_TYPES.items():
        # The default argument binds this round's parser.
        def structure(
            value: Any, _: Any, parse: Callable[[str], object] = parse
        ) -> Any:
            return parse(value)

        converter.register_structure_hook(kind, structure)
        converter.register_unstructure_hook(kind, str)


def _frozen() -> Converter:
    converter = make_converter(detailed_validation=False)
    _teach_addresses(converter)
    configure_tagged_union(Object, converter, tag_name="kind")
    return converter


def _exactly(kind: type) -> Callable[[Any, Any], Any]:
    def structure(value: Any, _: Any) -> Any:
        if type(value) is not kind:
            msg = f"wants {kind.__name__}, not {value!r}"
            raise TypeError(msg)
        return value

    return structure


def _options() -> Converter:
    converter = Converter(forbid_extra_keys=True)
    _teach_addresses(converter)
    for kind in (bool, int, str):
        converter.register_structure_hook(kind, _exactly(kind))
    converter.register_structure_hook_func(
        lambda kind: isinstance(kind, type) and issubclass(kind, Enum),
        lambda value, kind: kind(value),
    )
    return converter


FROZEN: Final = _frozen()
OPTIONS: Final = _options()
