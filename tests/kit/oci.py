"""A container image of a few files (OCI image layout), as `ctr` imports it."""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

MEDIA = "application/vnd.oci.image"
ARCHITECTURES = {"x86_64": "amd64", "aarch64": "arm64"}
"""What Go, hence an image, calls a machine."""


def write_image(
    path: Path, name: str, files: Mapping[str, bytes], command: Iterable[str]
) -> None:
    """Write an archive with one image of one layer; each file may be executed."""
    machine = os.uname().machine
    layer = _tar(files)
    config = _json(
        {
            "architecture": ARCHITECTURES.get(machine, machine),
            "os": "linux",
            "config": {"Entrypoint": [*command]},
            "rootfs": {"type": "layers", "diff_ids": [_digest(layer)]},
        }
    )
    manifest = _json(
        {
            "schemaVersion": 2,
            "mediaType": f"{MEDIA}.manifest.v1+json",
            "config": _described(config, "config.v1+json"),
            "layers": [_described(layer, "layer.v1.tar")],
        }
    )
    named = {"annotations": {"io.containerd.image.name": name}}
    index = {
        "schemaVersion": 2,
        "manifests": [_described(manifest, "manifest.v1+json") | named],
    }
    blobs = {
        f"blobs/sha256/{_digest(blob).partition(':')[2]}": blob
        for blob in (layer, config, manifest)
    }
    layout = {"oci-layout": _json({"imageLayoutVersion": "1.0.0"})}
    path.write_bytes(_tar({**layout, "index.json": _json(index), **blobs}))


def _tar(files: Mapping[str, bytes]) -> bytes:
    written = io.BytesIO()
    with tarfile.open(fileobj=written, mode="w") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size, entry.mode = len(content), 0o755
            archive.addfile(entry, io.BytesIO(content))
    return written.getvalue()


def _json(value: Any) -> bytes:
    return json.dumps(value).encode()


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _described(blob: bytes, kind: str) -> dict[str, Any]:
    return {
        "mediaType": f"{MEDIA}.{kind}",
        "digest": _digest(blob),
        "size": len(blob),
    }
