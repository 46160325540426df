"""What attachments have claimed of the node, so that no two have the same.

A claim of the whole of something meets each claim of a part of it, and the other way
round; two different parts do not meet.
"""

from __future__ import annotations

from eniplug.core.parts import Part
from eniplug.hooks import Claim
from eniplug.hooks.errors import TakenError


class Claims:
    """All claims, by what they are of; not safe for several threads."""

    def __init__(self) -> None:
        self._held: dict[str, dict[str, Part]] = {}

    def add(self, part: Part) -> None:
        """Note what a part claims."""
        for one in part.objects:
            if isinstance(one, Claim):
                self._held.setdefault(one.what, {})[one.where] = part

    def remove(self, part: Part) -> None:
        """Free what a part claims."""
        for one in part.objects:
            if isinstance(one, Claim):
                held = self._held.get(one.what, {})
                held.pop(one.where, None)
                if not held:
                    self._held.pop(one.what, None)

    def check(self, part: Part) -> None:
        """Hold that nobody else has any of it.  Raises TakenError."""
        for one in part.objects:
            if isinstance(one, Claim):
                for where, other in self._held.get(one.what, {}).items():
                    if not where or not one.where or where == one.where:
                        raise _taken(one, where, other)


def _taken(one: Claim, where: str, other: Part) -> TakenError:
    owner = f"container {other.pod.container_id}"
    if other.pod.name:
        owner = f"pod {other.pod.namespace}/{other.pod.name} ({owner})"
    had = Claim(what=one.what, where=where)
    more = "" if had == one else f", which has {had}"
    return TakenError(f"{one} is taken by {owner}{more}")
