"""Questions of an operator: `eniplug status`, `why` and `plan`, the agent's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final, TypeAlias

from eniplug.cni.wire import ABOUT, ASK
from eniplug.core.parts import Part
from eniplug.core.refusals import Refusal
from eniplug.core.report import Reporter
from eniplug.core.state import Waiting
from eniplug.hooks.errors import UnknownContainerError, VariableError

Whom: TypeAlias = Part | Waiting | Refusal

LAST: Final = "last"
"""Asks for the last refused ADD, whosever it was."""

NEAR: Final = 5
"""Names that are offered in place of an unknown one, at most."""


def answer(reporter: Reporter, environ: Mapping[str, str]) -> dict[str, Any]:
    """Answer one question.

    Raises VariableError for one that is not known, UnknownContainerError for a pod.
    """
    match environ.get(ASK):
        case "status":
            return reporter.status()
        case "why":
            return {"found": _why(reporter, environ.get(ABOUT, ""))}
        case "plan":
            return reporter.planned()
        case other:
            msg = f"{ASK}={other!r}: the agent answers status, why and plan"
            raise VariableError(msg, "use an `eniplug` of the agent's version")


def _why(reporter: Reporter, about: str) -> list[dict[str, Any]]:
    """Running pods of that name, those that wait, then the last refusal of it."""
    refusals = reporter.refusals.latest()
    if about == LAST:
        return [_refused(one) for one in refusals[:1]]
    parts = reporter.parts()
    for fits in (_is_named, _begins):
        running = [p for p in parts if _fits(fits, about, p)]
        waiting = [w for w in reporter.waiting() if _fits(fits, about, w)]
        refused = [r for r in refusals if _fits(fits, about, r)]
        if running or waiting or refused:
            return [
                *(_running(reporter, part) for part in running),
                *(_waiting(reporter, one) for one in waiting),
                *(_refused(one) for one in refused[:1]),
            ]
    here: list[Whom] = [*parts, *reporter.waiting(), *refusals]
    known = dict.fromkeys(_label(one) for one in here)
    raise _unknown(about, list(known))


def _fits(
    fits: Callable[[str, str, str, str], bool],
    about: str,
    whom: Whom,
) -> bool:
    one = whom.pod if isinstance(whom, Part) else whom
    return fits(about, one.namespace, one.name, one.container_id)


def _is_named(about: str, namespace: str, name: str, container: str) -> bool:
    return about != "" and about in {f"{namespace}/{name}", name, container}


def _begins(about: str, namespace: str, name: str, container: str) -> bool:
    del namespace, name
    return about != "" and container.startswith(about)


def _running(reporter: Reporter, part: Part) -> dict[str, Any]:
    return {
        "pod": _label(part),
        "container": part.pod.container_id,
        "refused": None,
        "facts": list(reporter.chain(part)),
    }


def _waiting(reporter: Reporter, one: Waiting) -> dict[str, Any]:
    line = f"waits for an address since {one.seconds} s, as number {one.place} in line"
    return {
        "pod": _label(one),
        "container": one.container_id,
        "refused": None,
        "facts": [line, *reporter.facts()],
    }


def _refused(one: Refusal) -> dict[str, Any]:
    return {
        "pod": _label(one),
        "container": one.container_id,
        "refused": {
            "when": one.when,
            "reason": one.reason,
            "message": one.message,
            "remedy": one.remedy,
        },
        "facts": list(one.facts),
    }


def _label(whom: Whom) -> str:
    """``namespace/name``, or the container id of a pod that has no name."""
    one = whom.pod if isinstance(whom, Part) else whom
    return f"{one.namespace}/{one.name}" if one.name else one.container_id


def _unknown(about: str, known: list[str]) -> UnknownContainerError:
    by_name = {one.rpartition("/")[2]: one for one in known}
    near = get_close_matches(about, [*known, *by_name], NEAR)
    names = list(dict.fromkeys(by_name.get(one, one) for one in near))
    msg = f"this node knows no pod {about!r}"
    if names:
        return UnknownContainerError(msg, f"is it {' or '.join(names)}?")
    some = f"; pods here: {', '.join(known[:NEAR])}" if known else ""
    return UnknownContainerError(msg, f"see that it is scheduled to this node{some}")
