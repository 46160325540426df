"""A lab that is up: cloud, fabric, nodes and pods together, and what can be asked."""

from __future__ import annotations

import json
import os
import signal
import socket
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack
from ipaddress import IPv4Address
from typing import Any

from eniplug.cni import native_path, python_executable
from eniplug.lab.chain import NodeChain
from eniplug.lab.cloud import POD_SUBNETS, Cloud
from eniplug.lab.control import Command
from eniplug.lab.fabric import EC2, IMDS, Fabric
from eniplug.lab.facts import as_json
from eniplug.lab.faults import Faults
from eniplug.lab.internet import Internet
from eniplug.lab.names import Names
from eniplug.lab.node import AGENT, Node
from eniplug.lab.plan import Plan
from eniplug.lab.pods import Pods
from eniplug.lab.wiring import Wiring

SEED = 1
"""Of the cloud's choices: two labs of one plan have the same addresses."""


class Lab:
    """Everything that one lab is made of; comes up once and goes down once."""

    def __init__(self, plan: Plan, say: Callable[[str], None]) -> None:
        """Do nothing yet; ``say`` is told each step."""
        self._plan = plan
        self._say = say
        self._names = Names(plan.lab)
        self._undo = ExitStack()

    def up(self) -> None:
        """Bring everything up; return when every agent is ready.

        Raises LabError when that fails; `down` then removes what was made.
        """
        names, plan = self._names, self._plan
        self._say("router and internet")
        self._fabric = Fabric(names)
        self._undo.callback(self._fabric.close)
        self._undo.callback(Internet(names, self._fabric).close)
        self._wiring = Wiring(names, self._fabric)
        self._undo.callback(self._close_nodes)
        self._say("EC2 and IMDS")
        self._faults = Faults.from_json(plan.faults)
        self._cloud = Cloud(self._wiring, self._faults, seed=SEED)
        self._undo.callback(self._cloud.close)
        more = POD_SUBNETS[: plan.subnets]
        self._cloud.create_vpc(pod_subnets=more, ipv6=plan.has_ipv6)
        self._cloud.serve_ec2(self._listen(EC2))
        self._cloud.serve_imds(self._listen(IMDS))
        self._say(f"{plan.nodes} nodes of type {plan.instance_type}")
        for _ in range(plan.nodes):
            self._cloud.launch(plan.instance_type)
        self._pods = Pods(names, self._wiring.node, NodeChain())
        self._say("agents")
        self._start_agents()

    def _listen(self, address: IPv4Address) -> socket.socket:
        where = (str(address), 80)
        return self._fabric.inside.call(socket.create_server, where, backlog=128)

    def _start_agents(self) -> None:
        command = self._plan.agent or (*AGENT, *self._conflist())
        nodes = [node for _, node in self._wiring.nodes()]
        for node in nodes:
            node.install(_executable(self._plan.executable), self._types())
            node.prepare(command, self._plan.environment)
            node.start()
        with ThreadPoolExecutor(len(nodes) or 1) as waiting:
            for _ in waiting.map(Node.wait, nodes):
                pass

    def _conflist(self) -> tuple[str, ...]:
        """Put the chosen conflist where every node sees it and only root writes."""
        if self._plan.conflist is None:
            return ()
        path = self._names.run / "chosen.conflist"
        path.write_text(self._plan.conflist)
        path.chmod(0o644)
        return "--conflist", str(path)

    def _types(self) -> frozenset[str]:
        """Which executables the chosen conflist asks for; none if it is a bad one."""
        try:
            chosen = json.loads(self._plan.conflist or "{}")
            return frozenset(str(entry["type"]) for entry in chosen["plugins"])
        except (ValueError, LookupError, TypeError):
            return frozenset()

    def down(self) -> None:
        """Stop everything; what has a name is left for the sweep."""
        self._undo.close()

    def _close_nodes(self) -> None:
        nodes = [node for _, node in self._wiring.nodes()]
        with ThreadPoolExecutor(len(nodes) or 1) as stopping:
            for node in nodes:
                stopping.submit(node.signal, signal.SIGTERM)
        for node in nodes:
            node.close()

    # -- what can be asked -------------------------------------------------------------

    def commands(self) -> Mapping[str, Command]:
        """Return the control socket's commands by name."""
        return {
            "status": self.status,
            "where": self.where,
            "pod-add": self._pods.add,
            "pod-rm": self._pods.remove,
            "agent": self.agent,
            "fault": self.fault,
            "clear": self.clear,
            "calls": self._cloud.calls,
            "associate-cidr": self._cloud.associate_cidr,
            "disassociate-cidr": self._cloud.disassociate_cidr,
        }

    def status(self) -> dict[str, Any]:
        """Return everything worth knowing, as JSON takes it."""
        return {
            "lab": self._names.lab,
            "pid": os.getpid(),
            "nodes": [self._node(id_, node) for id_, node in self._wiring.nodes()],
            "pods": self._pods.listed(),
            "dropped": self._fabric.counters(),
        }

    def _node(self, instance: str, node: Node) -> dict[str, Any]:
        enis = self._wiring.enis(instance)
        public = self._wiring.public(enis[0].primary)
        return {
            "number": node.number,
            "instance": instance,
            "type": self._plan.instance_type,
            "namespace": node.namespace,
            "address": str(enis[0].primary),
            "public": str(public) if public else None,
            "agent": {"pid": node.agent, "condition": node.condition},
            "log": str(node.log),
            "enis": [as_json(eni) for eni in enis],
        }

    def where(self, target: str) -> dict[str, str | None]:
        """Return how to enter a pod, a node, the internet's host or the router."""
        view = None
        if target == "internet":
            namespace = self._names.internet
        elif target == "vpc":
            namespace = self._names.vpc
        elif target.startswith("node") and target[4:].isdecimal():
            node = self._wiring.node(int(target[4:]))
            namespace, view = node.namespace, f"/proc/{os.getpid()}/fd/{node.view}"
        else:
            namespace = self._pods.get(target).namespace
        return {"namespace": namespace, "view": view}

    def agent(
        self, number: int, do: str, environment: Mapping[str, str] | None = None
    ) -> dict[str, Any]:
        """Start a node's agent and wait until it is ready, or stop or kill it.

        ``environment`` is set for this start and those that follow.
        """
        node = self._wiring.node(number)
        if do == "start":
            node.set(environment or {})
            node.start()
            node.wait()
        else:
            node.signal(signal.SIGKILL if do == "kill" else signal.SIGTERM)
        return {"pid": node.agent, "condition": node.condition}

    def fault(self, faults: Mapping[str, Any]) -> dict[str, Any]:
        """Add to the cloud's faults; return what is set."""
        if faults:
            self._set(Faults.from_json({**self._faults.to_json(), **faults}))
        return self._faults.to_json()

    def clear(self) -> dict[str, Any]:
        """End all the cloud's faults; return what is set."""
        self._set(Faults())
        return self._faults.to_json()

    def _set(self, faults: Faults) -> None:
        self._cloud.set_faults(faults)
        self._faults = faults


def _executable(kind: str) -> bytes:
    """Return the executable that is written into the nodes."""
    native = native_path() if kind == "native" else None
    return native.read_bytes() if native else python_executable()
