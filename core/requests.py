"""CNI requests in, CNI answers out: what stands between the wire and `Attachments`.

Every error becomes the JSON that the specification wants (SPEC.md, "Error"), with our
stable reason in front of its details.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache, partial
from threading import Lock
from typing import Any, Final

import structlog

from eniplug.cni import protocol, wire
from eniplug.cni.errors import CniError
from eniplug.cni.protocol import Call, NetConf
from eniplug.core import asks
from eniplug.core.answers import may_be_off, passed_on, result_for
from eniplug.core.attach import Attachments, Request
from eniplug.core.chain import Chain
from eniplug.core.chains import Chains, names_of
from eniplug.core.crew import aside
from eniplug.core.entries import plugins_of, plugins_to_remove
from eniplug.core.kernel.home import Home
from eniplug.core.modes import ANNOTATIONS
from eniplug.core.parts import AttachmentKey
from eniplug.core.refusals import Refusal
from eniplug.core.report import Reporter
from eniplug.core.settings import Settings
from eniplug.hooks import Pod
from eniplug.hooks.errors import (
    BusyError,
    ConfigError,
    EniplugError,
    NetnsError,
    NotReadyError,
    UnschedulableError,
)
from eniplug.hooks.values import NIC_CONFIG

log = structlog.get_logger()

RUNNING_ADDS: Final = 256
"""How many ADDs may run or wait at a time; one more is refused at once."""

CONFIGS: Final = 64
"""So many configurations are remembered: most pods of a node come with the same one."""

SHORT: Final = 8192
"""Bytes of a configuration that is remembered at most."""

TRACE: Final = (("TRACEPARENT", "traceparent"), ("TRACESTATE", "tracestate"))
"""Variables with the runtime's trace, and the names that propagators want."""

Later = list[Callable[[], object]]
"""What is to be done once the answer is out: the log's line, telling the observers."""


