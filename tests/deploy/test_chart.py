"""The manifests are the chart's, and ask of program and node what these have."""

from __future__ import annotations

import hashlib
import json
import re
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Final

import click
import pytest
import yaml
from attrs import fields

from eniplug.cni.conflist import Conflist, parse_conflist
from eniplug.core import install
from eniplug.core.chains import Chains, own_chains
from eniplug.core.cli import group
from eniplug.core.ec2_boto import BOTOS_ENDPOINT, ENDPOINT_VARIABLE
from eniplug.core.entries import own_entries
from eniplug.core.imds import ENDPOINT_VARIABLE as IMDS_ENDPOINT
from eniplug.core.install_command import ALSO, EARLY_DEMUX
from eniplug.core.manager import PACKAGES, Catalogue
from eniplug.core.modes import check_modes
from eniplug.core.settings import Listen, Settings

DEPLOY: Final = Path(__file__).parents[2] / "deploy"
CHART: Final = DEPLOY / "helm/eniplug"
NAMES: Final = sorted(path.stem for path in CHART.glob("ci/*.yaml"))

SETTINGS: Final = {field.metadata["name"] for field in fields(Settings)}
BY_THE_CHART: Final = {"ENIPLUG_METRICS_ADDR", "ENIPLUG_CONFLIST", "MY_NODE_NAME"}
WITH_KUBERNETES: Final = "prefix-delegation"
"""The manifest whose agents ask the API server."""
OTHERS: Final = {
    *(PACKAGES, IMDS_ENDPOINT, BOTOS_ENDPOINT, ENDPOINT_VARIABLE, EARLY_DEMUX)
}

NODE: Final = {"/opt/cni/bin", "/etc/cni/net.d", "/run/eniplug", "/proc/sys/net"}
"""All that the pods see of a node's files."""


def manifest(name: str) -> dict[tuple[str, str], dict[str, Any]]:
    """Read a manifest; its objects by kind and name."""
    text = (DEPLOY / f"manifests/{name}.yaml").read_text()
    found = [one for one in yaml.safe_load_all(text) if one]
    return {(one["kind"], one["metadata"]["name"]): one for one in found}


def pods(name: str) -> dict[str, Any]:
    """What the DaemonSet says of its pods."""
    return dict(manifest(name)["DaemonSet", "eniplug"]["spec"]["template"]["spec"])


def containers(name: str) -> tuple[dict[str, Any], dict[str, Any]]:
    """The init container and the agent's."""
    found = pods(name)
    [install], [agent_] = found["initContainers"], found["containers"]
    return install, agent_


def environ(name: str) -> dict[str, str]:
    """The agent's environment, but for what is in a ConfigMap of others."""
    settings = manifest(name)["ConfigMap", "eniplug"].get("data") or {}
    own = {
        one["name"]: one["value"]
        for one in containers(name)[1]["env"]
        if "value" in one
    }
    return {**settings, **own}


def conflist(name: str) -> Conflist:
    found = manifest(name).get(("ConfigMap", "eniplug-conflist"))
    if found is None:
        return parse_conflist(install.SHIPPED.read_bytes(), "shipped")
    return parse_conflist(found["data"]["10-eniplug.conflist"].encode(), name)


def parsed(arguments: list[str]) -> dict[str, Any]:
    """Read a command line as the image's entry point would; nothing is run."""
    name, *words = arguments
    found = group.get_command(click.Context(group), name)
    assert found is not None
    return dict(found.make_context(name, words).params)


def test_there_is_a_manifest_for_each_values_file() -> None:
    manifests = [path.stem for path in (DEPLOY / "manifests").glob("*.yaml")]

    assert sorted(manifests) == NAMES
    assert len(NAMES) > 3


