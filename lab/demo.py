"""A lab from beginning to end, with an account of what happened.

    python -m eniplug.lab.demo

The exit status is 0 only when everything that is claimed was seen.
"""

from __future__ import annotations

import re
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Generator, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape

from eniplug.lab import launch, netns, probes
from eniplug.lab.control import ask
from eniplug.lab.errors import LabError
from eniplug.lab.fabric import MTU
from eniplug.lab.internet import ADDRESS
from eniplug.lab.names import Names
from eniplug.lab.netns import Inside
from eniplug.lab.options import console
from eniplug.lab.plan import Plan

LAB = "eniplug-demo"
MANY = [f"more-{number}" for number in range(1, 11)]
"""With two more: 12 pods, where one ENI of an m5.large has addresses for 9."""

COOLDOWN = 2
"""Seconds, so that the pool is seen to be whole again (30 is the default)."""

REAPED_WITHIN = 5.0
"""Seconds until no link of a removed pod is left."""

_PACE = 0.01


class Demo:
    """The account: what was done, how long it took, and whether it is true."""

    def __init__(self, names: Names, out: Console) -> None:
        self._names = names
        self._out = out
        self.began = time.monotonic()
        self.true = True

    # -- telling -----------------------------------------------------------------------

    def chapter(self, title: str) -> None:
        """Begin a part of the account."""
        passed = time.monotonic() - self.began
        self._out.print(f"\n[bold]{title}[/]  [dim]{passed:.1f} s[/]")

    def tell(self, text: str) -> None:
        """Say what is done, or how things are."""
        self._out.print(f"  {text}", markup=False)

    def claim(self, what: str, seen: bool, note: str = "") -> None:
        """Say what should be so, and whether it was seen."""
        self.true = self.true and seen
        mark = "[green]yes[/]" if seen else "[red]NO[/] "
        self._out.print(f"  {mark}  {what}  [dim]{escape(note)}[/]")

    # -- acts --------------------------------------------------------------------------

    def run(self) -> None:
        """Everything, in order; the lab goes down whatever happens."""
        plan = Plan(
            lab=self._names.lab, environment={"IP_COOLDOWN_PERIOD": str(COOLDOWN)}
        )
        self.chapter("A VPC on this machine: two m5.large, EC2, IMDS, the internet")
        found = launch.up(plan, self.tell)
        try:
            self._acts(found)
        finally:
            self.chapter("The lab goes down")
            launch.down(self._names)
            left = [space for space in netns.names() if self._names.owns(space)]
            self.claim("nothing is left", not left and not self._names.run.exists())

    def _acts(self, found: dict[str, Any]) -> None:
        for node in found["nodes"]:
            self.tell(f"node{node['number']}  {node['address']}  {node['public']}")
        self.chapter("Three pods, each with an address of the VPC")
        self._add(["web", "db"], 1)
        self._add(["cli"], 2)
        with self._inside("web") as web, self._inside("cli") as cli:
            self._traffic(web, cli, found["nodes"][0]["public"])
            self._beyond_one_eni()
            self._crash(cli)
        self._all_go()

    def _add(self, names: list[str], node: int) -> None:
        for answer in ask(self._names, "pod-add", pods=names, node=node):
            if "error" in answer:
                self.claim(f"{answer['name']} is added", False, answer["error"]["msg"])
                continue
            address = answer["result"]["ips"][0]["address"]
            took = 1000 * answer["seconds"]
            self.tell(f"{answer['name']:8} {address:18} node{node}  {took:.0f} ms")

    def _traffic(self, web: Inside, cli: Inside, public: str) -> None:
        self.chapter("Traffic")
        web_address, db_address = self._address("web"), self._address("db")
        self.claim("same node: web → db", web.call(probes.ping, db_address))
        self.claim("other node: cli → web", cli.call(probes.ping, web_address))
        whole = cli.call(probes.ping, web_address, MTU)
        self.claim(f"{MTU} bytes in one piece: cli → web", whole)
        seen = web.call(probes.fetch, str(ADDRESS))
        what = "the internet sees web with its node's public address"
        self.claim(what, seen == public, seen)

    def _beyond_one_eni(self) -> None:
        self.chapter("More pods than one ENI has addresses for")
        began = time.monotonic()
        answers = ask(self._names, "pod-add", pods=MANY, node=1)
        took = time.monotonic() - began
        added = [answer for answer in answers if "result" in answer]
        note = f"{took:.2f} s for all"
        self.claim(f"{len(MANY)} more pods", len(added) == len(MANY), note)
        enis = ask(self._names, "status")["nodes"][0]["enis"]
        links = ", ".join(f"{eni['id']} ({len(eni['addresses'])})" for eni in enis)
        self.claim("node1 has attached another ENI", len(enis) > 1, links)
        with self._inside("db") as db:
            others = [
                name for name in MANY if not db.call(probes.ping, self._address(name))
            ]
        self.claim("each is reached", not others, ", ".join(others))

    def _crash(self, cli: Inside) -> None:
        self.chapter("The agent of node1 crashes (kill -9) and is started again")
        with _pinging(cli, self._address("web")) as pings:
            ask(self._names, "agent", number=1, do="kill")
            time.sleep(20 * _PACE)  # let it be seen that pods run without an agent
            began = time.monotonic()
            ask(self._names, "agent", number=1, do="start")
            took = time.monotonic() - began
            time.sleep(20 * _PACE)
        lost = pings.count(False)
        note = f"{len(pings)} pings, {lost} lost; ready again in {took:.1f} s"
        self.claim("pods keep their connections", bool(pings) and not lost, note)
        self._add(["after"], 1)

    def _all_go(self) -> None:
        self.chapter("All pods go, and come again")
        pods = ask(self._names, "status")["pods"]
        addresses = [pod["addresses"][0] for pod in pods if pod["node"] == 1]
        self._remove()
        mentions = self._gone(addresses)
        what = "no link, route, rule or nft element of node1 is a pod's"
        self.claim(what, not mentions, " / ".join(mentions))
        time.sleep(COOLDOWN)
        before = self._changes()
        answers = ask(self._names, "pod-add", pods=MANY, node=1)
        added = [answer for answer in answers if "result" in answer]
        whole = len(added) == len(MANY) and self._changes() == before
        what = f"after the cooldown {len(MANY)} pods come from the pool, not from EC2"
        self.claim(what, whole, f"{len(added)} came")
        self._remove()

    def _remove(self) -> None:
        began = time.monotonic()
        pods = [pod["name"] for pod in ask(self._names, "status")["pods"]]
        answers = ask(self._names, "pod-rm", pods=pods)
        failed = [answer["name"] for answer in answers if "error" in answer]
        took = f"{time.monotonic() - began:.2f} s for {len(pods)}"
        self.claim("every pod is removed", not failed, took)

    # -- looking -----------------------------------------------------------------------

    @contextmanager
    def _inside(self, pod: str) -> Generator[Inside, None, None]:
        inside = Inside(self._names.pod(pod))
        try:
            yield inside
        finally:
            inside.close()

    def _address(self, pod: str) -> str:
        pods = ask(self._names, "status")["pods"]
        return next(str(each["addresses"][0]) for each in pods if each["name"] == pod)

    def _mentions(self, addresses: Sequence[str]) -> list[str]:
        """Return what the kernel of node1 says of pods' addresses and host links."""
        commands = (
            ["ip", "-o", "link"],
            ["ip", "route", "show", "table", "all"],
            ["ip", "rule"],
            ["ip", "neigh"],
            ["nft", "list", "ruleset"],
        )
        inside = Inside(self._names.node(1))
        try:
            run: Callable[..., str] = subprocess.check_output
            said = "".join(inside.call(run, command, text=True) for command in commands)
        finally:
            inside.close()
        words = [re.escape(address) for address in addresses]
        ours = re.compile(
            rf"\b({'|'.join([*words, 'eni[0-9a-f]{11}', 'eniplug/1'])})\b"
        )
        return [line.strip() for line in said.splitlines() if ours.search(line)]

    def _gone(self, addresses: Sequence[str]) -> list[str]:
        """Wait for links that the agent removes a little later; return what stays."""
        deadline = time.monotonic() + REAPED_WITHIN
        while (left := self._mentions(addresses)) and time.monotonic() < deadline:
            time.sleep(10 * _PACE)
        return left

    def _changes(self) -> int:
        """Count the calls so far that changed anything in EC2."""
        calls: dict[str, int] = ask(self._names, "calls")
        return sum(n for call, n in calls.items() if not call.startswith("Describe"))


@contextmanager
def _pinging(inside: Inside, address: str) -> Generator[list[bool], None, None]:
    """Ping without a pause while the block runs; the list grows meanwhile."""
    found: list[bool] = []
    over = threading.Event()

    def ping() -> None:
        while not over.wait(_PACE):
            found.append(inside.call(probes.ping, address, tries=1))

    thread = threading.Thread(target=ping)
    thread.start()
    try:
        yield found
    finally:
        over.set()
        thread.join()


def main(lab: str = LAB) -> int:
    """Give the account; 0 when all of it is true."""
    out = console()
    demo = Demo(Names(lab), out)
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        launch.check_machine()
        demo.run()
    except LabError as error:
        out.print(f"[red]{escape(str(error))}[/]")
        return 1
    except KeyboardInterrupt:
        out.print("interrupted")
        return 130
    passed = time.monotonic() - demo.began
    verdict = "All of it is true" if demo.true else "NOT all of it is true"
    out.print(f"\n{verdict}, {passed:.1f} s")
    return 0 if demo.true else 1


if __name__ == "__main__":
    sys.exit(main())
