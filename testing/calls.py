"""One plugin's hooks, called as the core calls them, and what they do beside that."""

from __future__ import annotations

import inspect
import sys
import threading
from collections.abc import Generator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from eniplug.hooks import PROJECT, Allocation, Node, Object, Pod

Case = tuple[Pod, Allocation]
"""A pod and what it was given."""

POD_HOOKS: Final = ("setup_netns", "program_routes", "egress")

IO: Final = (
    *(
        "open",
        "os.",
        "socket.",
        "subprocess.",
        "shutil.",
        "urllib.",
        "sqlite3.",
        "ctypes.",
    ),
)
"""How the audit events of input and output begin (docs.python.org, audit_events)."""


def hooks_of(plugin: object) -> dict[str, Any]:
    """Return a plugin's hooks by name, bound to it; wrappers are left out."""
    found: dict[str, Any] = {}
    for name in dir(type(plugin)):
        marked = getattr(getattr(plugin, name, None), f"{PROJECT}_impl", None)
        if marked and not (marked["wrapper"] or marked["hookwrapper"]):
            found[marked["specname"] or name] = getattr(plugin, name)
    return found


def call(hook: Any, given: Mapping[str, object]) -> Any:
    """Call a hook with those arguments that it asks for."""
    asked = inspect.signature(hook).parameters
    return hook(**{name: given[name] for name in asked})


def pod_objects(
    plugin: object, case: Case, node: Node
) -> dict[str, tuple[Object, ...]]:
    """Return what a plugin declares for a pod, by hook."""
    pod, allocation = case
    given = {"pod": pod, "allocation": allocation, "node": node}
    hooks = hooks_of(plugin)
    return {
        name: tuple(call(hooks[name], given)) for name in POD_HOOKS if name in hooks
    }


def node_objects(plugin: object, node: Node) -> tuple[Object, ...]:
    """Return what a plugin declares for a node."""
    hook = hooks_of(plugin).get("node_objects")
    return tuple(call(hook, {"node": node})) if hook else ()


# -- input and output ------------------------------------------------------------------

_watched: dict[int, list[str]] = {}
_installed = threading.Event()


def _heard(event: str, arguments: tuple[object, ...]) -> None:
    events = _watched.get(threading.get_ident())
    if events is not None and event.startswith(IO):
        events.append(f"{event}{arguments!r}")


@contextmanager
def watched() -> Generator[list[str]]:
    """List the input and output that this thread does meanwhile (PEP 578)."""
    if not _installed.is_set():
        _installed.set()
        sys.addaudithook(_heard)  # there is no way to remove one
    me = threading.get_ident()
    events = _watched[me] = []
    try:
        yield events
    finally:
        del _watched[me]
