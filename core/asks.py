"""Questions of an operator: `eniplug status`, `why` and `plan`, the agent's side."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from difflib import get_close_matches
from typing import Any, Final

from eniplug.cni.wire import ABOUT, ASK
from eniplug.core.parts import Part
from eniplug.core.refusals import Refusal
from eniplug.core.report import Reporter
from eniplug.hooks.errors import UnknownContainerError, VariableError

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
    """Running pods of that name first, then the last refusal of it."""
    refusals = reporter.refusals.latest()
    if about == LAST:
        return [_refused(one) for one in refusals[:1]]
    parts = reporter.parts()
    for fits in (_is_named, _begins):
        running = [p for p in parts if _fits(fits, about, p)]
        refused = [r for r in refusals if _fits(fits, about, r)]
        if running or refused:
            chains = [_running(reporter, part) for part in running]
            return chains + [_refused(one) for one in refused[:1]]
    known = dict.fromkeys([*map(_label, parts), *map(_label, refusals)])
    raise _unknown(about, list(known))


def _fits(
    fits: Callable[[str, str, str, str], bool], about: str, whom: Part | Refusal
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


def _label(whom: Part | Refusal) -> str:
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
