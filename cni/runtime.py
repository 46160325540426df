"""The runtime's side: runs a conflist's executables in order, as libcni does.

SPEC.md, "Section 3: Execution of Network Configurations".
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from attrs import evolve, frozen

from eniplug.cni.cache import Attachment, Cache, Kept
from eniplug.cni.conflist import Conflist, entry_config
from eniplug.cni.errors import (
    INCOMPATIBLE_VERSION,
    INTERNAL,
    INVALID_CONFIG,
    INVALID_VARIABLE,
    IO_FAILURE,
    TRY_AGAIN,
    UNKNOWN_CONTAINER,
    CniError,
)
from eniplug.cni.protocol import check_container_id, check_ifname
from eniplug.cni.shapes import decode
from eniplug.cni.versions import at_least, from_version, to_version

__all__ = ["Attachment", "EntryError", "Runtime"]

PATIENCE: Final = 120.0
"""Seconds that an executable may take; it is killed then."""

Result = dict[str, Any]


class EntryError(CniError):
    """What an executable refused; ``entry`` is its type in the conflist."""

    def __init__(self, entry: str, code: int, message: str, details: str = "") -> None:
        super().__init__(code, message, details)
        self.entry = entry


@frozen(hash=False)
class Runtime:
    """Runs one conflist.

    ``path`` are the folders of the executables, ``cache`` is where results are kept,
    ``patience`` how many seconds one executable may take.  What is refused is
    a CniError: an `EntryError` where an executable refused it.
    """

    conflist: Conflist
    path: Sequence[Path]
    cache: Path
    patience: float = PATIENCE

    def add(self, attachment: Attachment) -> Result:
        """Run ADD through the chain and return the last entry's result.

        When one refuses, the whole chain gets a DEL before its error is raised.  An
        attachment that is there is refused untouched: that DEL would be its end.
        """
        _check(attachment)
        if self._kept.get(attachment.container_id, attachment.ifname) is not None:
            msg = f"{attachment.container_id} has its {attachment.ifname} already"
            raise CniError(INVALID_CONFIG, msg, "run DEL first")
        for entry in self.conflist.plugins:
            self._find(entry["type"])
        result: Result | None = None
        try:
            for index in range(len(self.conflist.plugins)):
                output = self._run_for(attachment, "ADD", index, result)
                result = self._result(index, output)
            assert result is not None, "a conflist has at least one entry"
            self._kept.put(Kept(attachment, result), self.conflist.text)
        except BaseException as error:
            self._undo(attachment, error)
            raise
        return result

    def check(self, attachment: Attachment) -> None:
        """Run CHECK through the chain; does nothing where the conflist disables it."""
        _check(attachment)
        self._needs("CHECK", "0.4.0")
        if self.conflist.disable_check:
            return
        kept = self._kept.get(attachment.container_id, attachment.ifname)
        if kept is None:
            msg = f"nothing is known of {attachment.container_id} {attachment.ifname}"
            raise CniError(UNKNOWN_CONTAINER, msg, "run ADD first")
        attachment, prev = self._completed(attachment, kept)
        for index in range(len(self.conflist.plugins)):
            self._run_for(attachment, "CHECK", index, prev)

    def delete(self, attachment: Attachment) -> None:
        """Run DEL through the chain, last entry first; stops where one refuses."""
        _check(attachment)
        try:
            kept = self._kept.get(attachment.container_id, attachment.ifname)
        except CniError:
            kept = None  # a DEL must do without the result where it is lost
        prev: Result | None = None
        if kept is not None:
            attachment, prev = self._completed(attachment, kept)
        if not at_least(self.conflist.cni_version, "0.4.0"):
            prev = None
        for index in reversed(range(len(self.conflist.plugins))):
            self._run_for(attachment, "DEL", index, prev)
        self._kept.drop(attachment.container_id, attachment.ifname)

    def gc(self, valid: Iterable[tuple[str, str]] | None = None) -> None:
        """Run GC: entries may remove what belongs to no attachment that is ``valid``.

        These are pairs of container id and interface; by default all that were added
        with this cache and not deleted.  Every entry is asked; the first refusal is
        raised at the end.  Needs CNI 1.1.0.
        """
        self._needs("GC", "1.1.0")
        if self.conflist.disable_gc:
            return
        if valid is None:
            ours = (kept.attachment for kept in self._kept.all())
            valid = ((one.container_id, one.ifname) for one in ours)
        attachments = tuple(valid)
        refusals: list[CniError] = []
        for index in range(len(self.conflist.plugins)):
            config = entry_config(self.conflist, index, attachments=attachments)
            try:
                self._run("GC", index, config)
            except CniError as error:
                refusals.append(error)
        if refusals:
            _raise_first(refusals)

    def status(self) -> None:
        """Run STATUS through the chain: an error means that no ADD can succeed.

        Needs CNI 1.1.0.
        """
        self._needs("STATUS", "1.1.0")
        for index in range(len(self.conflist.plugins)):
            self._run("STATUS", index, entry_config(self.conflist, index))

    # -- a chain -----------------------------------------------------------------------

    @property
    def _kept(self) -> Cache:
        return Cache(self.cache, self.conflist.name)

    def _undo(self, attachment: Attachment, why: BaseException) -> None:
        """Run DEL through the chain after a failed ADD, as far as it goes."""
        for index in reversed(range(len(self.conflist.plugins))):
            try:
                self._run_for(attachment, "DEL", index, None)
            except CniError as error:
                kind = self.conflist.plugins[index]["type"]
                why.add_note(f"{kind} refused the DEL that followed: {error}")

    def _completed(
        self, attachment: Attachment, kept: Kept
    ) -> tuple[Attachment, Result]:
        """Add what the ADD was given where the caller does not say, and its result."""
        complete = evolve(
            attachment,
            args=attachment.args or kept.attachment.args,
            capabilities=attachment.capabilities or kept.attachment.capabilities,
        )
        return complete, self._in_our_version(kept.result, "the cached result")

    def _needs(self, command: str, version: str) -> None:
        if not at_least(self.conflist.cni_version, version):
            msg = f"{command} needs CNI {version} or newer"
            remedy = f"the conflist's cniVersion is {self.conflist.cni_version}"
            raise CniError(INCOMPATIBLE_VERSION, msg, remedy)

    def _result(self, index: int, output: bytes) -> Result:
        what = f"{self.conflist.plugins[index]['type']}'s result"
        return self._in_our_version(decode(output, what), what)

    def _in_our_version(self, result: Mapping[str, Any], what: str) -> Result:
        wanted = self.conflist.cni_version
        ours = from_version(result, result.get("cniVersion") or wanted, what)
        return to_version(ours, wanted)

    # -- one executable ----------------------------------------------------------------

    def _run_for(
        self, attachment: Attachment, command: str, index: int, prev: Result | None
    ) -> bytes:
        config = entry_config(
            self.conflist,
            index,
            prev_result=prev,
            runtime_config=attachment.capabilities,
        )
        return self._run(command, index, config, _variables(attachment))

    def _run(
        self,
        command: str,
        index: int,
        config: bytes,
        variables: Mapping[str, str] | None = None,
    ) -> bytes:
        kind: str = self.conflist.plugins[index]["type"]
        environ = {k: v for k, v in os.environ.items() if not k.startswith("CNI_")}
        environ |= variables or {}
        environ["CNI_COMMAND"] = command
        environ["CNI_PATH"] = os.pathsep.join(map(str, self.path))
        try:
            done = subprocess.run(
                [self._find(kind)],
                input=config,
                env=environ,
                capture_output=True,
                timeout=self.patience,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            msg = f"{command} was not done after {self.patience:g} s"
            raise EntryError(kind, TRY_AGAIN, msg) from error
        except OSError as error:
            msg = f"{kind} cannot be run: {error.strerror}"
            raise EntryError(kind, IO_FAILURE, msg) from error
        if done.returncode:
            raise _refusal(kind, command, done)
        return done.stdout

    def _find(self, kind: str) -> Path:
        for folder in self.path:
            if os.access(folder / kind, os.X_OK) and (folder / kind).is_file():
                return folder / kind
        folders = ":".join(map(str, self.path))
        msg = f"there is no executable {kind!r} in {folders}"
        raise EntryError(kind, INVALID_CONFIG, msg, "install it, or correct the path")


def _check(attachment: Attachment) -> None:
    check_container_id(attachment.container_id)
    check_ifname(attachment.ifname)
    for key, value in attachment.args.items():
        if not key or "=" in key or ";" in key + value:
            msg = f"CNI_ARGS cannot hold {key}={value}"
            raise CniError(INVALID_VARIABLE, msg)


def _variables(attachment: Attachment) -> dict[str, str]:
    return {
        "CNI_CONTAINERID": attachment.container_id,
        "CNI_NETNS": attachment.netns,
        "CNI_IFNAME": attachment.ifname,
        "CNI_ARGS": ";".join(f"{k}={v}" for k, v in attachment.args.items()),
    }


def _refusal(
    kind: str, command: str, done: subprocess.CompletedProcess[bytes]
) -> EntryError:
    """Read an executable's error; where it printed none, its last words serve."""
    try:
        said = decode(done.stdout, "the error")
        code, msg = int(said["code"]), str(said["msg"])
        return EntryError(kind, code, msg, str(said.get("details") or ""))
    except (CniError, KeyError, TypeError, ValueError):
        words = (done.stderr or done.stdout).decode(errors="replace").strip()
        msg = f"{kind} failed on {command} with exit status {done.returncode}"
        return EntryError(kind, INTERNAL, msg, words[-1000:])


def _raise_first(refusals: Sequence[CniError]) -> None:
    first, *others = refusals
    for other in others:
        first.add_note(str(other))
    raise first
