"""What is on the node, whoever made it: routes by link, rules, elements of ours.

Only a lost store needs this, so pyroute2, which costs 160 ms and 30 MB to import, is
imported here and only when it is called.
"""

from __future__ import annotations

import socket
from collections.abc import Iterable, Mapping
from ipaddress import ip_address, ip_network
from typing import Any

from attrs import frozen

from eniplug.core.kernel.survey_nft import listed_elements
from eniplug.hooks import HOST, MAIN_TABLE, Family, Network, NftElement, Route, Rule

_FAMILIES: Mapping[int, Family] = {socket.AF_INET: 4, socket.AF_INET6: 6}
_IPV4 = socket.AF_INET
_TO_TABLE = 1
"""FR_ACT_TO_TBL (linux/fib_rules.h), the value of RTN_UNICAST as well."""


@frozen
class Survey:
    """The host's unicast routes by link, and its rules that look a table up.

    ``elements`` are those of our own nftables tables.
    """

    routes: Mapping[str, tuple[Route, ...]]
    rules: tuple[Rule, ...]
    elements: tuple[NftElement, ...] = ()


def survey() -> Survey:
    """Read the routes and rules of the namespace that the thread is in."""
    from pyroute2 import IPRoute  # noqa: PLC0415 - see above

    routes: dict[str, list[Route]] = {}
    rules: list[Rule] = []
    with IPRoute() as ip:
        names = {link["index"]: link.get_attr("IFLA_IFNAME") for link in ip.get_links()}
        for family in _FAMILIES:
            for message in ip.get_routes(family=family):
                route = _route(message, names)
                if route is not None:
                    routes.setdefault(route.link, []).append(route)
            rules += _rules(ip.get_rules(family=family))
    by_link = {link: tuple(found) for link, found in routes.items()}
    return Survey(by_link, tuple(rules), tuple(listed_elements()))


def _network(message: Any, name: str, length: int) -> Network | None:
    text = message.get_attr(name)
    return None if text is None else ip_network(f"{text}/{length}")


def _route(message: Any, names: Mapping[int, str]) -> Route | None:
    # The kernel leaves the destination of a default route out.
    everywhere = ip_network("0.0.0.0/0" if message["family"] == _IPV4 else "::/0")
    destination = (
        _network(message, "RTA_DST", message["dst_len"])
        if message["dst_len"]
        else everywhere
    )
    link = names.get(message.get_attr("RTA_OIF"))
    if message["type"] != _TO_TABLE or destination is None or link is None:
        return None
    via, src = message.get_attr("RTA_GATEWAY"), message.get_attr("RTA_PREFSRC")
    return Route(
        destination=destination,
        link=link,
        via=ip_address(via) if via else None,
        src=ip_address(src) if src else None,
        table=message.get_attr("RTA_TABLE") or message["table"],
        protocol=message["proto"],
        side=HOST,
    )


def _rules(messages: Iterable[Any]) -> Iterable[Rule]:
    for message in messages:
        if message["action"] == _TO_TABLE:
            mask = message.get_attr("FRA_FWMASK")
            yield Rule(
                priority=message.get_attr("FRA_PRIORITY") or 0,
                table=message.get_attr("FRA_TABLE") or MAIN_TABLE,
                family=_FAMILIES[message["family"]],
                src=_network(message, "FRA_SRC", message["src_len"]),
                dst=_network(message, "FRA_DST", message["dst_len"]),
                mark=message.get_attr("FRA_FWMARK"),
                mask=0xFFFFFFFF if mask is None else mask,
                iif=message.get_attr("FRA_IIFNAME"),
                protocol=message.get_attr("FRA_PROTOCOL") or 0,
            )
