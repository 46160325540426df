"""The runtime's side: runs a conflist's executables in order, as libcni does.

SPEC.md, "Section 3: Execution of Network Configurations".  The final result of an ADD
is cached, because DEL, CHECK and GC must bring it back.
"""

from __future__ import annotations

import json
import os
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import field, frozen

from eniplug.cni.conflist import Conflist, entry_config
from eniplug.cni.errors import CniError
from eniplug.cni.versions import at_least

PATIENCE: Final = 120.0
"""Seconds that an executable may take."""

Result = dict[str, Any]


@frozen(kw_only=True, hash=False)
class Attachment:
    """One interface of one container; ``capabilities`` are values by capability."""

    container_id: str
    netns: str = ""
    ifname: str = "eth0"
    args: Mapping[str, str] = field(factory=dict)
    capabilities: Mapping[str, Any] = field(factory=dict)


@frozen
class Runtime:
    """Runs one conflist. ``path`` is where executables are, ``cache`` keeps results."""

    conflist: Conflist
    path: Sequence[Path]
    cache: Path

    def add(self, attachment: Attachment) -> Result:
        """Run ADD through the chain; returns the last result.

        Raises the CniError of the plugin that failed, after a DEL of the whole chain.
        """
        result: Result | None = None
        try:
            for index in range(len(self.conflist.plugins)):
                config = self._config(index, attachment, result)
                result = self._run("ADD", index, config, attachment)
        except CniError:
            self._delete_all(attachment, None, quiet=True)
            raise
        assert result is not None
        self._remember(attachment, result)
        return result

    def check(self, attachment: Attachment) -> None:
        """Run CHECK through the chain, unless the conflist disables it."""
        if self.conflist.disable_check:
            return
        cached = self._recall(attachment)
        if cached is None:
            msg = f"nothing is cached for container {attachment.container_id}"
            raise CniError(3, msg, "unknown-container: add it first")
        for index in range(len(self.conflist.plugins)):
            config = self._config(index, attachment, cached)
            self._run("CHECK", index, config, attachment)

    def delete(self, attachment: Attachment) -> None:
        """Run DEL through the chain, last plugin first."""
        self._delete_all(attachment, self._recall(attachment), quiet=False)
        self._file(attachment).unlink(missing_ok=True)

    def collect(self, valid: Sequence[tuple[str, str]]) -> None:
        """Run GC: attachments of this network that are not ``valid`` may go.

        Raises CniError (code 1) when the conflist's version has no GC.
        """
        self._needs("GC", "1.1.0")
        for index in range(len(self.conflist.plugins)):
            config = entry_config(self.conflist, index, attachments=valid)
            self._run("GC", index, config, None)

    def status(self) -> None:
        """Run STATUS through the chain. Raises CniError when no ADD can succeed."""
        self._needs("STATUS", "1.1.0")
        for index in range(len(self.conflist.plugins)):
            self._run("STATUS", index, entry_config(self.conflist, index), None)

    def known(self) -> tuple[tuple[str, str], ...]:
        """The attachments of this network that are cached: container id and ifname."""
        found = sorted(self.cache.glob(f"{self.conflist.name}-*.json"))
        pairs = [json.loads(path.read_text()) for path in found]
        return tuple((one["containerID"], one["ifname"]) for one in pairs)

    # -- one executable ----------------------------------------------------------------

    def _config(
        self, index: int, attachment: Attachment, result: Mapping[str, Any] | None
    ) -> bytes:
        return entry_config(
            self.conflist,
            index,
            prev_result=result,
            runtime_config=attachment.capabilities,
        )

    def _delete_all(
        self, attachment: Attachment, result: Result | None, *, quiet: bool
    ) -> None:
        for index in reversed(range(len(self.conflist.plugins))):
            config = self._config(index, attachment, result)
            try:
                self._run("DEL", index, config, attachment)
            except CniError:
                if not quiet:
                    raise

    def _run(
        self, command: str, index: int, config: bytes, attachment: Attachment | None
    ) -> Result:
        kind = str(self.conflist.plugins[index]["type"])
        done = subprocess.run(
            [str(self._find(kind))],
            input=config,
            env=self._environ(command, attachment),
            capture_output=True,
            timeout=PATIENCE,
            check=False,
        )
        if done.returncode:
            raise _failure(kind, command, done)
        if command != "ADD":
            return {}
        try:
            return dict(json.loads(done.stdout))
        except (ValueError, TypeError) as error:
            msg = f"{kind} printed no result on ADD"
            raise CniError(6, msg, f"bad-json: {done.stdout[:200]!r}") from error

    def _find(self, kind: str) -> Path:
        for folder in self.path:
            if (folder / kind).is_file():
                return folder / kind
        folders = ", ".join(map(str, self.path))
        msg = f"no executable {kind!r} in {folders}"
        raise CniError(5, msg, "read-failed: install it, or name its folder by --path")

    def _environ(self, command: str, attachment: Attachment | None) -> dict[str, str]:
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CNI_")}
        environ |= {
            "CNI_COMMAND": command,
            "CNI_PATH": os.pathsep.join(map(str, self.path)),
        }
        if attachment is not None:
            environ |= {
                "CNI_CONTAINERID": attachment.container_id,
                "CNI_NETNS": attachment.netns,
                "CNI_IFNAME": attachment.ifname,
                "CNI_ARGS": ";".join(f"{k}={v}" for k, v in attachment.args.items()),
            }
        return environ

    # -- the cache ---------------------------------------------------------------------

    def _needs(self, command: str, version: str) -> None:
        if not at_least(self.conflist.cni_version, version):
            msg = f"cniVersion {self.conflist.cni_version} has no {command}"
            raise CniError(1, msg, f"unsupported-version: {version} and newer have it")

    def _file(self, attachment: Attachment) -> Path:
        name = (
            f"{self.conflist.name}-{attachment.container_id}-{attachment.ifname}.json"
        )
        return self.cache / name.replace("/", "_")

    def _remember(self, attachment: Attachment, result: Result) -> None:
        self.cache.mkdir(mode=0o700, parents=True, exist_ok=True)
        target = self._file(attachment)
        temporary = target.with_name(f".{target.name}")
        record = {
            "containerID": attachment.container_id,
            "ifname": attachment.ifname,
            "result": result,
        }
        temporary.write_text(json.dumps(record))
        temporary.rename(target)

    def _recall(self, attachment: Attachment) -> Result | None:
        try:
            record = json.loads(self._file(attachment).read_text())
        except FileNotFoundError:
            return None
        result: Result = record["result"]
        return result


def _failure(
    kind: str, command: str, done: subprocess.CompletedProcess[bytes]
) -> CniError:
    """Read an executable's error; one that printed none is quoted."""
    try:
        said = json.loads(done.stdout)
        return CniError(said["code"], said["msg"], said.get("details", ""))
    except (ValueError, TypeError, KeyError):
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        msg = f"{kind} failed on {command} with exit status {done.returncode}"
        return CniError(999, msg, words)