class Requests:
    """Answers CNI requests, and an operator's questions.  Safe for many threads.

    Made in the node's namespace.

    ``use`` is called with the chain of each ADD, before the pod: it puts the chain's
    node objects in place, or refuses it.  ``answered`` is told of each request's
    command, reason ("" if it was carried out) and seconds, when its answer is out.
    """

    def __init__(
        self,
        attachments: Attachments,
        chains: Chains,
        use: Callable[[Chain], None],
        reporter: Reporter,
        settings: Settings,
        *,
        answered: Callable[[str, str, float], None] = lambda *_: None,
    ) -> None:
        self._attachments = attachments
        self._chains = chains
        self._use = use
        self._reporter = reporter
        self._settings = settings
        self._answered = answered
        self._home = Home()
        self._adds = 0
        self._mutex = Lock()

    def handle(
        self, request: wire.Request, here: Callable[[], bool]
    ) -> tuple[int, bytes, Callable[[], None]]:
        """Carry one request out; never raises.

        Returns exit status, standard output, and what is to be done after the answer.
        """
        later: Later = []
        status, output = self._answer(request, here, later)

        def after() -> None:
            for do in later:
                do()

        return status, output, after

    def _answer(
        self, request: wire.Request, here: Callable[[], bool], later: Later
    ) -> tuple[int, bytes]:
        version = "1.0.0"
        command = request.environ.get("CNI_COMMAND", "")
        began = time.perf_counter()
        try:
            if wire.ASK in request.environ:
                with aside():  # as long as it takes, pods go on
                    told = asks.answer(self._reporter, request.environ)
                return 0, json.dumps(told).encode()
            call = protocol.parse_call(request.environ)
            conf = _config(call, request.stdin)
            version = conf.cni_version
            output = self._carry_out(call, conf, request, here, later)
        except (EniplugError, CniError) as error:
            reason = getattr(error, "reason", "bad-request")
            why = {"reason": reason, "error": error.message}
            took = time.perf_counter() - began
            later.insert(0, partial(self._tell, command, request, took, **why))
            details = f"{reason}: {error.details}"
            return 1, protocol.error_json(version, error.code, error.message, details)
        except Exception as error:
            log.exception("a bug", command=command)
            took = time.perf_counter() - began
            later.append(partial(self._answered, command, "internal", took))
            remedy = "internal: this is a bug in eniplug, please report the agent's log"
            return 1, protocol.error_json(version, 999, repr(error), remedy)
        took = time.perf_counter() - began
        later.insert(0, partial(self._tell, command, request, took))
        return 0, b"" if output is None else json.dumps(output).encode()

    def _tell(
        self, command: str, request: wire.Request, took: float, **why: str
    ) -> None:
        """Write a request's line to the log, and have it counted."""
        write = log.warning if why else log.info
        write(
            command,
            container=request.environ.get("CNI_CONTAINERID", ""),
            args=request.environ.get("CNI_ARGS", ""),
            ms=round(took * 1e3, 2),
            **why,
        )
        self._answered(command, why.get("reason", ""), took)

    def _carry_out(
        self,
        call: Call,
        conf: NetConf,
        request: wire.Request,
        here: Callable[[], bool],
        later: Later,
    ) -> Mapping[str, Any] | None:
        match call.command:
            case "ADD":
                try:
                    return self._add(call, conf, request, here, later)
                except EniplugError as error:
                    self._note(call, error)
                    raise
            case "DEL":
                self._delete(call, conf, request, later)
            case "CHECK":
                plugins = plugins_of(conf, self._settings)
                if plugins or not may_be_off(conf):
                    wanted = self._request(call, conf, request, plugins)
                    with aside():
                        self._attachments.check(wanted)
            case "GC":
                with aside():
                    self._collect(conf)
            case "STATUS":
                self._status()
            case _:
                return protocol.version_answer(conf.cni_version)
        return None

    def _add(
        self,
        call: Call,
        conf: NetConf,
        request: wire.Request,
        here: Callable[[], bool],
        later: Later,
    ) -> Mapping[str, Any]:
        plugins = plugins_of(conf, self._settings)
        if not plugins and may_be_off(conf):
            return passed_on(conf)
        chain = self._chains.make(plugins)
        wanted = self._request(call, conf, request, plugins, chain=chain, here=here)
        if wanted.pod.annotations:
            _heed(wanted.pod, wanted.pod.annotations)
        if wanted.netns is None:
            msg = f"CNI_NETNS {call.netns!r} cannot be opened"
            raise NetnsError(msg)
        with self._mutex:
            if self._adds == RUNNING_ADDS:
                msg = f"{RUNNING_ADDS} ADDs are running"
                raise BusyError(msg)
            self._adds += 1
        try:
            self._use(chain)
            part = self._attachments.add(wanted)
        except EniplugError as error:
            refused = {"pod": wanted.pod, "error": error}
            later.append(partial(chain.observe, "refused", **refused))
            raise
        finally:
            with self._mutex:
                self._adds -= 1
        attached = {"pod": part.pod, "allocation": part.allocation}
        later.append(self._attachments.catch_up)
        later.append(partial(chain.observe, "attached", **attached))
        return result_for(part, conf, call.netns)

    def _note(self, call: Call, error: EniplugError) -> None:
        """Remember why an ADD was refused, and how the node was then."""
        self._reporter.refusals.note(
            Refusal.of(
                error,
                when=time.time(),
                container_id=call.container_id,
                args=call.args,
                facts=self._reporter.facts(),
            )
        )

    def _delete(
        self, call: Call, conf: NetConf, request: wire.Request, later: Later
    ) -> None:
        plugins = plugins_to_remove(conf, self._settings)
        chain: Chain | None
        try:
            chain = self._chains.make(plugins)
        except EniplugError:
            chain = None  # what was applied is removed whatever the conflist says now
        wanted = self._request(call, conf, request, plugins, chain=chain)
        gone = self._attachments.delete(wanted)
        if chain is not None:
            for part in gone:
                # Before the answer: the pod's successor may come right after it.
                self._attachments.release(part, chain)
                told = {"pod": part.pod, "allocation": part.allocation}
                later.append(partial(chain.observe, "detached", **told))

    def _collect(self, conf: NetConf) -> None:
        if conf.valid_attachments is None:
            msg = "GC came without cni.dev/valid-attachments"
            raise ConfigError(msg, "the runtime must list what is to be kept")
        valid = {AttachmentKey(*pair) for pair in conf.valid_attachments}
        gone = self._attachments.collect(conf.name, valid, time.time())
        log.info("GC", network=conf.name, valid=len(valid), removed=len(gone))

    def _status(self) -> None:
        why = self._reporter.why_not_ready()
        # No pod is sent to a cordoned node, and one that is unready loses those it has.
        if why is not None and not isinstance(why, UnschedulableError):
            raise NotReadyError(why.message, why.details)

    def _request(
        self,
        call: Call,
        conf: NetConf,
        request: wire.Request,
        plugins: Sequence[Any],
        *,
        chain: Chain | None = None,
        here: Callable[[], bool] = lambda: True,
    ) -> Request:
        return Request(
            id=request.id,
            pod=self._pod(call, conf, request.environ),
            chain=chain,
            plugins=chain.names if chain else names_of(plugins),
            netns=self._pods_netns(call, request.netns),
            sandbox=call.netns,
            here=here,
        )

    def _pods_netns(self, call: Call, netns: int | None) -> int | None:
        """Hold that a descriptor is a pod's namespace.

        Raises NetnsError, but for a DEL, which then leaves the pod's side alone.
        """
        try:
            if netns is not None:
                self._home.check_away(netns)
        except NetnsError:
            if call.command != "DEL":
                raise
            return None
        return netns

    def _pod(self, call: Call, conf: NetConf, environ: Mapping[str, str]) -> Pod:
        annotations = conf.runtime_config.get(ANNOTATIONS)
        return Pod(
            container_id=call.container_id,
            ifname=call.ifname,
            network=conf.name,
            namespace=call.args.get("K8S_POD_NAMESPACE", ""),
            name=call.args.get("K8S_POD_NAME", ""),
            uid=call.args.get("K8S_POD_UID", ""),
            annotations=annotations if isinstance(annotations, Mapping) else None,
            runtime=conf.runtime_config,
            mtu=conf.mtu or self._settings.pod_mtu,
            veth_prefix=conf.veth_prefix or self._settings.veth_prefix,
            prev=conf.prev_result,
            trace={name: environ[key] for key, name in TRACE if key in environ},
        )


