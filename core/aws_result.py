"""Results as the AWS VPC CNI writes them, for entries of type aws-cni and egress-cni.

A runtime keeps a pod's last result and hands it to DEL.  AWS's executable finds there
which rules to delete, so a node may go back to it with pods running
(cmd/routed-eni-cni-plugin/cni.go: ``mac`` of the pod's interface is the number of its
ENI's routing table; a last interface, which no kernel has, has the device number).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from eniplug.core.result import Result
from eniplug.hooks import Allocation


def main_result(allocation: Allocation, netns: str) -> Result:
    """Describe a pod's interfaces; ``netns`` is as the runtime named it.

    In the form of CNI 1.1.0, as every result of ours inside the agent.
    """
    interfaces: list[dict[str, Any]] = []
    ips: list[dict[str, Any]] = []
    for nic in allocation.nics:
        assert nic.eni is not None
        table = str(nic.eni.table)
        interfaces.append({"name": nic.host_ifname})
        ips += [
            {"address": str(address), "interface": len(interfaces)}
            for address in nic.addresses
        ]
        interfaces.append({"name": nic.ifname, "mac": table, "sandbox": netns})
    first = allocation.nics[0]
    assert first.eni is not None
    dummy = "dummy" + first.host_ifname[-11:]
    device = str(first.eni.device)
    interfaces.append({"name": dummy, "mac": "0", "sandbox": device})
    return {"interfaces": interfaces, "ips": ips, "dns": {}}


def egress_result(result: Mapping[str, Any], prev: Mapping[str, Any]) -> Result:
    """Leave prevResult as it is but for the interfaces that the entry added.

    An address that only the node knows is none that others may send to: portmap would
    lead host ports to it.
    """
    return {**prev, "interfaces": result["interfaces"]}
