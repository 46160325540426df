"""The agent does its work with the rights and files that the manifests give it."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any, Final

import pytest
import yaml

from kit.labs import a_lab, conflist

pytestmark = [pytest.mark.root, pytest.mark.lab]

MANIFEST: Final = Path(__file__).parents[2] / "deploy/manifests/default.yaml"

BITS: Final = {"NET_ADMIN": 12, "SYS_ADMIN": 21}
"""Numbers of capabilities (linux/capability.h)."""

CONTAINER: Final = """
chmod 755 /run/eniplug
mkdir -p /run/host/proc/sys/net
mount --bind /proc/sys/net /run/host/proc/sys/net
mount --bind /proc/sys /proc/sys
mount -o remount,bind,ro /proc/sys
if (echo 1 > /proc/sys/net/ipv4/ip_forward) 2> /dev/null; then exit 9; fi
exec setpriv --no-new-privs --inh-caps=-all --bounding-set=-all,{caps} sh -euc '
grep -q "^CapEff:.*{mask:016x}$" /proc/self/status
exec {python} -m eniplug.core.cli agent --proc-sys /run/host/proc/sys'
"""
"""What a runtime does of it: /proc/sys read-only, and few capabilities.

The kubelet makes a hostPath's directory, of mode 0755.
"""


def agent_container() -> dict[str, Any]:
    objects = yaml.safe_load_all(MANIFEST.read_text())
    [found] = [one for one in objects if one and one["kind"] == "DaemonSet"]
    return dict(found["spec"]["template"]["spec"]["containers"][0])


def test_an_agent_that_may_not_enter_pods_does_not_start() -> None:
    setpriv = ("setpriv", "--inh-caps=-all", "--bounding-set=-sys_admin")

    done = subprocess.run(
        [*setpriv, sys.executable, "-m", "eniplug.core.cli", "agent"],
        capture_output=True,
        text=True,
        check=False,
    )

    assert done.returncode == 1
    assert done.stderr == (
        "eniplug: the agent may not enter network namespaces\n"
        "give it the capability SYS_ADMIN\n"
    )


def test_pods_come_and_go_with_the_rights_of_the_manifest(tmp_path: Path) -> None:
    added = agent_container()["securityContext"]["capabilities"]["add"]
    plugins = [
        {"name": "prefix-delegation", "family": "dual-stack"},
        *("pod-veth", "flat-routes", "snat", "host-ports"),
    ]
    script = CONTAINER.format(
        caps=",".join(f"+{one.lower()}" for one in added),
        mask=sum(1 << BITS[one] for one in added),
        python=sys.executable,
    )
    chosen = tmp_path / "chosen.conflist"
    chosen.write_text(json.dumps(conflist({"type": "eniplug", "plugins": plugins})))
    with a_lab(
        "rights",
        nodes=1,
        ipv6=True,
        agent=("unshare", "--mount", "sh", "-euc", script),
        environment={"ENIPLUG_CONFLIST": str(chosen)},
    ) as lab:
        assert lab.inside("node1", "stat", "-c%a", "/run/eniplug") == "700\n"
        before = lab.picture()
        addresses = lab.add("one", "two")
        lab.inside("one", "ping", "-c1", "-W5", addresses["two"])
        lab.inside("one", "ping", "-c1", "-W5", "203.0.113.10")

        lab.remove("one", "two")

        assert lab.settles_to(before)
