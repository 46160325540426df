"""From a conflist entry's plugin list to a chain of plugins.

The built-in plugins come through the same door as third-party ones: the entry points
of group ``eniplug.plugins``.  Only those that a conflist names are imported.  There is
one pluggy manager per chain, made here and handed on; nothing is global.
"""

from __future__ import annotations

import os
from collections.abc import Iterable, Mapping, Sequence
from difflib import get_close_matches
from importlib.metadata import EntryPoint, entry_points
from typing import Any, Final

import attrs
import cattrs
import pluggy
from attrs import frozen

from eniplug.core.chain import Chain
from eniplug.core.codec import OPTIONS
from eniplug.core.guard import Guard
from eniplug.hooks import API_VERSION, PROJECT, specs
from eniplug.hooks.api import serves
from eniplug.hooks.errors import ConfigError, OptionError, UnknownPluginError

GROUP: Final = "eniplug.plugins"

PACKAGES: Final = "ENIPLUG_PLUGIN_PACKAGES"
"""Names the distributions whose plugins may be loaded, comma-separated."""

ON_ERROR: Final = "on_error"
"""The operator's option of any plugin: what a pod's ADD does when the plugin fails."""

CHOICES: Final = ("fail", "skip")

RESERVED: Final = frozenset({"name", ON_ERROR})
"""What stands beside a plugin's options in a conflist, and can be no option."""


@frozen
class Wanted:
    """One plugin of a conflist entry: its name, its options, and where it stands.

    ``skip`` is the operator's word that pods go without it when it fails.
    """

    name: str
    options: Mapping[str, Any]
    place: str
    skip: bool = False


def wanted(plugins: object, place: str = "plugins") -> tuple[Wanted, ...]:
    """Read an entry's plugin list: names, or objects with a name and options.

    Raises ConfigError naming the place, as in ``plugins[2]``.
    """
    if not isinstance(plugins, Sequence) or isinstance(plugins, str) or not plugins:
        msg = f"{place}: wants a list of plugin names, for example ['secondary-ip', …]"
        raise ConfigError(msg)
    found: list[Wanted] = []
    for i, item in enumerate(plugins):
        here = f"{place}[{i}]"
        options = {"name": item} if isinstance(item, str) else item
        if not isinstance(options, Mapping) or not isinstance(options.get("name"), str):
            msg = (
                f"{here}: wants a plugin's name or an object with 'name', not {item!r}"
            )
            raise ConfigError(msg)
        name = options["name"]
        if any(w.name == name for w in found):
            msg = f"{here}: plugin {name!r} stands in this entry already"
            raise ConfigError(msg)
        own = {k: v for k, v in options.items() if k not in RESERVED}
        found.append(Wanted(name, own, here, skip=_skips(options, here)))
    return tuple(found)


def _skips(options: Mapping[str, Any], place: str) -> bool:
    choice = options.get(ON_ERROR, "fail")
    if choice not in CHOICES:
        msg = f"{place}.{ON_ERROR}: wants {' or '.join(CHOICES)}, not {choice!r}"
        raise OptionError(msg)
    return bool(choice == "skip")


