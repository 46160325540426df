"""What the benchmark is asked for: how much, and beside which other executables."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from attrs import frozen

from eniplug.cni.conflist import Conflist, parse_conflist


@frozen(kw_only=True)
class Asked:
    """``quick``: fewer and smaller sizes; ``path``: where ``against`` is found."""

    quick: bool = False
    against: Conflist | None = None
    path: Sequence[Path] = ()


def conflist(path: Path) -> Conflist:
    """Read a conflist, or the configuration of a single executable.

    Raises CniError that says what is wrong with it, and OSError.
    """
    data = path.read_bytes()
    try:
        raw = json.loads(data)
    except ValueError:
        return parse_conflist(data, str(path))  # which has the words for it
    if isinstance(raw, dict) and "plugins" not in raw:
        kept = {key: raw[key] for key in ("cniVersion", "name") if key in raw}
        data = json.dumps({**kept, "plugins": [raw]}).encode()
    return parse_conflist(data, str(path))
