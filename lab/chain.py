"""The conflist that a node has installed, run for pods as a container runtime does."""

from __future__ import annotations

from pathlib import Path
from subprocess import TimeoutExpired
from typing import Any

from eniplug.cni.conflist import load_conflist
from eniplug.cni.errors import CniError
from eniplug.cni.runtime import Attachment, Runtime
from eniplug.lab import netns
from eniplug.lab.node import BIN, CONFLIST
from eniplug.lab.pods import ChainError, Pod

CACHE = Path("/var/lib/cni/results")


class NodeChain:
    """Runs inside the pod's node: that is where the files are that it reads.

    What a pod was added with it is removed with, as libcni has it, whatever the
    conflist says by then.
    """

    def __init__(self) -> None:
        self._used: dict[str, Runtime] = {}

    def add(self, pod: Pod) -> dict[str, Any]:
        """Run ADD through the chain and return the last result; raises ChainError."""
        try:
            conflist = load_conflist(CONFLIST)
            runtime = Runtime(conflist, [BIN], CACHE)
            result = runtime.add(_attachment(pod))
        except (CniError, TimeoutExpired) as error:
            raise _refused(error) from error
        self._used[pod.id] = runtime
        return result

    def delete(self, pod: Pod) -> None:
        """Run DEL through the chain; raises ChainError."""
        try:
            self._used[pod.id].delete(_attachment(pod))
        except (CniError, TimeoutExpired) as error:
            raise _refused(error) from error
        del self._used[pod.id]


def _attachment(pod: Pod) -> Attachment:
    return Attachment(
        container_id=pod.id,
        netns=str(netns.DIRECTORY / pod.namespace),
        args=pod.args,
        capabilities=pod.runtime,
    )


def _refused(error: CniError | TimeoutExpired) -> ChainError:
    if isinstance(error, CniError):
        said = {"code": error.code, "msg": error.message, "details": error.details}
        return ChainError(said)
    return ChainError({"code": 999, "msg": str(error), "details": ""})
