"""A node of the builders' ENIs, to report on; EC2 says what a test lets it say."""

from __future__ import annotations

from attrs import define, field

from eniplug.core.entries import Entry
from eniplug.core.guard import Guard
from eniplug.core.parts import Part
from eniplug.core.pool import AddressPool
from eniplug.core.refusals import Refusal
from eniplug.core.report import Reporter
from eniplug.core.settings import Settings
from eniplug.core.state import Desk, State
from eniplug.core.subnets import SubnetState
from eniplug.hooks import Block, Ip, Node
from eniplug.hooks.errors import EniplugError
from eniplug.testing.builders import ADDRESSES, NODE, PRIMARY, a_pod
from eniplug.testing.clock import HandClock
from kit.parts import a_part
from kit.stores import Stores

ENTRIES = (
    Entry(
        type="aws-cni",
        plugins=("secondary-ip", {"name": "pod-veth"}),
        place="plugins[0]",
    ),
    Entry(type="egress-cni", plugins=(), place="plugins[1]"),
)


@define(eq=False)
class SaidOfEc2:
    """What a cloud worker would tell."""

    trouble: EniplugError | None = None
    trouble_at: float = float("-inf")
    pause: float = 0.0
    known: tuple[SubnetState, ...] = ()

    def subnets(self) -> tuple[SubnetState, ...]:
        """The subnets that are known."""
        return self.known


@define(eq=False)
class Reported:
    """A state with the primary ENI, and the reporter that describes it."""

    stores: Stores
    node: Node = NODE
    clock: HandClock = field(factory=HandClock)
    ec2: SaidOfEc2 = field(factory=SaidOfEc2)
    guard: Guard = field(factory=Guard)
    state: State = field(init=False)
    reporter: Reporter = field(init=False)

    def __attrs_post_init__(self) -> None:
        """Let the primary ENI have three addresses."""
        pool = AddressPool(30.0, self.clock)
        self.state = State(self.stores.open(), pool, lambda: None, self.clock)
        self.supply(*ADDRESSES[:3])
        self.reporter = Reporter(
            self.state,
            lambda: self.node,
            self.ec2,
            Settings(),
            ENTRIES,
            clock=self.clock,
            plugins=self.guard.told,
        )

    def supply(self, *blocks: Block) -> None:
        """Give the primary ENI blocks."""
        self.state.add_eni(PRIMARY, (9, 0), blocks)

    def attach(self, number: int, *, address: Ip | None = None) -> Part:
        """Let a pod have an address."""
        lease = Desk(self.state, None).take(address=address)
        pod = a_pod(number, slot=self.state.open_slot())
        return self.state.live(self.state.begin(a_part(pod, lease)), {"ips": []})

    def refuse(self, number: int, error: EniplugError) -> None:
        """Let a pod's ADD be refused, as `Requests` notes it."""
        self.reporter.refusals.note(
            Refusal.of(
                error,
                when=1_764_000_000.0,
                container_id=f"c{number}",
                args={"K8S_POD_NAMESPACE": "default", "K8S_POD_NAME": f"web-{number}"},
                facts=self.reporter.facts(),
            )
        )
