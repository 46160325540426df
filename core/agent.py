"""The agent: one resident process per node.  Here is the order of start and stop.

Start: settings and conflist; plugins; the store; the node from IMDS and EC2; node
objects; what a crash cut off; ENIs and their addresses; DELs that were missed; the
socket; and when all is ready, and only then, the conflist.  Stop: the listener, those
who wait, half a second for the rest.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing
from pathlib import Path
from threading import Event
from typing import Final

import click
import structlog
from attrs import frozen

from eniplug.cni.conflist import Conflist, load_conflist
from eniplug.cni.errors import CniError
from eniplug.core import rebuild
from eniplug.core.attach import Attachments
from eniplug.core.audit import NOT_SHOWN
from eniplug.core.beats import until_beat
from eniplug.core.chain import Chain
from eniplug.core.chains import Chains, own_chains, usable
from eniplug.core.cloud import CloudWorker
from eniplug.core.discover import Facts, discover, eni_of
from eniplug.core.ec2 import Cloud
from eniplug.core.ec2_boto import Ec2
from eniplug.core.entries import own_entries
from eniplug.core.garbage import freeze
from eniplug.core.guard import Guard
from eniplug.core.heartbeat import Heartbeat
from eniplug.core.host import AgentHost, Bounds, Card
from eniplug.core.http import PROMETHEUS, Health, Http, Page, Pages
from eniplug.core.imds import Imds
from eniplug.core.imds_only import ImdsOnly
from eniplug.core.install import FOLDER, SHIPPED, install_conflist
from eniplug.core.kernel import Kernel
from eniplug.core.kernel.home import may_enter
from eniplug.core.kernel.moves import Moves
from eniplug.core.kernel.reaper import Reaper
from eniplug.core.kernel.survey import survey
from eniplug.core.kube import Kube, connector
from eniplug.core.kube_api import NodeFacts
from eniplug.core.log import configure
from eniplug.core.manager import Catalogue
from eniplug.core.memory import KUBE, recall, recall_kube, remember, written_kube
from eniplug.core.metrics import Metrics
from eniplug.core.modes import check_cards, check_modes, check_primary
from eniplug.core.node import NodeScope
from eniplug.core.parts import Part
from eniplug.core.plan import Planner
from eniplug.core.pool import AddressPool
from eniplug.core.repair import Repair
from eniplug.core.report import Reporter
from eniplug.core.requests import Requests
from eniplug.core.server import Server
from eniplug.core.settings import Settings
from eniplug.core.state import ELASTIC_IPS, State
from eniplug.core.store import Store, set_aside
from eniplug.core.tombstones import Tombstones
from eniplug.hooks import Block, Eni, Ip, Node
from eniplug.hooks.errors import CancelledError, ConfigError, EniplugError, KernelError

log = structlog.get_logger()

LOOK_ANYWAY: Final = 60.0
"""Seconds until all links are looked at though none is known to have moved."""

SWEEP_AFTER: Final = 10.0
"""Seconds that a host link must be gone before its pod counts as dead."""

FIRST_ADDRESSES: Final = 10.0
"""Seconds that the start of a new node waits for its first address."""

STOP_GRACE: Final = 0.5
"""Seconds that running requests have when the agent stops."""


@frozen(kw_only=True)
class Options:
    """How the agent is started; paths as the agent sees them."""

    conflist: Path | None = None
    run_dir: Path = Path("/run/eniplug")
    conf_dir: Path = FOLDER
    proc_sys: Path = Path("/proc/sys")
    gc_strict: bool = False
    rebuild: bool = False


class Agent:
    """Puts the parts together, in order."""

    def __init__(self, options: Options, environ: Mapping[str, str]) -> None:
        """Read settings and conflist, and load the plugins that it names.

        Raises ConfigError or CniError, one line that names what is wrong.
        """
        self._options = options
        self._stop = Event()
        self.failed = False
        self._settings = Settings.from_environ(environ)
        configure(self._settings.log_level)
        path = options.conflist or self._settings.conflist or SHIPPED
        self._conflist: Conflist = load_conflist(path, trusted=path != SHIPPED)
        self._entries = own_entries(self._conflist, self._settings, str(path))
        check_modes(self._settings, [entry.plugins for entry in self._entries])
        if self._settings.enable_multi_nic:
            plugins = [entry.plugins for entry in self._entries]
            check_cards(plugins, self._conflist.plugins)
        self._guard = Guard(self._give_up)
        self._chains = Chains(Catalogue.from_environ(environ, self._guard))
        self._own = own_chains(self._chains, self._entries, str(path))
        self._kernel = Kernel(proc_sys=options.proc_sys)
        self._metrics, self._health = Metrics(), Health()
        self._metrics.watch_plugins(self._guard.told)
        pages = _pages(self._metrics, self._health)
        self._http = Http(self._settings.metrics_addr, pages)
        self._reach_kube = connector(environ, self._settings)

    def stop(self) -> None:
        """Ask for the end; returns at once."""
        self._stop.set()

    def _give_up(self) -> None:
        """End so that whoever supervises the agent starts it again."""
        self.failed = True
        self._stop.set()

    def run(self) -> None:
        """Start, serve until `stop`, and stop."""
        began = time.monotonic()
        self._open_pages()
        store, new = self._open_store()
        metadata = Imds()
        facts, cloud = self._discover(metadata, recall(store))
        check_primary(facts.primary, [entry.plugins for entry in self._entries])
        remember(store, facts)
        self._find_lost(store, facts, new=new)
        _settle_intents(store)
        work = Event()
        pool = AddressPool(self._settings.ip_cooldown_period, time.monotonic)
        every = facts.cards if self._settings.enable_multi_nic else None
        state = State(store, pool, work.set, cards=every)
        enis = self._found_enis(facts, state)
        node = self._node(facts, enis)
        scope = NodeScope(node, self._own, self._kernel, state)
        reaper = Reaper(self._kernel.reap)
        attachments = Attachments(
            state,
            self._kernel,
            lambda: scope.node,
            reaper.wake,
            told=self._chain_of,
            patience=self._settings.add_wait,
            gc_strict=self._options.gc_strict,
        )
        scope.settle()
        attachments.recover()
        repair = Repair(
            self._kernel,
            state,
            scope,
            attachments,
            main_rules=self._settings.put_back_main_rules,
        )
        repair.start()
        recorded = store.blocks()
        for eni in enis:
            self._take_up(state, facts, eni, recorded.get(eni.id, {}))
        kube = self._kube(store, state, work.set)
        host = self._host(facts, state, scope, kube)
        worker = CloudWorker(
            cloud,
            metadata,
            host,
            facts,
            self._settings,
            work,
            held=kube.held,
            tenants=state,
            seek=new or store.fact(ELASTIC_IPS) is not None,
        )
        tombstones = Tombstones(self._options.run_dir / "tombstones", attachments.bury)
        tombstones.work_off()
        reporter = Reporter(
            state,
            lambda: scope.node,
            worker,
            self._settings,
            self._entries,
            repaired=repair.told,
            planned=Planner(self._kernel, state, scope).told,
            plugins=self._guard.told,
            refused=kube.note,
        )
        self._metrics.watch(state, reporter.why_not_ready)
        requests = Requests(
            attachments,
            self._chains,
            usable(self._own, scope.use),
            reporter,
            self._settings,
            answered=self._metrics.answered,
        )
        server = Server(self._options.run_dir / "agent.sock", requests.handle)
        reaper.start()
        worker.start()
        self._await_addresses(state)
        freeze()
        server.open()
        install_conflist(self._options.conf_dir, self._conflist.text)
        kube.start()
        log.info("ready", seconds=round(time.monotonic() - began, 3))
        self._beat(attachments, tombstones)
        server.refuse()
        state.cancel(None, "the agent stops")
        for one in (kube, repair, worker, reaper):
            one.stop()
        server.close(STOP_GRACE)
        attachments.catch_up()
        self._http.close()
        log.info("stopped")

    def _open_pages(self) -> None:
        """Show from the first moment on that this process lives."""
        Heartbeat().start()
        self._http.open()

    # -- start -------------------------------------------------------------------------

    def _discover(self, metadata: Imds, recorded: Facts | None) -> tuple[Facts, Cloud]:
        """Learn what the node is; what is recorded serves until EC2 answers."""
        alone = self._settings.enable_imds_only_mode
        called = self._metrics.called
        return discover(
            metadata,
            lambda region: ImdsOnly(metadata) if alone else Ec2(region, called=called),
            manage_untagged=self._settings.manage_untagged_eni,
            multi_nic=self._settings.enable_multi_nic,
            stop=self._stop,
            recorded=recorded,
        )

    def _take_up(
        self, state: State, facts: Facts, eni: Eni, recorded: Mapping[Block, str]
    ) -> None:
        """Give the pool what an ENI had in an earlier life of the agent.

        What EC2 has just shown without it goes into quarantine at once.  Blocks that
        are not recorded follow when IMDS agrees with EC2: the worker's business.
        """
        found = next(one for one in facts.managed if one.id == eni.id)
        places = (facts.limits.eni_slots, facts.limits.ipv6_per_eni)
        state.add_eni(eni, places, recorded, kept=found.kind != "interface")
        for block, reason in recorded.items():
            if facts.fresh and block not in found.blocks:
                reason = reason or NOT_SHOWN  # noqa: PLW2901
            if reason:
                state.quarantine(eni.id, block, reason)

    def _open_store(self) -> tuple[Store, bool]:
        """Open the store; tells whether it was made just now.

        One that cannot be read is set aside.
        """
        path = self._options.run_dir / "state.db"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.parent.chmod(0o700)  # a kubelet has made it for all to read
        if self._options.rebuild:
            set_aside(path)
        elif path.exists():
            try:
                return Store(path), False
            except ConfigError as error:
                log.error("the store is set aside", error=error.message)
                set_aside(path)
        return Store(path), True

    def _find_lost(self, store: Store, facts: Facts, *, new: bool) -> None:
        """Fill in the pods that run on the node and that the store does not know.

        Raises ConfigError, and leaves no store behind, when it is new and a pod's
        address cannot be told: another pod could be given it.  ``--rebuild`` says to go
        on without it.
        """
        with self._kernel.lock:
            links = self._kernel.links()
        known = store.parts()
        lost = rebuild.strangers(links, [part.key for part in known])
        if not lost:
            return
        by_mac = {link.mac: name for name, link in links.items()}

        def eni_of_address(address: Ip) -> Eni | None:
            for found in facts.managed:
                if found.holds(address) and found.mac in by_mac:
                    return eni_of(found, by_mac[found.mac], mark=1)
            return None

        pods = {link.alias for link in lost.values()}
        log.error("the store does not know all pods that run here", lost=len(pods))
        parts = tuple(rebuild.parts_of(lost, survey(), eni_of_address))
        if new and len(parts) < len(pods) and not self._options.rebuild:
            store.close()
            set_aside(store.path)
            msg = "the store is lost, and not every running pod's address can be told"
            remedy = "delete the pods that the log names, or start with --rebuild"
            raise ConfigError(msg, remedy)
        for eni_id, mark in rebuild.marks_of(links, parts).items():
            store.keep_mark(eni_id, mark)
        for part in parts:
            store.update(store.begin(part))

    def _found_enis(self, facts: Facts, state: State) -> Sequence[Eni]:
        """The managed ENIs that have a link on the node, the primary first."""
        with self._kernel.lock:
            links = {link.mac: name for name, link in self._kernel.links().items()}
        enis: list[Eni] = []
        for found in facts.managed:
            link = links.get(found.mac)
            if link is None:
                log.warning("no link has this ENI's MAC", eni=found.id, mac=found.mac)
                continue
            mark = state.mark_for(found.id, primary=found.primary)
            enis.append(eni_of(found, link, mark))
        if not enis or not enis[0].primary:
            msg = f"no link has the primary ENI's MAC address {facts.primary.mac}"
            raise KernelError(msg, "run the agent in the host's network namespace")
        return enis

    def _node(self, facts: Facts, enis: Sequence[Eni]) -> Node:
        return Node(
            instance_id=facts.instance_id,
            instance_type=facts.instance_type,
            region=facts.region,
            zone=facts.zone,
            vpc_cidrs=facts.vpc_cidrs,
            enis=tuple(enis),
            settings=self._settings.node,
        )

    def _kube(self, store: Store, state: State, wake: Callable[[], None]) -> Kube:
        def changed(found: NodeFacts) -> None:
            wake()
            record = written_kube(found)
            state.with_store(lambda store: store.keep_fact(KUBE, record))

        return Kube(self._reach_kube, self._settings, changed, recall_kube(store))

    def _host(
        self, facts: Facts, state: State, scope: NodeScope, kube: Kube
    ) -> AgentHost:
        planner = next(c for c in self._own if c.address_plugins)
        prefixed = "prefix-delegation" in planner.address_plugins
        usual = facts.limits.max_prefix_pods if prefixed else facts.limits.max_pods
        bounds = Bounds(
            instance_type=facts.instance_type,
            cards=tuple(self._card(facts, index) for index in facts.cards),
            places=(facts.limits.eni_slots, facts.limits.ipv6_per_eni),
            max_pods=lambda: self._settings.max_pods or kube.facts.max_pods or usual,
        )
        return AgentHost(
            state=state,
            scope=scope,
            kernel=self._kernel,
            chain=planner,
            targets=self._settings.targets,
            bounds=bounds,
        )

    def _card(self, facts: Facts, index: int) -> Card:
        limit, cap = facts.limits.max_enis_of(index), self._settings.max_eni
        return Card(
            index=index,
            max_enis=limit if cap is None else min(limit, cap),
            unmanaged=facts.places_lost(index),
        )

    def _await_addresses(self, state: State) -> None:
        """Wait for a new node's first address, while there is hope; not for ever."""
        end = time.monotonic() + FIRST_ADDRESSES
        while time.monotonic() < end and not self._stop.wait(0.01):
            counts = state.counts()
            if counts.total or state.why_blocked() is not None:
                return

    def _chain_of(self, part: Part) -> Chain | None:
        """Find the plugins of a pod that went without a DEL of its own."""
        return next((c for c in self._own if c.names == part.plugins), None)

    # -- between start and stop --------------------------------------------------------

    def _beat(self, attachments: Attachments, tombstones: Tombstones) -> None:
        self._health.serving = True
        absent: dict[int, float] = {}
        looked = float("-inf")
        with closing(Moves()) as moves:
            while True:
                self._health.beat()
                try:
                    tombstones.work_off()
                    since = time.monotonic() - looked
                    moved = moves.any() or since >= LOOK_ANYWAY
                    absent = attachments.sweep(absent, SWEEP_AFTER, moved=moved)
                    if moved:
                        looked = time.monotonic()
                except EniplugError as error:
                    # What has moved is asked no more: look at everything next time.
                    looked = float("-inf")
                    log.error("heartbeat", error=error.message)
                if self._stop.wait(until_beat(time.monotonic())):
                    break
        self._health.serving = False


