"""JSON from outside, looked at before it is used.

What is wrong is said with its place, as in ``plugins[0].mtu``.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from math import isfinite
from reprlib import repr as short
from typing import Any, Final, Never

from eniplug.cni.errors import UNDECODABLE, CniError


def decode(data: bytes, what: str) -> dict[str, Any]:
    """Decode one JSON object; ``what`` names it in errors.

    What cannot be written again as JSON in UTF-8 is refused: a number out of a
    double's range, half a surrogate pair.  Raises CniError 6.
    """
    if not data or data.isspace():
        raise CniError(UNDECODABLE, f"{what} is empty")
    try:
        value = _DECODER.decode(data.decode())
        if b"\\u" in data:  # the only way for half a pair to come
            json.dumps(value, ensure_ascii=False).encode()
    except RecursionError as error:
        msg = f"{what} is nested too deeply"
        raise CniError(UNDECODABLE, msg) from error
    except ValueError as error:
        msg = f"{what} is not JSON"
        raise CniError(UNDECODABLE, msg, str(error)) from error
    return mapping(value, what)


def _no_number(word: str) -> Never:
    raise ValueError(f"{word} is no number in JSON")


def _finite(digits: str) -> float:
    number = float(digits)
    if not isfinite(number):
        raise ValueError(f"{short(digits)} is too large a number")
    return number


_DECODER: Final = json.JSONDecoder(parse_constant=_no_number, parse_float=_finite)


_OBJECTS: Final = (dict, Mapping)  # to ask for the former first is quicker


def mapping(value: Any, place: str) -> dict[str, Any]:
    """Return a JSON object as it is; anything else is CniError 6."""
    if not isinstance(value, _OBJECTS):
        raise wrong(value, place, "an object")
    return dict(value)


def sequence(value: Any, place: str) -> Sequence[Any]:
    """Return a JSON array as it is; anything else is CniError 6."""
    if isinstance(value, list):
        return value
    if not isinstance(value, Sequence) or isinstance(value, str | bytes):
        raise wrong(value, place, "a list")
    return value


def text(value: Any, place: str) -> str:
    """Return a JSON string as it is; anything else is CniError 6."""
    if not isinstance(value, str):
        raise wrong(value, place, "a string")
    return value


def wrong(value: Any, place: str, wants: str) -> CniError:
    """Make the error that says what stands there and what should."""
    return CniError(UNDECODABLE, f"{place}: wants {wants}, not {short(value)}")
