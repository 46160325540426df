"""The runtime's side against the reference plugins, in namespaces of its own."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve

from eniplug.cni.conflist import parse_conflist
from eniplug.cni.runtime import Attachment, EntryError, Runtime
from eniplug.cni.versions import VERSIONS, at_least
from kit.netns import FOLDER, inside, run

PLUGINS = Path("/usr/lib/cni")
SPOKEN = [version for version in VERSIONS if version != "1.1.0"]
"""Debian's reference plugins are those of 1.1.1, which speak CNI up to 1.0.0."""

PORTS = {
    "portMappings": [{"hostPort": 18080, "containerPort": 80, "protocol": "tcp"}],
}


@pytest.fixture
def spaces() -> Iterator[list[str]]:
    """Two namespaces: the host's and the pod's; the test runs in the host's."""
    names = [f"ct-{secrets.token_hex(4)}-{what}" for what in ("host", "pod")]
    made: list[str] = []
    try:
        for name in names:
            run("ip", "netns", "add", name)
            made.append(name)
        with inside(names[0]):
            run("ip", "link", "set", "lo", "up")
            yield names
    finally:
        for name in made:
            run("ip", "netns", "del", name)


@pytest.fixture
def pod(spaces: list[str]) -> Attachment:
    return Attachment(
        container_id=secrets.token_hex(8),
        netns=str(FOLDER / spaces[1]),
        args={"IgnoreUnknown": "1", "K8S_POD_NAME": "web"},
        capabilities=PORTS,
    )


def chain(tmp_path: Path, version: str, *, portmap: bool = True) -> Runtime:
    ipam = {
        "type": "host-local",
        "dataDir": str(tmp_path / "host-local"),
        "ranges": [[{"subnet": "198.18.7.0/24"}]],
        "routes": [{"dst": "0.0.0.0/0"}],
    }
    entries: list[dict[str, Any]] = [{"type": "ptp", "mtu": 1400, "ipam": ipam}]
    if portmap:
        able = {"portMappings": True}
        entries.append({"type": "portmap", "capabilities": able})
    conf = {"cniVersion": version, "name": "ct-net", "plugins": entries}
    conflist = parse_conflist(json.dumps(conf).encode(), "test")
    return Runtime(conflist, [PLUGINS], tmp_path / "cache")


def shown(netns: str, *words: str) -> Any:
    return json.loads(run("ip", "-j", *words, inside=netns))


def picture(host: str) -> dict[str, Any]:
    return {
        "links": [link["ifname"] for link in shown(host, "link")],
        "routes": shown(host, "route"),
        "nat": [
            line
            for line in run("iptables-save", "-t", "nat", inside=host).splitlines()
            if line.startswith("-A CNI-DN") or line.startswith(":CNI-DN")
        ],
    }


@pytest.mark.root
@pytest.mark.parametrize("version", SPOKEN)
def test_a_pod_lives_with_ptp_and_portmap_in_every_version(
    tmp_path: Path, spaces: list[str], pod: Attachment, version: str
) -> None:
    host, inner = spaces
    runtime = chain(tmp_path, version)
    before = picture(host)

    result = runtime.add(pod)

    assert result["cniVersion"] == version
    [address] = result["ips"]
    assert address["address"] == "198.18.7.2/24"
    assert address.get("version") == (None if at_least(version, "1.0.0") else "4")
    [eth0] = shown(inner, "addr", "show", "eth0")
    assert eth0["mtu"] == 1400
    assert "198.18.7.2" in [a["local"] for a in eth0["addr_info"]]
    assert any("--dport 18080" in line for line in picture(host)["nat"])

    runtime.delete(pod)
    runtime.delete(evolve(pod, netns=""))

    assert picture(host) == before
    assert not list((tmp_path / "cache").iterdir())
    leases = tmp_path / "host-local" / "ct-net"
    assert [path.name for path in leases.glob("198.18.7.*")] == []


@pytest.mark.root
@pytest.mark.parametrize("version", ["0.4.0", "1.0.0"])
def test_a_check_finds_what_somebody_took_away(
    tmp_path: Path, spaces: list[str], pod: Attachment, version: str
) -> None:
    runtime = chain(tmp_path, version, portmap=False)  # 1.1.1's cannot CHECK itself
    runtime.add(pod)
    runtime.check(pod)

    run("ip", "addr", "del", "198.18.7.2/24", "dev", "eth0", inside=spaces[1])

    with pytest.raises(EntryError) as caught:
        runtime.check(pod)
    assert caught.value.entry == "ptp"
    runtime.delete(pod)


@pytest.mark.root
def test_a_failed_add_of_real_plugins_leaves_nothing(
    tmp_path: Path, spaces: list[str], pod: Attachment
) -> None:
    host, inner = spaces
    runtime = chain(tmp_path, "1.0.0")
    wrong = {"portMappings": [{"hostPort": 1, "containerPort": 1, "protocol": "x"}]}
    before = picture(host)

    with pytest.raises(EntryError) as caught:
        runtime.add(evolve(pod, capabilities=wrong))

    assert caught.value.entry == "portmap"
    assert picture(host) == before
    assert [link["ifname"] for link in shown(inner, "link")] == ["lo"]
    assert not list((tmp_path / "host-local" / "ct-net").glob("198.18.7.*"))


@pytest.mark.root
@pytest.mark.parametrize("version", SPOKEN)
def test_loopback_is_run_as_runtimes_run_it(
    tmp_path: Path, spaces: list[str], pod: Attachment, version: str
) -> None:
    conf = {"cniVersion": version, "name": "lo", "plugins": [{"type": "loopback"}]}
    conflist = parse_conflist(json.dumps(conf).encode(), "test")
    runtime = Runtime(conflist, [PLUGINS], tmp_path)
    lo = evolve(pod, ifname="lo", capabilities={})

    result = runtime.add(lo)

    assert [one["name"] for one in result["interfaces"]] == ["lo"]
    assert "UP" in shown(spaces[1], "link", "show", "lo")[0]["flags"]
    runtime.delete(lo)
    assert "UP" not in shown(spaces[1], "link", "show", "lo")[0]["flags"]
