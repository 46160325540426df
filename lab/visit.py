"""Become a command inside a node, a pod, or the host on the internet."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from contextlib import suppress
from typing import Any, NoReturn

from eniplug.lab import netns
from eniplug.lab.errors import LabError
from eniplug.lab.fabric import EC2


def become(place: Mapping[str, Any], command: Sequence[str]) -> NoReturn:
    """Enter the place and execute the command there.

    ``place`` is the supervisor's answer to ``where``: the name of a network namespace
    and, for a node, the path of its mount namespace.  Raises LabError when there is no
    such command.
    """
    here = os.getcwd()
    view: str | None = place["view"]
    if view is None:
        netns.enter(place["namespace"])
        _show_own_sys()
    else:
        netns.enter(place["namespace"], os.open(view, os.O_RDONLY | os.O_CLOEXEC))
    with suppress(OSError):
        os.chdir(here)
    try:
        os.execvpe(command[0], list(command), _environment())
    except OSError as error:
        msg = f"{command[0]}: {error.strerror}"
        raise LabError(msg) from error


def _show_own_sys() -> None:
    """Let /sys/class/net show the namespace's own links, as `ip netns exec` does."""
    netns.unshare(netns.CLONE_NEWNS)
    netns.mount("", "/", flags=netns.MS_REC | netns.MS_SLAVE)
    netns.mount("sysfs", "/sys", "sysfs")


def _environment() -> dict[str, str]:
    """Leave out what would lead clients out of the lab: proxies, AWS accounts."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.lower().endswith("_proxy") and not name.startswith("AWS_")
    }
    return {**kept, "AWS_ENDPOINT_URL_EC2": f"http://{EC2}"}
