"""The policies that are compared: which address a pod gets."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from typing import Final, TypeAlias

from eniplug.core.pool import AddressPool
from eniplug.core.shelf import Prefix, Shelf
from eniplug.hooks.objects import Family


class RandomPool(AddressPool):
    """Takes any ENI and any prefix of it that has an address left.

    So does the AWS VPC CNI: it walks over Go maps of ENIs and of their CIDRs, whose
    order is random, and takes the first that serves (ipamd's data store).
    """

    def __init__(
        self, cooldown: float, clock: Callable[[], float], dice: random.Random
    ) -> None:
        super().__init__(cooldown, clock)
        self._dice = dice

    def _choose_eni(self, able: Sequence[Shelf]) -> Shelf:
        return self._dice.choice(able)

    def _choose_prefix(self, shelf: Shelf, family: Family) -> Prefix:
        return self._dice.choice(shelf.open_prefixes(family))


def _packing(cooldown: float, clock: Callable[[], float], seed: int) -> AddressPool:
    del seed
    return AddressPool(cooldown, clock)


def _random(cooldown: float, clock: Callable[[], float], seed: int) -> AddressPool:
    return RandomPool(cooldown, clock, random.Random(seed))


Make: TypeAlias = Callable[[float, Callable[[], float], int], AddressPool]
"""Make a pool of a cooldown in seconds, a clock and a seed."""

POLICIES: Final[Mapping[str, Make]] = {"packing": _packing, "random": _random}
