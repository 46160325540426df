"""The chains that requests name, made once each."""

from __future__ import annotations

import json
from collections.abc import Callable, Hashable, Iterable, Sequence
from threading import Lock

from eniplug.core.chain import Chain
from eniplug.core.entries import Entry
from eniplug.core.manager import Catalogue, wanted
from eniplug.hooks.errors import ConfigError


class Chains:
    """Finds or makes a request's chain.  Safe to call from many threads."""

    def __init__(self, catalogue: Catalogue) -> None:
        self._catalogue = catalogue
        self._made: dict[Hashable, Chain] = {}
        self._lock = Lock()

    def make(self, plugins: object, place: str = "plugins") -> Chain:
        """Return the chain of a plugin list; the same list gives the same chain."""
        key = _key(plugins)
        chain = self._made.get(key)
        if chain is None:
            with self._lock:
                chain = self._made.get(key)
                if chain is None:
                    chain = self._catalogue.build(wanted(plugins, place))
                    self._made[key] = chain
        return chain


def _key(plugins: object) -> Hashable:
    """Tell lists apart: by themselves if they hold names alone, else by their JSON."""
    try:
        hash(plugins)
    except TypeError:  # there are options
        return json.dumps(plugins)
    return (plugins,)


def names_of(plugins: object) -> tuple[str, ...]:
    """The names in a plugin list, as far as it can be read: a DEL must not fail."""
    if not isinstance(plugins, Sequence) or isinstance(plugins, str):
        return ()
    named = (p.get("name") if isinstance(p, dict) else p for p in plugins)
    return tuple(name for name in named if isinstance(name, str))


def own_chains(chains: Chains, entries: Iterable[Entry], source: str) -> list[Chain]:
    """Make the chains of the agent's own conflist, which is ``source`` in errors.

    Raises ConfigError, also when no entry of type eniplug names an address plugin.
    """
    own = [
        chains.make(entry.plugins, entry.place) for entry in entries if entry.plugins
    ]
    if not any(chain.address_plugins for chain in own):
        msg = f"{source}: no entry of type eniplug names an address plugin"
        raise ConfigError(msg, "name one, for example secondary-ip")
    return own


def usable(
    own: Sequence[Chain], use: Callable[[Chain], None]
) -> Callable[[Chain], None]:
    """Make the check that a request's address plugin is one of the agent's.

    What passes goes on to ``use``.
    """
    known = sorted({name for chain in own for name in chain.address_plugins})

    def check(chain: Chain) -> None:
        strange = [name for name in chain.address_plugins if name not in known]
        if strange:
            msg = f"the agent's conflist has no address plugin {strange[0]!r}"
            remedy = f"start the agent with a conflist that names it; it has {known}"
            raise ConfigError(msg, remedy)
        use(chain)

    return check