class Catalogue:
    """The installed plugins, by the name that a conflist uses.

    Reads the installed distributions once.  Two distributions that offer one name are
    an error; so is a name that is offered by a distribution outside ``packages``.
    """

    def __init__(
        self, packages: Iterable[str] | None = None, guard: Guard | None = None
    ) -> None:
        self._guard = guard or Guard()
        allowed = None if packages is None else {_canonical(p) for p in packages}
        self.points: dict[str, EntryPoint] = {}
        for point in sorted(entry_points(group=GROUP), key=lambda p: p.name):
            if allowed is not None and _canonical(_package(point)) not in allowed:
                continue
            twin = self.points.get(point.name)
            if twin is not None and _package(twin) != _package(point):
                both = " and ".join(sorted((_package(twin), _package(point))))
                msg = f"two packages offer a plugin {point.name!r}: {both}"
                raise ConfigError(msg, "uninstall one of them")
            self.points[point.name] = point

    @classmethod
    def from_environ(
        cls, environ: Mapping[str, str] = os.environ, guard: Guard | None = None
    ) -> Catalogue:
        """Heed the operator's list of packages, if there is one."""
        listed = environ.get(PACKAGES)
        return cls(None if listed is None else filter(None, listed.split(",")), guard)

    def load(self, name: str, place: str) -> type:
        """Import a plugin's class. Raises UnknownPluginError or ConfigError."""
        point = self.points.get(name)
        if point is None:
            near = get_close_matches(name, self.points, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            msg = f"{place}: no plugin {name!r} is installed{hint}"
            raise UnknownPluginError(msg)
        try:
            found = point.load()
        except KeyboardInterrupt:
            raise
        except BaseException as error:  # a package may call sys.exit() as well
            msg = f"{place}: plugin {name!r} of {_package(point)} cannot be imported"
            raise ConfigError(
                f"{msg}: {error!r}", f"repair or uninstall {_package(point)}"
            ) from error
        if not isinstance(found, type) or not attrs.has(found):
            msg = f"{place}: plugin {name!r} of {_package(point)} is no attrs class"
            raise ConfigError(msg)
        self._check_api(found, point, place)
        return found

    def _check_api(self, kind: type, point: EntryPoint, place: str) -> None:
        """Hold the API that a plugin says it was written for against ours."""
        stated = getattr(kind, "api", API_VERSION)
        if serves(stated):
            return
        package = _package(point)
        msg = f"{place}: plugin {point.name!r} of {package} is written for version "
        msg += f"{stated!r} of eniplug.hooks; this eniplug has {API_VERSION}"
        remedy = f"install a {package} for version {API_VERSION}, or an eniplug with "
        raise ConfigError(msg, f"{remedy}version {stated}")

    def _is_ours(self, name: str) -> bool:
        point = self.points.get(name)
        return point is not None and _package(point) == PROJECT

    def build(self, plugins: Iterable[Wanted]) -> Chain:
        """Make a chain of exactly these plugins, in this order."""
        chosen = tuple(plugins)
        made = [self._make(one) for one in chosen]
        manager = pluggy.PluginManager(PROJECT)
        manager.add_hookspecs(specs)
        for one, plugin in reversed(list(zip(chosen, made, strict=True))):
            # pluggy calls the last one first, so the conflist's order is reversed.
            try:
                manager.register(plugin, one.name)
                manager.check_pending()
            except pluggy.PluginValidationError as error:
                msg = f"{one.place}: plugin {one.name!r} does not fit the hooks: "
                raise ConfigError(msg + str(error).replace("\n", ", ")) from error
        chain = Chain(
            manager,
            tuple(one.name for one in chosen),
            self._guard,
            skipped=[one.name for one in chosen if one.skip],
            ours=[one.name for one in chosen if self._is_ours(one.name)],
        )
        for one, plugin in zip(chosen, made, strict=True):
            _check_skip(one, plugin, chain)
        return chain

    def _make(self, one: Wanted) -> object:
        kind = self.load(one.name, one.place)
        try:
            return OPTIONS.structure(one.options, kind)
        except (cattrs.BaseValidationError, TypeError, ValueError) as error:
            raise OptionError(_explain(one, kind, error)) from error
        except Exception as error:
            msg = f"{one.place}: plugin {one.name!r} cannot be made: {error!r}"
            raise ConfigError(msg) from error


def _check_skip(one: Wanted, plugin: object, chain: Chain) -> None:
    """Hold that a pod can go without a plugin that may be skipped."""
    if not one.skip:
        return
    if one.name in chain.address_plugins:
        why = "it gives pods their addresses"
    elif getattr(plugin, "enforcing", False):
        why = "it enforces what pods may do"
    else:
        return
    msg = f"{one.place}.{ON_ERROR}: plugin {one.name!r} cannot be skipped: {why}"
    raise OptionError(msg, f"take {ON_ERROR} out, or say fail")


def _explain(one: Wanted, kind: type, error: Exception) -> str:
    known = [f.name for f in attrs.fields(kind)]
    for name in one.options:
        if name not in known:
            near = get_close_matches(name, known, n=1)
            hint = f"did you mean {near[0]!r}?" if near else f"it knows {known}"
            return f"{one.place}: plugin {one.name!r} has no option {name!r}; {hint}"
    reasons = cattrs.transform_error(
        error, path=one.place, format_exception=lambda found, _: _first(found)
    )
    return f"{one.place}: plugin {one.name!r}: {'; '.join(reasons)}"


def _first(error: BaseException) -> str:
    """The words of an error; attrs' validators put the attribute and more behind."""
    return str(error.args[0]) if error.args else repr(error)


def _package(point: EntryPoint) -> str:
    return point.dist.name if point.dist else point.value


def _canonical(name: str) -> str:
    return name.strip().lower().replace("_", "-")
