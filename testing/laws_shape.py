"""Laws over a plugin's class and its options."""

from __future__ import annotations

import inspect
import json
import re
from enum import Enum
from ipaddress import (
    IPv4Address,
    IPv4Interface,
    IPv4Network,
    IPv6Address,
    IPv6Interface,
    IPv6Network,
)
from types import NoneType
from typing import Final

import attrs
import pluggy

from eniplug.core.codec import OPTIONS
from eniplug.hooks import (
    PROJECT,
)
from eniplug.testing.subject import Subject, broken, chain_of

PLAIN: Final = (
    *(bool, int, str, Enum, NoneType),
    *(IPv4Address, IPv4Interface, IPv4Network),
    *(IPv6Address, IPv6Interface, IPv6Network),
)
"""What an option may be."""


class ShapeLaws(Subject):
    """What a plugin is."""

    def test_the_plugin_is_a_frozen_attrs_class_that_compares_by_identity(self) -> None:
        """So that it may be registered twice, and nothing changes it between pods."""
        kind = type(self.plugin)
        if not attrs.has(kind):
            broken(f"{kind.__name__} is no attrs class", "decorate it with @frozen")
        if kind.__eq__ is not object.__eq__:
            broken(f"{kind.__name__} compares by value", "say @frozen(eq=False)")
        if kind.__setattr__ is object.__setattr__:
            broken(f"{kind.__name__} can be changed", "say @frozen, not @define")

    def test_every_hook_asks_only_for_arguments_that_it_may_have(self) -> None:
        """As at the agent's start: unknown hooks and arguments are refused."""
        try:
            chain_of(self.plugin)
        except pluggy.PluginValidationError as error:
            broken(str(error), "see `eniplug.hooks.specs` for hooks and arguments")
        if not _marked(self.plugin):
            name = type(self.plugin).__name__
            broken(f"{name} implements no hook", "mark its methods with @hookimpl")

    def test_every_option_has_a_default_and_is_documented(self) -> None:
        """By a docstring below the field, or by its metadata ``help``."""
        source = inspect.getsource(type(self.plugin))
        for option in attrs.fields(type(self.plugin)):
            if option.default is attrs.NOTHING:
                broken(f"option {option.name!r} has no default", "give it one")
            below = rf'^\s+{option.name}\s*:[^"]*?(?:"[^"\n]*"[^"]*?)*^\s+"""'
            if "help" not in option.metadata and not re.search(below, source, re.M):
                remedy = "write a docstring below it, or metadata={'help': …}"
                broken(f"option {option.name!r} is not documented", remedy)

    def test_options_come_back_from_a_conflist_as_they_are(self) -> None:
        """Bool, int, str, enums and addresses do; a list would make it unhashable."""
        kind = type(self.plugin)
        for option in attrs.fields(kind):
            value = getattr(self.plugin, option.name)
            if not isinstance(value, PLAIN):
                words = f"option {option.name!r} is a {type(value).__name__}"
                broken(words, "use bool, int, str, an enum or an address")
        text = json.dumps(OPTIONS.unstructure(self.plugin))
        try:
            again = OPTIONS.structure(json.loads(text), kind)
        except Exception as error:  # noqa: BLE001
            broken(f"options {text} cannot be read: {error!r}", "annotate their types")
        if attrs.astuple(again) != attrs.astuple(self.plugin):
            broken(f"options {text} give {again}", "keep to what was written")


def _marked(plugin: object) -> list[str]:
    mark = f"{PROJECT}_impl"
    return [n for n in dir(type(plugin)) if hasattr(getattr(plugin, n, None), mark)]
