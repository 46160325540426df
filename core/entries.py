"""Which plugins a conflist entry asks for, whatever its type.

An entry of type eniplug lists them.  The executable may be installed under other names
as well; an entry's type is the name by which it is run.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from attrs import frozen

from eniplug.cni.conflist import Conflist, entry_config
from eniplug.cni.errors import CniError
from eniplug.cni.protocol import NetConf, parse_config
from eniplug.core import aws_entries
from eniplug.core.settings import Settings
from eniplug.hooks.errors import EniplugError

OURS: Final = frozenset({"eniplug", aws_entries.MAIN, aws_entries.EGRESS})
"""Types of entries that are the agent's.

One of type bandwidth is ours only when our executable is run for it: the same name may
be another project's.
"""


EVERY: Final[Mapping[str, Sequence[str]]] = {
    aws_entries.MAIN: ("secondary-ip", "prefix-delegation", "pod-veth"),
    aws_entries.EGRESS: ("egress-v4", "egress-v6"),
}
"""What an entry may have made whose fields cannot be read any more."""

RATES: Final = ("ingressRate", "ingressBurst", "egressRate", "egressBurst")
"""The fields of an entry of type bandwidth, which are options of our plugin too."""


@frozen(kw_only=True)
class Entry:
    """One entry of the agent's own conflist.

    ``plugins`` are names, or objects with a name and options; none when the entry is
    switched off.  ``place`` is where they stand, for errors.
    """

    type: str
    plugins: tuple[Any, ...]
    place: str


def plugins_of(conf: NetConf, settings: Settings) -> Sequence[Any]:
    """Return an entry's plugins: names, or objects with a name and options.

    None at all says that the entry passes prevResult on.  Raises CniError naming the
    field, or ConfigError.
    """
    match conf.type:
        case aws_entries.MAIN:
            return aws_entries.main_plugins(conf, settings)
        case aws_entries.EGRESS:
            return aws_entries.egress_plugins(conf, settings)
        case "bandwidth" if not conf.plugins:
            return (_bandwidth(conf),)
        case _:
            return conf.plugins


def _bandwidth(conf: NetConf) -> Any:
    """Read the rates of an entry that runs our executable in place of another's."""
    given = {name: conf.rest[name] for name in RATES if name in conf.rest}
    return {"name": "bandwidth", **given} if given else "bandwidth"


def plugins_to_remove(conf: NetConf, settings: Settings) -> Sequence[Any]:
    """Return an entry's plugins for a DEL, which no field or setting may hold up."""
    try:
        return plugins_of(conf, settings)
    except (CniError, EniplugError):
        return EVERY[conf.type]


def own_entries(
    conflist: Conflist, settings: Settings, source: str
) -> tuple[Entry, ...]:
    """Read the entries of a conflist that are ours; ``source`` names it in errors.

    Raises CniError naming the place, as in ``aws.conflist: plugins[0].mtu``, or
    ConfigError.
    """
    found: list[Entry] = []
    for i, entry in enumerate(conflist.plugins):
        if entry["type"] not in OURS:
            continue
        place = f"{source}: plugins[{i}]"
        try:
            conf = parse_config(entry_config(conflist, i))
            plugins = plugins_of(conf, settings)
        except CniError as error:
            msg = f"{place}.{error.message}"
            raise CniError(error.code, msg, error.details) from error
        where = f"{place}.plugins"
        found.append(Entry(type=conf.type, plugins=tuple(plugins), place=where))
    return tuple(found)
