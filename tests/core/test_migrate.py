"""`eniplug migrate` against rules that the real iptables of both kinds made."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from eniplug.core.aws_remains import in_tables
from eniplug.core.cli import group
from eniplug.core.kernel import Kernel
from eniplug.core.store import Store
from eniplug.hooks import Rule
from eniplug.hooks.errors import ConfigError, ForeignObjectError
from eniplug.plugins.flat_routes import FlatRoutes
from eniplug.plugins.policy_routes import PolicyRoutes
from eniplug.testing.builders import NODE
from kit.aws_rules import snat
from kit.nodes import World, a_world

SNAT = snat("10.0.0.4")

BLOCK = """\
*filter
-I FORWARD 1 -d fd00::ac:0/118 -m conntrack --ctstate NEW -m comment \
--comment "Block Node Local Pod access via IPv6" -j REJECT
COMMIT
"""

OTHERS = """\
*nat
:KUBE-SERVICES - [0:0]
-A PREROUTING -m comment --comment "kubernetes service portals" -j KUBE-SERVICES
-A POSTROUTING -s 192.168.0.0/24 -m comment --comment "AWS, SNAT of our own" \
-j MASQUERADE
COMMIT
*mangle
-A PREROUTING -i ens5 -m comment --comment "AWS, secondary ENI" -j MARK --or-mark 0x1
COMMIT
"""

NFT = """
table ip aws-cni-of-others { chain c { }; }
table ip6 aws-cni { chain c { }; }
"""

RULES = (
    "rule add pref 512 to 10.0.0.9 lookup main",
    "rule add pref 1024 fwmark 0x80/0x80 lookup main",
    "rule add pref 1535 to 198.18.0.0/24 lookup main",
    "rule add pref 1536 from 10.0.0.10 lookup 2",
    "rule add pref 32765 from 10.0.0.5 lookup 2",
    "route add 10.0.0.1 dev ens6 scope link table 2",
    "route add default via 10.0.0.1 dev ens6 table 2",
)
OTHER_RULES = (
    "rule add pref 512 to 10.9.0.0/24 lookup main",
    "rule add pref 1024 fwmark 0x1/0xff lookup main",
    "rule add pref 1500 from 10.0.0.10 lookup 2",
    "rule add pref 1536 from 10.0.0.0/24 lookup 7",
    "rule add pref 32765 from 10.0.0.77 lookup 7",
    "route add 10.0.0.0/24 dev ens6 table 7",
    "route add default via 10.0.0.1 dev ens6 table 7",
    "route add 10.0.0.1 dev ens6 scope link table 8",
    "route add default via 10.0.0.1 dev ens6 table 8",
)


@pytest.fixture
def world() -> Iterator[World]:
    """A node with two ENIs."""
    with a_world("mg") as world:
        for link in ("ens5", "ens6"):
            ip(f"link add {link} type veth peer name p-{link}")
            ip(f"link set p-{link} up")
            ip(f"link set {link} up")
        yield world


def ip(words: str) -> None:
    subprocess.run(["ip", *words.split()], check=True)


def load(program: str, text: str) -> None:
    words = [f"{program}-restore", "--noflush"]
    subprocess.run(words, input=text, text=True, check=True)


def look() -> dict[str, str]:
    """All that is on the node, without the comments and the counters."""
    looks = {
        name: [f"{name}-save"]
        for name in ("iptables-nft", "iptables-legacy", "ip6tables-nft")
    }
    looks["rules"] = ["ip", "rule"]
    looks["routes"] = ["ip", "-4", "route", "show", "table", "all"]
    looks["nft"] = ["nft", "-s", "list", "tables"]
    return {
        name: "\n".join(
            line
            for line in subprocess.check_output(words, text=True).splitlines()
            if not line.startswith(("#", ":PRE", ":INP", ":FOR", ":OUT", ":POST"))
        )
        for name, words in looks.items()
    }


def fill(texts: tuple[str, ...], rules: tuple[str, ...]) -> None:
    for kind in ("nft", "legacy"):
        for text in texts:
            load(f"iptables-{kind}", text)
    for words in rules:
        ip(words)


def run(*words: str, folder: Path) -> Result:
    return CliRunner().invoke(group, ["migrate", "--run-dir", str(folder), *words])


def said(*words: str, folder: Path) -> dict[str, Any]:
    done = run("--json", *words, folder=folder)
    assert done.exit_code == 0, done.exception
    return dict(json.loads(done.stdout))


# -- without a node --------------------------------------------------------------------


def test_rules_are_told_by_chain_and_comment_and_others_let_be() -> None:
    assert not in_tables("iptables", OTHERS)

    found = in_tables("iptables", SNAT)

    assert found.chains == {
        "nat": ("AWS-SNAT-CHAIN-0", "AWS-SNAT-CHAIN-1", "AWS-CONNMARK-CHAIN-0")
    }
    assert [rule.split()[0] for rule in found.rules["nat"]] == [
        "POSTROUTING",
        "PREROUTING",
        "PREROUTING",
    ]
    assert len(found.rules["mangle"]) == 2


# -- on a node -------------------------------------------------------------------------


@pytest.mark.root
def test_what_aws_left_goes_and_all_else_stays(world: World, tmp_path: Path) -> None:
    fill((OTHERS,), OTHER_RULES)
    subprocess.run(["nft", "-f", "-"], input=NFT, text=True, check=True)
    load("ip6tables-nft", BLOCK)
    subprocess.run(["ip6tables-nft", "-F", "FORWARD"], check=True)
    without = look()
    fill((SNAT,), RULES)
    load("ip6tables-nft", BLOCK)
    subprocess.run(["nft", "add table ip aws-cni; add chain ip aws-cni c"], check=True)
    before = look()

    listed = said(folder=tmp_path)
    untouched = look()
    removed = said("--yes", folder=tmp_path)

    assert untouched == before
    assert listed["removed"] is False
    # Of each kind 3 chains and 5 rules; one of IPv6; a table; 5 rules and 2 routes.
    assert len(listed["found"]) == 2 * 8 + 1 + 1 + 7
    assert removed == {**listed, "removed": True}
    assert look() == without
    assert said(folder=tmp_path)["found"] == []
    assert "nothing of the AWS VPC CNI" in run("--yes", folder=tmp_path).output


@pytest.mark.root
def test_while_its_pods_run_nothing_is_removed_but_by_force(
    world: World, tmp_path: Path
) -> None:
    fill((SNAT,), RULES)
    ip("link add eni0a0b0c0d0e0 type veth peer name pod")
    ip("link set eni0a0b0c0d0e0 up")
    ip("route add 10.0.0.9 dev eni0a0b0c0d0e0 scope link")
    before = look()

    listed = said(folder=tmp_path)
    refused = run("--yes", folder=tmp_path)

    assert listed["pods"] == ["10.0.0.9"]
    assert isinstance(refused.exception, ForeignObjectError)
    assert "drain the node" in refused.exception.details
    assert look() == before
    assert said("--yes", "--force", folder=tmp_path)["removed"] is True
    assert said(folder=tmp_path)["found"] == []


@pytest.mark.root
def test_what_the_store_knows_as_ours_stays(world: World, tmp_path: Path) -> None:
    ours = tuple(PolicyRoutes().node_objects(NODE))
    Kernel().settle((), ours, {})
    store = Store(tmp_path / "state.db")
    store.keep_node_objects(ours, {})
    store.close()
    before = look()
    ip("rule add pref 512 to 10.0.0.9 lookup main")

    found = said("--yes", folder=tmp_path)["found"]

    assert found == ["ip -4 rule: 512: from all to 10.0.0.9/32 lookup 254"]
    assert look() == before


@pytest.mark.root
def test_a_rule_of_ours_with_the_same_text_is_not_taken_for_it(
    world: World, tmp_path: Path
) -> None:
    marked = Rule(priority=1024, mark=0x80, mask=0x80, table=254, protocol=197)
    Kernel().settle((), (marked,), {})
    ip("rule add pref 1024 fwmark 0x80/0x80 lookup main")
    ip("rule add pref 512 to 10.0.0.9 lookup main")

    said("--yes", folder=tmp_path)

    assert Kernel().check((marked,), None) == ()


@pytest.mark.root
def test_flat_routes_find_the_way_free_after_it(world: World, tmp_path: Path) -> None:
    fill((), RULES)
    wanted = tuple(FlatRoutes().node_objects(NODE))
    with pytest.raises(ForeignObjectError, match="table=2") as refused:
        Kernel().settle((), wanted, {})
    assert "eniplug migrate" in refused.value.details

    said("--yes", folder=tmp_path)
    Kernel().settle((), wanted, {})

    assert Kernel().check(wanted, None) == ()


@pytest.mark.root
def test_without_iptables_it_says_what_to_install(
    world: World, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))

    done = run(folder=tmp_path)

    assert isinstance(done.exception, ConfigError)
    assert "iptables is not installed" in done.exception.message
    assert "install iptables" in done.exception.details