@pytest.mark.parametrize("name", NAMES)
def test_a_manifest_was_rendered_from_the_chart_as_it_is(name: str) -> None:
    """`deploy/render` writes the digest; it needs helm, which this does not."""
    files = sorted(f"./{p.relative_to(CHART)}" for p in CHART.rglob("*") if p.is_file())
    sums = (hashlib.sha256((CHART / f).read_bytes()).hexdigest() for f in files)
    lines = "".join(f"{one}  {f}\n" for one, f in zip(sums, files, strict=True))
    digest = hashlib.sha256(lines.encode()).hexdigest()

    text = (DEPLOY / f"manifests/{name}.yaml").read_text()

    assert f"# chart: {digest}\n" in text, "run deploy/render"


def test_the_document_names_every_manifest_and_value_that_there_is() -> None:
    text = (DEPLOY.parent / "docs/deploy.md").read_text()
    values = yaml.safe_load((CHART / "values.yaml").read_text())
    rows = re.findall(r"^\| (`[a-zA-Z.`, ]+`) \|", section(text, "Values"), re.M)

    for name in re.findall(r"`([a-zA-Z.]+)`", " ".join(rows)):
        found = values
        for key in name.split("."):
            found = found[key]
    assert rows
    assert all(f"`{name}.yaml`" in text for name in NAMES)


def section(text: str, heading: str) -> str:
    return text.partition(f"\n## {heading}\n")[2].partition("\n## ")[0]


# -- settings --------------------------------------------------------------------------


def test_every_setting_is_in_the_values_with_words_of_its_own() -> None:
    text = (CHART / "values.yaml").read_text()
    values = yaml.safe_load(text)

    assert set(values["env"]) == (SETTINGS - BY_THE_CHART) | OTHERS
    assert set(values["env"].values()) == {None}
    for name in values["env"]:
        assert re.search(rf"^  # .+\n  {name}: null$", text, re.M), name
    assert "ENIPLUG_METRICS_ADDR" in text


