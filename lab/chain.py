"""interim"""

from __future__ import annotations
from typing import Any
from eniplug.lab.pods import ChainError, Pod


class NodeChain:
    def add(self, pod: Pod) -> dict[str, Any]:
        raise ChainError({"code": 1, "msg": "no runtime", "details": ""})

    def delete(self, pod: Pod) -> None:
        raise ChainError({"code": 1, "msg": "no runtime", "details": ""})