def _settle_intents(store: Store) -> None:
    """Forget calls that were cut off: EC2 has just told what there is.

    The worker looks for what leaked.
    """
    for token, what in store.intents().items():
        log.warning("an earlier call was cut off", what=what)
        store.done(token)


def _pages(metrics: Metrics, health: Health) -> Pages:
    return {
        "/healthz": health.healthz,
        "/readyz": health.readyz,
        "/metrics": lambda: Page(metrics.text(), kind=PROMETHEUS),
    }


@click.command("agent")
@click.option(
    "--conflist",
    type=click.Path(path_type=Path, dir_okay=False),
    help="Take the plugins from this conflist, and install it when ready"
    " (also ENIPLUG_CONFLIST; default: the one that is shipped).",
)
@click.option(
    "--run-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/run/eniplug"),
    show_default=True,
    help="Keep the socket and the store here.",
)
@click.option(
    "--conf-dir",
    type=click.Path(path_type=Path, file_okay=False),
    default=FOLDER,
    show_default=True,
    help="Install the conflist here.",
)
@click.option(
    "--proc-sys",
    type=click.Path(path_type=Path, file_okay=False),
    default=Path("/proc/sys"),
    show_default=True,
    help="Write sysctls here; in a container, where the host's /proc/sys is mounted.",
)
@click.option(
    "--gc-strict",
    is_flag=True,
    help="On GC, remove unlisted pods at once, also where their link still exists.",
)
@click.option(
    "--rebuild",
    is_flag=True,
    help="Set an unreadable store aside; make it again from what the node shows.",
)
def command(**options: object) -> None:
    """Run the node's agent, in the foreground.

    Settings come from the environment, under the names that the AWS VPC CNI documents:
    WARM_IP_TARGET, MAX_ENI and so on; docs/operate.md lists them.  Logs are JSON lines
    on standard error.  SIGTERM and SIGINT stop it; running pods are left as they are.
    """
    if os.geteuid() != 0:
        msg = "the agent needs root: it enters network namespaces"
        raise ConfigError(msg, "run it as root")
    # Else it would be ready, and each pod would fail.
    if not may_enter():
        msg = "the agent may not enter network namespaces"
        raise ConfigError(msg, "give it the capability SYS_ADMIN")
    failed = False
    try:
        agent = Agent(Options(**options), os.environ)  # type: ignore[arg-type]
        for number in (signal.SIGTERM, signal.SIGINT):
            signal.signal(number, lambda *_: agent.stop())
        agent.run()
        failed = agent.failed
    except CancelledError:
        log.info("stopped before it was ready")
    except CniError as error:
        raise ConfigError(error.message, error.details) from error
    # Threads that are still cut off in a request would hold up an ordinary exit.
    os._exit(1 if failed else 0)
