"""The laws that hold for every plugin, as tests that an author runs with one line.

    class TestMine(Conformance):
        plugin = Mine()

or ``TestMine = conformance(Mine())``.  Attributes of the class say what else differs:
the pods and the node that the hooks are called with, and which plugins stand beside.
Nothing here needs root but the tests that are marked so: they make network namespaces.
"""

from __future__ import annotations

from eniplug.testing.laws_hooks import HookLaws
from eniplug.testing.laws_kernel import KernelLaws
from eniplug.testing.laws_shape import ShapeLaws


class Conformance(ShapeLaws, HookLaws, KernelLaws):
    """Laws over one plugin.  Derive, set ``plugin``, and let pytest collect it."""


def conformance(plugin: object, **fields: object) -> type[Conformance]:
    """Make a class of laws over a plugin, or over a plugin's class as it is made.

    ``fields`` are those of `Conformance`; name the result ``Test…``.
    """
    made = plugin() if isinstance(plugin, type) else plugin
    name = f"Test{type(made).__name__}"
    return type(name, (Conformance,), {"plugin": made, **fields})
