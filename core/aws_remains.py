"""What the AWS VPC CNI leaves on a node, told from all else that is there.

It has no way to uninstall itself: chains and rules of iptables, an nftables table, ip
rules and the ENIs' routes stay (amazon-vpc-cni-k8s, pkg/networkutils).  Only what bears
its names, or its exact text, is taken for its own.
"""

from __future__ import annotations

import re
import shlex
from collections.abc import Collection, Iterable, Iterator, Mapping
from itertools import pairwise
from typing import Final

from attrs import evolve, frozen

from eniplug.core.kernel.survey import Survey
from eniplug.hooks import MAIN_TABLE, PROTOCOL, Network, Object, Route, Rule
from eniplug.hooks.objects import BOOT

NFT_TABLE: Final = ("ip", "aws-cni")
"""Where its marks are when it finds iptables-nft."""

_CHAIN = re.compile(r"AWS-(SNAT|CONNMARK)-CHAIN-\d+")

COMMENTS: Final[Mapping[tuple[str, str], frozenset[str]]] = {
    ("nat", "PREROUTING"): frozenset({"AWS, outbound connections", "AWS, CONNMARK"}),
    ("nat", "POSTROUTING"): frozenset({"AWS SNAT CHAIN"}),
    ("mangle", "PREROUTING"): frozenset({"AWS, primary ENI"}),
    ("filter", "FORWARD"): frozenset(
        {
            "Block Node Local Pod access via IPv4",
            "Block Node Local Pod access via IPv6",
        }
    ),
}
"""The comments of its rules, by the table and chain that they stand in."""

TO_POD: Final = 512
FROM_ENI: Final = 32765
"""Priorities of its rules; the others are 1024, 1535 and 1536."""

UNSAID: Final = frozenset({0, BOOT})
"""Its rules and routes carry no routing protocol number of its own."""


@frozen(kw_only=True)
class Tables:
    """What one iptables program shows of it: rules and chains, by table."""

    program: str
    rules: Mapping[str, tuple[str, ...]]
    chains: Mapping[str, tuple[str, ...]]

    def removal(self) -> str:
        """Write the commands that take just that away, for iptables-restore."""
        lines: list[str] = []
        for table in sorted({*self.rules, *self.chains}):
            chains = self.chains.get(table, ())
            lines.append(f"*{table}")
            lines += (f"-D {rule}" for rule in self.rules.get(table, ()))
            lines += (f"-F {chain}" for chain in chains)
            lines += (f"-X {chain}" for chain in chains)
            lines.append("COMMIT")
        return "\n".join((*lines, ""))

    def lines(self) -> Iterator[str]:
        """Say it for people."""
        for table, rules in self.rules.items():
            for rule in rules:
                yield f"{self.program}, table {table}: rule {rule}"
        for table, chains in self.chains.items():
            for chain in chains:
                yield f"{self.program}, table {table}: chain {chain} with its rules"

    def __bool__(self) -> bool:
        return bool(self.rules or self.chains)


def in_tables(program: str, saved: str) -> Tables:
    """Find it in what iptables-save printed."""
    rules: dict[str, tuple[str, ...]] = {}
    chains: dict[str, tuple[str, ...]] = {}
    table = ""
    for line in saved.splitlines():
        if line.startswith("*"):
            table = line[1:].strip()
        elif line.startswith(":"):
            chain = line[1:].partition(" ")[0]
            if _CHAIN.fullmatch(chain):
                chains[table] = (*chains.get(table, ()), chain)
        elif line.startswith("-A ") and _is_aws_rule(table, line):
            rules[table] = (*rules.get(table, ()), line.removeprefix("-A "))
    return Tables(program=program, rules=rules, chains=chains)


