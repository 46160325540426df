"""What the agent learns at start: who its node is from IMDS, the rest from EC2."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from ipaddress import IPv4Interface, IPv4Network, IPv6Address, IPv6Interface
from threading import Event
from typing import Final

import structlog
from attrs import evolve, frozen

from eniplug.core.ec2 import INSTANCE_TAG, Cloud, EniFacts, Limits
from eniplug.core.imds import Metadata
from eniplug.hooks.errors import CancelledError, CloudError, EniplugError
from eniplug.hooks.objects import MAIN_TABLE, Interface, Ip
from eniplug.hooks.values import Eni

log = structlog.get_logger()

NO_MANAGE_TAG: Final = "node.k8s.amazonaws.com/no_manage"
USABLE_KINDS: Final = frozenset({"interface", "efa"})
"""Types of ENIs whose addresses pods may have; efa-only and trunk are none."""

ROUTER6: Final = IPv6Address("fe80:ec2::1")
"""Every subnet's router of IPv6 (VPC user guide, "Subnet CIDR blocks")."""

FIRST_PAUSE: Final = 0.5
LONGEST_PAUSE: Final = 15.0


@frozen(kw_only=True, hash=False)
class Facts:
    """The node as it was found.

    ``managed`` are the ENIs whose addresses pods may have, the primary first;
    ``unmanaged`` are set aside: they keep their place and are never touched.  ``cards``
    are the network cards that serve pods.  What is not ``fresh`` is out of the store,
    from an earlier life of the agent.
    """

    instance_id: str
    instance_type: str
    region: str
    zone: str
    vpc_cidrs: tuple[IPv4Network, ...]
    limits: Limits
    managed: tuple[EniFacts, ...]
    unmanaged: tuple[EniFacts, ...] = ()
    cards: tuple[int, ...] = (0,)
    fresh: bool = True

    @property
    def primary(self) -> EniFacts:
        """The ENI that the instance was born with."""
        return self.managed[0]

    def places_lost(self, card: int = 0) -> int:
        """ENIs that count against the limit of a card and serve no pod."""
        return sum(eni.card == card for eni in self.unmanaged)


def discover(
    metadata: Metadata,
    connect: Callable[[str], Cloud],
    *,
    manage_untagged: bool = True,
    multi_nic: bool = False,
    stop: Event | None = None,
    recorded: Facts | None = None,
) -> tuple[Facts, Cloud]:
    """Ask IMDS and EC2 until both have answered.

    ``connect`` makes the cloud of a region.  Waits between tries, twice as long each
    time, and says in the log what for.  What an earlier life of the agent has
    ``recorded`` serves at once when they do not answer.  Raises CancelledError once
    ``stop`` is set.
    """
    stop = stop or Event()
    pause = FIRST_PAUSE
    cloud: Cloud | None = None
    while not stop.is_set():
        try:
            cloud = cloud or connect(metadata.region())
            facts = look(
                metadata, cloud, manage_untagged=manage_untagged, multi_nic=multi_nic
            )
            return facts, cloud
        except EniplugError as error:
            if recorded is not None:
                log.warning(
                    "EC2 or IMDS is away: the node as it was known", error=error.message
                )
                facts = evolve(recorded, fresh=False)
                if not multi_nic:
                    facts = _on_first_card(facts)
                return facts, cloud or connect(recorded.region)
            log.warning("waiting for EC2 and IMDS", error=error.message, pause=pause)
        stop.wait(pause)
        pause = min(2 * pause, LONGEST_PAUSE)
    msg = "stopped before EC2 and IMDS had answered"
    raise CancelledError(msg)


def look(
    metadata: Metadata,
    cloud: Cloud,
    *,
    manage_untagged: bool,
    multi_nic: bool = False,
) -> Facts:
    """Learn the node once; raises what `Metadata` and `Cloud` raise."""
    instance_id, instance_type = metadata.instance_id(), metadata.instance_type()
    region, zone = metadata.region(), metadata.zone()
    vpc_cidrs = metadata.vpc_cidrs(metadata.mac())
    limits = cloud.limits(instance_type)
    found = cloud.enis(instance_id)
    if not any(eni.primary for eni in found):
        msg = f"EC2 does not show the primary ENI of {instance_id} yet"
        raise CloudError(msg)
    managed = [
        eni
        for eni in found
        if (multi_nic or eni.card == 0)
        and is_managed(eni, instance_id, manage_untagged)
    ]
    unmanaged = tuple(eni for eni in found if eni not in managed)
    return Facts(
        instance_id=instance_id,
        instance_type=instance_type,
        region=region,
        zone=zone,
        vpc_cidrs=vpc_cidrs,
        limits=limits,
        managed=tuple(managed),
        unmanaged=unmanaged,
        cards=cards_of(limits, managed, unmanaged) if multi_nic else (0,),
    )


def cards_of(
    limits: Limits, managed: Iterable[EniFacts], unmanaged: Iterable[EniFacts]
) -> tuple[int, ...]:
    """Which network cards serve pods, by AWS's rule.

    All but those that carry an EFA-only ENI and none whose addresses pods may have.
    """
    serving = {0, *(eni.card for eni in managed)}
    given_away = {eni.card for eni in unmanaged if eni.kind == "efa-only"}
    return tuple(sorted(serving | (limits.cards.keys() - given_away)))


def _on_first_card(facts: Facts) -> Facts:
    """The node as it is once ENABLE_MULTI_NIC was turned off."""
    others = tuple(eni for eni in facts.managed if eni.card)
    return evolve(
        facts,
        managed=tuple(eni for eni in facts.managed if not eni.card),
        unmanaged=(*facts.unmanaged, *others),
        cards=(0,),
    )


def is_managed(eni: EniFacts, instance_id: str, manage_untagged: bool) -> bool:
    """Tell whether pods may have an ENI's addresses, by AWS's rules.

    The primary ENI always; of the others those that stay and that no tag sets aside,
    if their network card is one that serves pods.
    """
    if eni.primary:
        return True
    if eni.kind not in USABLE_KINDS or eni.status == "detaching":
        return False
    if NO_MANAGE_TAG in eni.tags:
        return eni.tags[NO_MANAGE_TAG] != "true"
    return manage_untagged or eni.tags.get(INSTANCE_TAG) == instance_id


def eni_of(facts: EniFacts, link: str, mark: int) -> Eni:
    """Make the value that plugins see; ``link`` is its name on the node.

    Its table is the one that the AWS VPC CNI would use, its gateway the subnet's first
    address (VPC user guide, "Subnet CIDR blocks").
    """
    device = facts.device or 0
    if facts.card:
        table = 10000 + 100 * facts.card + device
    else:
        table = device + 1 if device else MAIN_TABLE
    addresses: list[Interface] = [
        IPv4Interface(f"{facts.address}/{facts.subnet_cidr.prefixlen}")
    ]
    gateways: list[Ip] = [facts.subnet_cidr.network_address + 1]
    if facts.subnet_cidr6 is not None:
        gateways.append(ROUTER6)
        # DHCPv6 gives an ENI's own addresses at full length.
        addresses += [IPv6Interface(f"{own}/128") for own in facts.addresses6[:1]]
    return Eni(
        id=facts.id,
        link=link,
        mac=facts.mac,
        device=device,
        card=facts.card,
        mark=mark,
        table=table,
        addresses=tuple(addresses),
        gateways=tuple(gateways),
        subnet=facts.subnet,
    )
