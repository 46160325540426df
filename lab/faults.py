"""Faults: how the lab's EC2 and IMDS misbehave, as values and as JSON.

A fault file is one JSON object whose keys are the fields of `Faults`::

    {"call_ms": [80, 400], "attach_s": 3, "rate": {"*": [20, 10]},
     "fail": {"CreateNetworkInterface": ["InternalError", 2]},
     "denied": ["AttachNetworkInterface"], "full_subnet": true}
"""

from __future__ import annotations

import difflib
import json
import math
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, Final, Self

from attrs import asdict, field, frozen

from eniplug.lab.errors import LabError
from eniplug.lab.rules import FULL

ANY: Final = "*"
"""In ``rate``: every action that is not named itself; each has a bucket of its own."""


@frozen(kw_only=True)
class Faults:
    """What goes wrong, all at once; the default is that nothing does."""

    attach_s: float = 0.0
    """Seconds from AttachNetworkInterface to the device (EC2: 1 to 4)."""

    detach_s: float = 0.0
    """Seconds from DetachNetworkInterface to ``available`` (EC2: several)."""

    imds_lag_s: float = 0.0
    """Seconds from the device to IMDS (EC2: 0.1 to several)."""

    imds_address_lag_s: float = 0.0
    """Seconds until IMDS tells of assigned and unassigned addresses."""

    imds_stale: bool = False
    """IMDS tells what was so when this was switched on."""

    call_ms: tuple[float, float] = (0.0, 0.0)
    """Least and most time that EC2 takes to answer (EC2: 80 to 400)."""

    rate: Mapping[str, tuple[float, float]] = field(factory=dict)
    """Action, or ``*``: request tokens in its bucket, tokens per second."""

    fail: Mapping[str, tuple[str, int]] = field(factory=dict)
    """Action: the error code it fails with, and how many times."""

    down: bool = False
    """EC2 answers 503 and nothing else; IMDS is not affected."""

    denied: tuple[str, ...] = ()
    """Actions that the node's role may not make (UnauthorizedOperation)."""

    full_subnet: bool | str = False
    """No subnet has an address left; EC2 has three codes for it, true is the usual."""

    fragmented: bool = False
    """No subnet has a free block for a prefix, single addresses are to be had."""

    @classmethod
    def from_json(cls, value: object) -> Self:
        """Take the form of the fault file; raises LabError naming what is wrong."""
        if not isinstance(value, Mapping):
            msg = f"faults must be a JSON object, not {value!r}"
            raise LabError(msg)
        return cls(**{str(key): _take(str(key), one) for key, one in value.items()})

    @classmethod
    def load(cls, path: Path) -> Self:
        """Read a fault file."""
        try:
            return cls.from_json(json.loads(path.read_text()))
        except (OSError, UnicodeDecodeError) as error:
            msg = f"cannot read the fault file {path}: {error}"
            raise LabError(msg) from None
        except json.JSONDecodeError as error:
            msg = f"the fault file {path} is no JSON: {error}"
            raise LabError(msg) from None

    def to_json(self) -> dict[str, Any]:
        """Return the faults that are set, in the form of the fault file."""
        calm = asdict(type(self)())
        now = asdict(self)
        told: dict[str, Any] = json.loads(json.dumps(now))
        return {key: told[key] for key in told if now[key] != calm[key]}


PRESETS: Final[Mapping[str, Mapping[str, Any]]] = {
    "throttle": {"rate": {ANY: [1, 0.02]}},
    "latency": {"call_ms": [12000, 12000]},
    "full-subnet": {"full_subnet": True},
    "fragmented": {"fragmented": True},
    "imds-stale": {"imds_stale": True},
    "denied": {
        "denied": [
            "AssignIpv6Addresses",
            "AssignPrivateIpAddresses",
            "AttachNetworkInterface",
            "CreateNetworkInterface",
        ]
    },
    "down": {"down": True},
}
"""Faults by a word: what operators meet, each as bad as it gets."""