def test_the_words_on_a_setting_are_those_of_the_document() -> None:
    text = re.sub(r"\s+#?\s*", " ", (CHART / "values.yaml").read_text())
    document = (DEPLOY.parent / "docs/operate.md").read_text()
    rows = re.findall(r"^\| `(\w+)` \| (.+?) \| .+? \| (.+?) \|$", document, re.M)
    said = {n: (d, m) for n, d, m in rows if n in SETTINGS - BY_THE_CHART}

    assert said.keys() == SETTINGS - BY_THE_CHART
    for default, meaning in said.values():
        plain = re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", meaning).replace("`", "")
        assert plain in text
        assert f"Default: {default}." in text


@pytest.mark.parametrize("name", NAMES)
def test_the_agent_takes_settings_and_conflist(name: str) -> None:
    given = environ(name)
    settings = Settings.from_environ(given)
    entries = own_entries(conflist(name), settings, name)
    check_modes(settings, [entry.plugins for entry in entries])

    own_chains(Chains(Catalogue(["eniplug"])), entries, name)

    assert given.keys() <= SETTINGS | OTHERS


def test_whole_numbers_and_switches_stay_what_they_were() -> None:
    given = environ("prefix-delegation") | environ("aws")

    assert given["MINIMUM_IP_TARGET"] == "16"
    assert given["ENABLE_IPv4"] == "true"
    assert json.loads(given["ADDITIONAL_ENI_TAGS"]) == {"team": "network"}


def test_awss_configmap_is_read_where_it_has_a_key() -> None:
    found = [one for one in containers("aws")[1]["env"] if "valueFrom" in one]
    found = [one for one in found if "configMapKeyRef" in one["valueFrom"]]

    read = {one["name"]: one["valueFrom"]["configMapKeyRef"] for one in found}

    assert read == {
        variable: {"name": "amazon-vpc-cni", "key": key, "optional": True}
        for variable, key in (
            ("WARM_PREFIX_TARGET", "warm-prefix-target"),
            ("WARM_IP_TARGET", "warm-ip-target"),
            ("MINIMUM_IP_TARGET", "minimum-ip-target"),
        )
    }
    assert not [one for one in containers("default")[1]["env"] if "valueFrom" in one]


# -- command lines, files, probes ------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_command_lines_are_ones_that_the_program_has(name: str) -> None:
    install, agent_ = (parsed(one["args"]) for one in containers(name))

    assert install["root"] == Path("/host")
    assert not install["check"]
    assert not install["undo"]
    assert agent_["proc_sys"] == Path("/host/proc/sys")
    assert agent_["conf_dir"] == Path("/host/etc/cni/net.d")
    assert agent_["run_dir"] == Path("/run/eniplug")


def test_awss_conflist_gets_its_executables() -> None:
    install = parsed(containers("aws")[0]["args"])
    types = {
        str(entry["type"]) for entry in json.loads(conflist("aws").text)["plugins"]
    }

    assert set(install["also"]) == types.intersection(ALSO)
    assert install["replace"]


@pytest.mark.parametrize("name", NAMES)
def test_the_command_lines_lead_to_what_is_mounted(name: str) -> None:
    volumes = {
        one["name"]: one["hostPath"]["path"]
        for one in pods(name)["volumes"]
        if "hostPath" in one
    }
    install, agent_ = (
        {
            one["mountPath"]: (volumes[one["name"]], one.get("readOnly", False))
            for one in container["volumeMounts"]
            if one["name"] in volumes
        }
        for container in containers(name)
    )

    assert set(volumes.values()) == NODE
    assert install == {
        "/host/opt/cni/bin": ("/opt/cni/bin", False),
        "/host/etc/cni/net.d": ("/etc/cni/net.d", True),
        "/host/proc/sys/net": ("/proc/sys/net", False),
    }
    assert agent_ == {
        "/run/eniplug": ("/run/eniplug", False),
        "/host/etc/cni/net.d": ("/etc/cni/net.d", False),
        "/host/proc/sys/net": ("/proc/sys/net", False),
    }


@pytest.mark.parametrize("name", NAMES)
def test_a_conflist_is_mounted_where_the_agent_looks_for_it(name: str) -> None:
    path = environ(name).get("ENIPLUG_CONFLIST")
    mounts = containers(name)[1]["volumeMounts"]

    mounted = [one["mountPath"] for one in mounts if "subPath" in one]

    assert mounted == ([path] if path else [])
    assert (path is not None) == (("ConfigMap", "eniplug-conflist") in manifest(name))


@pytest.mark.parametrize("name", NAMES)
def test_probes_ask_for_pages_where_the_agent_answers(name: str) -> None:
    container = containers(name)[1]
    listen = Settings.from_environ(environ(name)).metrics_addr
    assert isinstance(listen, Listen)

    for probe, path in (("livenessProbe", "/healthz"), ("readinessProbe", "/readyz")):
        asked = container[probe]["httpGet"]
        host = ip_address(asked["host"])
        assert (asked["path"], asked["port"]) == (path, listen.port)
        assert host.is_loopback
        assert ip_address(listen.host) == host or ip_address(listen.host).is_unspecified
        assert "exec" not in container[probe]
    assert container["ports"][0]["containerPort"] == listen.port


def test_a_prometheus_scrapes_the_port_that_it_reaches() -> None:
    objects = manifest("prefix-delegation")
    monitor = objects["PodMonitor", "eniplug"]["spec"]
    labels = objects["DaemonSet", "eniplug"]["spec"]["template"]["metadata"]["labels"]
    listen = Settings.from_environ(environ("prefix-delegation")).metrics_addr

    assert monitor["selector"]["matchLabels"].items() <= labels.items()
    [endpoint] = monitor["podMetricsEndpoints"]
    [port] = containers("prefix-delegation")[1]["ports"]
    assert (endpoint["port"], endpoint["path"]) == (port["name"], "/metrics")
    assert isinstance(listen, Listen)
    assert not ip_address(listen.host).is_loopback


# -- rights ----------------------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_containers_have_the_rights_they_need_and_no_more(name: str) -> None:
    install, agent_ = (one["securityContext"] for one in containers(name))

    assert install["capabilities"] == {"drop": ["ALL"]}
    assert install["allowPrivilegeEscalation"] is False
    assert agent_["capabilities"] == {
        "drop": ["ALL"],
        "add": ["NET_ADMIN", "SYS_ADMIN"],
    }
    for one in (install, agent_):
        assert one["privileged"] is False
        assert one["readOnlyRootFilesystem"] is True
    found = pods(name)
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert not found.keys() & {"hostPID", "hostIPC", "shareProcessNamespace"}


@pytest.mark.parametrize("name", NAMES)
def test_the_api_server_gives_the_agent_what_it_asks_for_and_no_more(
    name: str,
) -> None:
    objects, asks = manifest(name), name == WITH_KUBERNETES
    account = objects["ServiceAccount", "eniplug"]

    assert {kind for kind, _ in objects if "Role" in kind} == (
        {"ClusterRole", "ClusterRoleBinding"} if asks else set()
    )
    assert account["automountServiceAccountToken"] is False
    assert pods(name)["automountServiceAccountToken"] is asks
    assert pods(name)["serviceAccountName"] == account["metadata"]["name"]
    names = {one["name"] for one in containers(name)[1]["env"]}
    assert ("MY_NODE_NAME" in names) is asks


def test_the_rights_at_the_api_server_are_two() -> None:
    objects = manifest(WITH_KUBERNETES)
    role = objects["ClusterRole", "eniplug"]
    binding = objects["ClusterRoleBinding", "eniplug"]

    assert [(one["resources"], one["verbs"]) for one in role["rules"]] == [
        (["nodes"], ["get"]),
        (["events"], ["create"]),
    ]
    assert binding["roleRef"]["name"] == role["metadata"]["name"]
    [subject] = binding["subjects"]
    account = objects["ServiceAccount", "eniplug"]["metadata"]
    assert (subject["name"], subject["namespace"]) == (
        account["name"],
        account["namespace"],
    )


# -- as aws-node is run ----------------------------------------------------------------


@pytest.mark.parametrize("name", NAMES)
def test_the_daemonset_runs_where_and_as_awss_does(name: str) -> None:
    found = pods(name)
    spec = manifest(name)["DaemonSet", "eniplug"]["spec"]
    [term] = found["affinity"]["nodeAffinity"][
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]["nodeSelectorTerms"]

    assert found["hostNetwork"] is True
    assert found["priorityClassName"] == "system-node-critical"
    assert found["terminationGracePeriodSeconds"] == 10
    assert found["tolerations"] == [{"operator": "Exists"}]
    assert spec["updateStrategy"]["rollingUpdate"] == {"maxUnavailable": "10%"}
    assert {
        one["key"]: (one["operator"], one["values"]) for one in term["matchExpressions"]
    } == {
        "kubernetes.io/os": ("In", ["linux"]),
        "kubernetes.io/arch": ("In", ["amd64", "arm64"]),
        "eks.amazonaws.com/compute-type": ("NotIn", ["fargate", "hybrid", "auto"]),
    }
    assert spec["selector"]["matchLabels"].items() <= (
        spec["template"]["metadata"]["labels"].items()
    )


def test_a_change_of_settings_restarts_the_agents() -> None:
    sums = {
        manifest(name)["DaemonSet", "eniplug"]["spec"]["template"]["metadata"][
            "annotations"
        ]["checksum/config"]
        for name in NAMES
    }

    assert len(sums) == len(NAMES)


def test_eniconfigs_are_as_aws_has_them() -> None:
    crd = manifest("default")[
        "CustomResourceDefinition", "eniconfigs.crd.k8s.amazonaws.com"
    ]["spec"]
    [version] = crd["versions"]
    spec = version["schema"]["openAPIV3Schema"]["properties"]["spec"]

    assert (crd["group"], crd["scope"], version["name"]) == (
        "crd.k8s.amazonaws.com",
        "Cluster",
        "v1alpha1",
    )
    assert crd["names"]["plural"] == "eniconfigs"
    assert spec["properties"]["subnet"] == {"type": "string"}
    assert spec["properties"]["securityGroups"]["items"] == {"type": "string"}
    assert spec["required"] == ["subnet"]