def _heed(pod: Pod, annotations: Mapping[str, str]) -> None:
    """Tell of an annotation that is not understood; it changes nothing."""
    asked = annotations.get(NIC_CONFIG)
    if asked is not None and not pod.wants_every_card:
        names = {"container": pod.container_id, "key": NIC_CONFIG, "value": asked}
        log.warning("annotation ignored", **names)


_known_config = lru_cache(CONFIGS)(protocol.parse_config)


def _config(call: Call, stdin: bytes) -> NetConf:
    """Read the configuration; for a DEL only what it takes to find the pod."""
    if call.command == "DEL":
        return _config_to_remove(stdin)
    short = len(stdin) <= SHORT
    return _known_config(stdin) if short else protocol.parse_config(stdin)


def _config_to_remove(stdin: bytes) -> NetConf:
    """Read what a DEL needs: it is told what the ADD was answered, and knows better.

    A setting that has become unusable since the ADD must not keep a pod alive.
    """
    try:
        return protocol.parse_config(stdin, prev=False)
    except CniError as error:
        try:
            raw = json.loads(stdin)
        except ValueError:
            raise error from None
        if not isinstance(raw, dict):
            raise
        needed = {k: raw.get(k) for k in ("cniVersion", "name", "type", "plugins")}
        return protocol.parse_config(json.dumps(needed).encode())
