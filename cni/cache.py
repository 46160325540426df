"""The runtime's memory: what was attached, with what, and the result.

DEL and CHECK must bring an ADD's result back, and GC must know what is alive (SPEC.md,
"Section 3").  One file each, in the form of libcni's (``cniCacheV1``).
"""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from eniplug.cni.errors import IO_FAILURE, CniError
from eniplug.cni.shapes import decode, mapping, sequence, text

KIND: Final = "cniCacheV1"


@frozen(kw_only=True, hash=False)
class Attachment:
    """One interface of one container, as a runtime asks for it.

    ``netns`` is a path, empty where there is none any more.  ``args`` become CNI_ARGS;
    ``capabilities`` are values by capability, for the entries that want them.
    """

    container_id: str
    netns: str = ""
    ifname: str = "eth0"
    args: Mapping[str, str] = field(factory=dict)
    capabilities: Mapping[str, Any] = field(factory=dict)


@frozen(hash=False)
class Kept:
    """An attachment that was made, and the result that its chain gave."""

    attachment: Attachment
    result: Mapping[str, Any]


@frozen
class Cache:
    """The attachments of one network, in a folder that networks may share.

    Raises CniError 5 for what cannot be read or written, 6 for a file that is broken.
    """

    folder: Path
    network: str

    def get(self, container_id: str, ifname: str) -> Kept | None:
        """Return an attachment, or None when there is no such."""
        path = self._path(container_id, ifname)
        try:
            return _decode(path.read_bytes(), path)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise _failed(path, error) from error

    def all(self) -> list[Kept]:
        """Return every attachment of this network."""
        try:
            found = sorted(self.folder.glob(f"{self.network}:*"))
            return [_decode(path.read_bytes(), path) for path in found]
        except OSError as error:
            raise _failed(self.folder, error) from error

    def put(self, kept: Kept, conflist: bytes) -> None:
        """Keep an attachment; it is there whole or not at all."""
        one = kept.attachment
        path = self._path(one.container_id, one.ifname)
        record = {
            "kind": KIND,
            "containerId": one.container_id,
            "config": base64.b64encode(conflist).decode(),
            "ifName": one.ifname,
            "networkName": self.network,
            "netns": one.netns,
            "cniArgs": [[key, value] for key, value in one.args.items()],
            "capabilityArgs": dict(one.capabilities),
            "result": kept.result,
        }
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            temporary = path.with_name(f".{path.name}")
            temporary.write_text(json.dumps(record))
            temporary.chmod(0o600)
            temporary.rename(path)
        except OSError as error:
            raise _failed(path, error) from error

    def drop(self, container_id: str, ifname: str) -> None:
        """Forget an attachment, if it is there."""
        path = self._path(container_id, ifname)
        try:
            path.unlink(missing_ok=True)
        except OSError as error:
            raise _failed(path, error) from error

    def _path(self, container_id: str, ifname: str) -> Path:
        # None of the three can hold a colon, so no two attachments share a file.
        return self.folder / f"{self.network}:{container_id}:{ifname}"


def _decode(data: bytes, path: Path) -> Kept:
    """Read a file; its fields are those of libcni's cachedInfo."""
    record = decode(data, str(path))

    def place(name: str) -> str:
        return f"{path}: {name}"

    pairs = sequence(record.get("cniArgs") or (), place("cniArgs"))
    args = [sequence(pair, place("cniArgs")) for pair in pairs]
    attachment = Attachment(
        container_id=text(record.get("containerId"), place("containerId")),
        netns=text(record.get("netns", ""), place("netns")),
        ifname=text(record.get("ifName"), place("ifName")),
        args={str(key): str(value) for key, value, *_ in args},
        capabilities=mapping(record.get("capabilityArgs") or {}, place("capabilities")),
    )
    return Kept(attachment, mapping(record.get("result"), place("result")))


def _failed(path: Path, error: OSError) -> CniError:
    return CniError(IO_FAILURE, f"{path}: {error.strerror}")