def preset(name: str) -> Mapping[str, Any]:
    """Return what a word stands for; raises LabError naming the nearest word."""
    if name in PRESETS:
        return PRESETS[name]
    near = difflib.get_close_matches(name, PRESETS, 1)
    there = f"did you mean {near[0]}?" if near else f"there are {', '.join(PRESETS)}"
    msg = f"there is no fault {name!r}"
    raise LabError(msg, f"{there} Or say NAME=VALUE")


class _FormError(ValueError):
    """A value that a fault can't have; says what it could be."""


def _take(name: str, value: object) -> Any:
    if name not in _FORMS:
        near = difflib.get_close_matches(name, _FORMS, 1)
        remedy = (
            f"did you mean {near[0]}?" if near else f"there are {', '.join(_FORMS)}"
        )
        msg = f"there is no fault {name!r}"
        raise LabError(msg, remedy)
    try:
        return _FORMS[name](value)
    except _FormError as wrong:
        msg = f"fault {name!r} must be {wrong}, not {json.dumps(value, default=repr)}"
        raise LabError(msg) from None


def _number(value: object) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float):
        msg = "a number"
        raise _FormError(msg)
    if not math.isfinite(value) or value < 0:
        msg = "a finite number, 0 or more"
        raise _FormError(msg)
    return float(value)


def _switch(value: object) -> bool:
    if not isinstance(value, bool):
        msg = "true or false"
        raise _FormError(msg)
    return value


def _action(value: object) -> str:
    if not (isinstance(value, str) and value.isalnum() and value[0].isupper()):
        msg = "given with EC2's actions, such as CreateNetworkInterface"
        raise _FormError(msg)
    return value


def _pair(value: object, form: str) -> tuple[Any, Any]:
    if not isinstance(value, list | tuple) or len(value) != 2:  # noqa: PLR2004
        raise _FormError(form)
    return value[0], value[1]


def _range(value: object) -> tuple[float, float]:
    form = "[least, most], in milliseconds"
    least, most = _pair(value, form)
    if _number(least) > _number(most):
        raise _FormError(form)
    return float(least), float(most)


def _rate(value: object) -> tuple[float, float]:
    form = "[tokens in the bucket, tokens per second] for each action"
    size, refill = _pair(value, form)
    if _number(size) < 1:
        msg = f"{form}, with a bucket of at least 1"
        raise _FormError(msg)
    return float(size), _number(refill)


def _failure(value: object) -> tuple[str, int]:
    form = '[error code, times] for each action, as in ["InternalError", 2]'
    code, times = _pair(value, form)
    if not isinstance(code, str) or not code or type(times) is not int or times < 0:
        raise _FormError(form)
    return code, times


def _by_action(
    one: Callable[[object], Any], *others: str
) -> Callable[[object], dict[str, Any]]:
    def form(value: object) -> dict[str, Any]:
        if not isinstance(value, Mapping):
            msg = "an object whose keys are EC2's actions"
            raise _FormError(msg)
        return {k if k in others else _action(k): one(v) for k, v in value.items()}

    return form


def _actions(value: object) -> tuple[str, ...]:
    if not isinstance(value, list | tuple):
        msg = "a list of EC2's actions"
        raise _FormError(msg)
    return tuple(_action(item) for item in value)


def _full(value: object) -> bool | str:
    if isinstance(value, bool) or (isinstance(value, str) and value in FULL):
        return value
    msg = f"true, false or one of {', '.join(FULL)}"
    raise _FormError(msg)


_FORMS: Final[Mapping[str, Callable[[object], Any]]] = {
    "attach_s": _number,
    "detach_s": _number,
    "imds_lag_s": _number,
    "imds_address_lag_s": _number,
    "imds_stale": _switch,
    "call_ms": _range,
    "rate": _by_action(_rate, ANY),
    "fail": _by_action(_failure),
    "down": _switch,
    "denied": _actions,
    "full_subnet": _full,
    "fragmented": _switch,
}