def _is_aws_rule(table: str, line: str) -> bool:
    """Tell whether a rule of another chain is of it; its own go with their chains."""
    words = shlex.split(line)
    chain = words[1]
    if _CHAIN.fullmatch(chain):
        return False
    options = dict(pairwise(words))
    if _CHAIN.fullmatch(options.get("-j", "")):
        return True
    return options.get("--comment") in COMMENTS.get((table, chain), frozenset())


def in_rules_and_routes(
    found: Survey, ours: Collection[Object]
) -> tuple[tuple[Rule, ...], tuple[Route, ...]]:
    """Find its rules, and its ENIs' routes; none of those that are ``ours``."""
    rules = [
        rule
        for rule in found.rules
        if _is_aws_text(rule)
        and rule not in ours
        and not _behind_ours(rule, found.rules)
    ]
    of_enis = {rule.table for rule in rules if rule.priority == FROM_ENI}
    ways = {
        table: routes for table, routes in _eni_tables(found, ours) if table in of_enis
    }
    # `ip rule add from …` gives that priority to whatever rule is made first.
    rules = [r for r in rules if r.priority != FROM_ENI or r.table in ways]
    return tuple(rules), tuple(route for two in ways.values() for route in two)


def _eni_tables(
    found: Survey, ours: Collection[Object]
) -> Iterator[tuple[int, tuple[Route, ...]]]:
    """Find the tables in which there is its pair of routes, and nothing else."""
    tables: dict[int, list[Route]] = {}
    for routes in found.routes.values():
        for route in routes:
            tables.setdefault(route.table, []).append(route)
    for table, pair in tables.items():
        if table != MAIN_TABLE and _is_pair(pair) and not {*pair} & {*ours}:
            yield table, tuple(pair)


def _is_pair(routes: Collection[Route]) -> bool:
    """Tell whether this is an ENI's gateway, and all else by way of it."""
    near = [one for one in routes if one.via is None and _whole(one.destination)]
    far = [one for one in routes if one.via is not None]
    return (
        len(routes) == len(near) + len(far) == 2  # noqa: PLR2004
        and len(near) == 1
        and far[0].destination.prefixlen == 0
        and far[0].via == near[0].destination.network_address
        and far[0].link == near[0].link
        and all(one.protocol in UNSAID for one in routes)
    )


def _behind_ours(rule: Rule, rules: Iterable[Rule]) -> bool:
    """Whether the kernel, asked to delete a rule, would delete ours of that text."""
    text = evolve(rule, protocol=0)
    first = next(one for one in rules if evolve(one, protocol=0) == text)
    return first.protocol == PROTOCOL


def _is_aws_text(rule: Rule) -> bool:
    if rule.protocol not in UNSAID or rule.iif is not None:
        return False
    main = rule.table == MAIN_TABLE
    match rule.priority:
        case 512:
            return main and _only(rule, dst=True) and _whole(rule.dst)
        case 1024:
            marked = rule.mark is not None and rule.mark == rule.mask
            return main and marked and rule.src is None and rule.dst is None
        case 1535:
            return main and _only(rule, dst=True)
        case 1536 | 32765:
            return not main and _only(rule, dst=False) and _whole(rule.src)
        case _:
            return False


def _only(rule: Rule, *, dst: bool) -> bool:
    """Whether a rule selects by destination alone, or by source alone."""
    wanted, other = (rule.dst, rule.src) if dst else (rule.src, rule.dst)
    return wanted is not None and other is None and rule.mark is None


def _whole(network: Network | None) -> bool:
    return network is not None and network.num_addresses == 1


def its_pods(found: Survey, our_links: Collection[str]) -> tuple[str, ...]:
    """Name the addresses of pods of its that still run: a rule, and a link behind it.

    ``our_links`` are the host links of our own pods.
    """
    ruled = {one.dst for one in found.rules if one.priority == TO_POD}
    return tuple(
        str(route.destination.network_address)
        for link, routes in found.routes.items()
        if link not in our_links
        for route in routes
        if route.table == MAIN_TABLE
        and route.destination in ruled
        and _whole(route.destination)
    )
