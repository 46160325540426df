from __future__ import annotations

from typing import Any

import pytest

from eniplug.core.chains import Chains
from eniplug.core.manager import Catalogue
from eniplug.hooks.errors import ConfigError

NAMES = ("secondary-ip", "pod-veth")
OPTIONS = ({"name": "prefix-delegation", "family": "ipv6"}, "pod-veth")


@pytest.fixture
def chains() -> Chains:
    return Chains(Catalogue.from_environ({}))


@pytest.mark.parametrize("plugins", [NAMES, OPTIONS])
def test_the_same_list_gives_the_same_chain(chains: Chains, plugins: Any) -> None:
    again = tuple(dict(p) if isinstance(p, dict) else p for p in plugins)

    assert chains.make(again) is chains.make(plugins)


def test_lists_that_differ_in_order_or_options_are_different_chains(
    chains: Chains,
) -> None:
    plain = ("prefix-delegation", "pod-veth")

    made = [chains.make(one) for one in (NAMES, NAMES[::-1], OPTIONS, plain)]

    assert len({id(one) for one in made}) == 4


@pytest.mark.parametrize("plugins", ["pod-veth", '["pod-veth"]', (1,), (True,), ()])
def test_what_is_no_list_of_plugins_is_no_chain(chains: Chains, plugins: Any) -> None:
    chains.make(["pod-veth"])

    with pytest.raises(ConfigError):
        chains.make(plugins)
