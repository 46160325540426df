"""Parts as the store's text: what `eniplug.core.codec.FROZEN` reads, and would write.

Each ADD writes one, so there is a way of its own for it, of few calls: whatever json
can write is left to it, and so are addresses, which it is told to write as text.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from json import JSONEncoder
from operator import eq
from types import NoneType
from typing import Any, Final, get_args, get_origin

from cattrs.fns import identity
from cattrs.gen import make_dict_unstructure_fn
from cattrs.preconf.json import make_converter

from eniplug.core.codec import ADDRESSES
from eniplug.core.parts import Part
from eniplug.hooks import Object
from eniplug.hooks.objects import KINDS

_PLAIN: Final = frozenset({str, int, float, bool, NoneType, ..., Any, *ADDRESSES})


def _is_plain(kind: Any) -> bool:
    """Whether json writes such a value as it is; a tuple it writes as a list."""
    inside = get_args(kind)
    if not inside:
        return kind in _PLAIN
    return get_origin(kind) is not Mapping and all(map(_is_plain, inside))


def _is_mapping(kind: Any) -> bool:
    """Whether it is to be a dict: json knows no other mapping."""
    return get_origin(kind) is Mapping


def _writer() -> Callable[[Part], dict[str, Any]]:
    converter = make_converter()
    converter.register_unstructure_hook_factory(_is_plain, lambda _: identity)
    converter.register_unstructure_hook_func(_is_mapping, dict)
    writers = {kind: make_dict_unstructure_fn(kind, converter) for kind in KINDS}

    def objects(every: Sequence[Object]) -> list[dict[str, Any]]:
        """Write objects with their kinds, as a tagged union does."""
        records: list[dict[str, Any]] = []
        for one in every:
            record = writers[type(one)](one)
            record["kind"] = type(one).__name__
            records.append(record)
        return records

    every = partial(eq, tuple[Object, ...])
    converter.register_unstructure_hook_func(every, objects)
    return make_dict_unstructure_fn(Part, converter)


_write: Final = _writer()
# Nothing frozen goes round in a circle.
_encode: Final = JSONEncoder(default=str, check_circular=False).encode


def record_of(part: Part) -> str:
    """Write a part as text, but for its result."""
    record = _write(part)
    record["result"] = None
    return _encode(record)
