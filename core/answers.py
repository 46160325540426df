"""What an ADD is answered: it depends on the type of the entry."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eniplug.cni.protocol import NetConf, to_version
from eniplug.core import aws_entries
from eniplug.core.aws_result import egress_result, main_result
from eniplug.core.parts import Part
from eniplug.hooks.errors import ConfigError


def result_for(part: Part, conf: NetConf, netns: str) -> Mapping[str, Any]:
    """Return a live part's result, in the form and version that the entry promises.

    ``netns`` is the pod's namespace as the runtime named it.
    """
    assert part.result is not None
    match conf.type:
        case aws_entries.MAIN:
            result = main_result(part.allocation, netns)
        case aws_entries.EGRESS:
            result = egress_result(part.result, conf.prev_result or {})
        case _:
            result = dict(part.result)
    return to_version(result, conf.cni_version)


def may_be_off(conf: NetConf) -> bool:
    """Tell whether an entry without plugins is switched off, and not an error."""
    return conf.type == aws_entries.EGRESS


def passed_on(conf: NetConf) -> Mapping[str, Any]:
    """Return prevResult as it came. Raises ConfigError when there is none."""
    if conf.prev_result is None:
        msg = f"{conf.type}: there is no prevResult to pass on"
        raise ConfigError(msg, "put the entry behind one that gives pods addresses")
    return to_version(conf.prev_result, conf.cni_version)
