from __future__ import annotations

from ipaddress import IPv4Network
from pathlib import Path

import pytest
from attrs import fields

from eniplug.core.settings import Listen, Settings
from eniplug.hooks.capacity import Targets
from eniplug.hooks.errors import ConfigError
from eniplug.hooks.values import NodeSettings


def refusal(**environ: str) -> str:
    with pytest.raises(ConfigError) as caught:
        Settings.from_environ(environ)
    return caught.value.message


def test_an_empty_environment_gives_the_defaults_of_aws() -> None:
    settings = Settings.from_environ({"PATH": "/usr/bin"})

    assert settings == Settings()
    assert settings.targets == Targets(warm_eni=1, warm_ip=0, minimum_ip=0)
    assert settings.node == NodeSettings()
    assert settings.ip_cooldown_period == 30
    assert settings.add_wait == 30
    assert settings.max_eni is None
    assert settings.max_pods is None
    assert settings.pod_mtu == 9001
    assert settings.veth_prefix == "eni"
    assert settings.manage_untagged_eni
    assert settings.log_level == "debug"
    assert settings.conflist is None


def test_every_variable_reaches_its_setting() -> None:
    environ = {
        "WARM_ENI_TARGET": "2",
        "WARM_IP_TARGET": "5",
        "MINIMUM_IP_TARGET": "10",
        "WARM_PREFIX_TARGET": "4",
        "ENABLE_PREFIX_DELEGATION": "true",
        "ENABLE_MULTI_NIC": "true",
        "ENABLE_IPv4": "false",
        "ENABLE_IPv6": "true",
        "ENABLE_V4_EGRESS": "false",
        "ENABLE_V6_EGRESS": "true",
        "ENABLE_SUBNET_DISCOVERY": "false",
        "DISABLE_LEAKED_ENI_CLEANUP": "true",
        "DISABLE_NETWORK_RESOURCE_PROVISIONING": "true",
        "ENABLE_IMDS_ONLY_MODE": "true",
        "AWS_MANAGE_ENIS_NON_SCHEDULABLE": "true",
        "MY_NODE_NAME": "ip-10-0-1-2.ec2.internal",
        "ENIPLUG_POD_EVENTS": "false",
        "MAX_ENI": "3",
        "ENIPLUG_MAX_PODS": "58",
        "IP_COOLDOWN_PERIOD": "0",
        "ENIPLUG_ADD_WAIT": "12.5",
        "AWS_VPC_ENI_MTU": "8901",
        "POD_MTU": "1500",
        "AWS_VPC_K8S_CNI_VETHPREFIX": "pod",
        "AWS_VPC_K8S_CNI_EXTERNALSNAT": "true",
        "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "10.12.0.0/16, 10.13.1.2/16,10.12.0.0/16",
        "AWS_EXTERNAL_SERVICE_CIDRS": "192.0.2.0/24",
        "AWS_VPC_K8S_CNI_RANDOMIZESNAT": "none",
        "AWS_VPC_CNI_NODE_PORT_SUPPORT": "False",
        "ENIPLUG_PUT_BACK_MAIN_RULES": "true",
        "AWS_VPC_K8S_CNI_CONNMARK": "0x100",
        "CLUSTER_NAME": "blue",
        "ADDITIONAL_ENI_TAGS": '{"team": "net", "cost": "1"}',
        "MANAGE_UNTAGGED_ENI": "f",
        "AWS_VPC_K8S_CNI_LOGLEVEL": "WARN",
        "ENIPLUG_METRICS_ADDR": "[::1]:8080",
        "ENIPLUG_CONFLIST": "/etc/eniplug/ours.conflist",
    }

    settings = Settings.from_environ(environ)

    excluded = (IPv4Network("10.12.0.0/16"), IPv4Network("10.13.0.0/16"))
    services = (IPv4Network("192.0.2.0/24"),)
    assert settings == Settings(
        warm_eni_target=2,
        warm_ip_target=5,
        minimum_ip_target=10,
        warm_prefix_target=4,
        enable_prefix_delegation=True,
        enable_multi_nic=True,
        enable_ipv4=False,
        enable_ipv6=True,
        enable_v4_egress=False,
        enable_v6_egress=True,
        enable_subnet_discovery=False,
        disable_leaked_eni_cleanup=True,
        disable_network_resource_provisioning=True,
        enable_imds_only_mode=True,
        manage_enis_non_schedulable=True,
        node_name="ip-10-0-1-2.ec2.internal",
        pod_events=False,
        max_eni=3,
        max_pods=58,
        ip_cooldown_period=0,
        add_wait=12.5,
        eni_mtu=8901,
        own_pod_mtu=1500,
        veth_prefix="pod",
        external_snat=True,
        exclude_snat_cidrs=excluded,
        external_service_cidrs=services,
        randomize_snat="none",
        node_port_support=False,
        put_back_main_rules=True,
        connmark=0x100,
        cluster_name="blue",
        additional_eni_tags=(("cost", "1"), ("team", "net")),
        manage_untagged_eni=False,
        log_level="warn",
        metrics_addr=Listen("::1", 8080),
        conflist=Path("/etc/eniplug/ours.conflist"),
    )
    assert set(environ) == {a.metadata["name"] for a in fields(Settings)}
    assert settings.targets == Targets(
        warm_eni=2, warm_ip=5, minimum_ip=10, warm_prefix=4
    )
    assert settings.node == NodeSettings(
        external_snat=True,
        exclude_snat_cidrs=excluded,
        external_service_cidrs=services,
        randomize_snat="none",
        node_port_support=False,
        connmark=0x100,
        eni_mtu=8901,
    )


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("WARM_ENI_TARGET", "many"),
        ("WARM_ENI_TARGET", "-1"),
        ("WARM_ENI_TARGET", ""),
        ("WARM_ENI_TARGET", "1.5"),
        ("WARM_ENI_TARGET", "1_0"),
        ("WARM_ENI_TARGET", "٣"),
        ("WARM_IP_TARGET", " 5"),
        ("MINIMUM_IP_TARGET", "-3"),
        ("ENIPLUG_METRICS_ADDR", ""),
        ("ENIPLUG_METRICS_ADDR", "61678"),
        ("ENIPLUG_METRICS_ADDR", "localhost:61678"),
        ("ENIPLUG_METRICS_ADDR", "::1:61678"),
        ("ENIPLUG_METRICS_ADDR", "[127.0.0.1]:61678"),
        ("ENIPLUG_METRICS_ADDR", "127.0.0.1:0"),
        ("ENIPLUG_METRICS_ADDR", "127.0.0.1:65536"),
        ("MAX_ENI", "all"),
        ("ENIPLUG_MAX_PODS", "0"),
        ("IP_COOLDOWN_PERIOD", "30s"),
        ("ENIPLUG_ADD_WAIT", "inf"),
        ("ENIPLUG_ADD_WAIT", "-1"),
        ("ENIPLUG_ADD_WAIT", "3601"),
        ("AWS_VPC_ENI_MTU", "575"),
        ("AWS_VPC_ENI_MTU", "9002"),
        ("POD_MTU", "jumbo"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "toolong"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "eth"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "lo"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "vlan"),
        ("AWS_VPC_K8S_CNI_VETHPREFIX", "a/b"),
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", "yes"),
        ("AWS_VPC_K8S_CNI_EXTERNALSNAT", ""),
        ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "10.0.0.0/33"),
        ("AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS", "fd00::/8"),
        ("AWS_EXTERNAL_SERVICE_CIDRS", "here"),
        ("AWS_VPC_K8S_CNI_RANDOMIZESNAT", "random"),
        ("AWS_VPC_CNI_NODE_PORT_SUPPORT", "2"),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0"),
        ("AWS_VPC_K8S_CNI_CONNMARK", "0x100000000"),
        ("AWS_VPC_K8S_CNI_CONNMARK", "mark"),
        ("ADDITIONAL_ENI_TAGS", "{"),
        ("ADDITIONAL_ENI_TAGS", "[]"),
        ("ADDITIONAL_ENI_TAGS", '{"a": 1}'),
        ("ADDITIONAL_ENI_TAGS", '{"node.k8s.amazonaws.com/x": "1"}'),
        ("ADDITIONAL_ENI_TAGS", '{"aws:x": "1"}'),
        ("ADDITIONAL_ENI_TAGS", '{"": "1"}'),
        ("MANAGE_UNTAGGED_ENI", "no"),
        ("AWS_VPC_K8S_CNI_LOGLEVEL", "loud"),
        ("ENIPLUG_CONFLIST", ""),
    ],
)
def test_an_unusable_value_is_refused_in_one_line_that_names_it(
    name: str, value: str
) -> None:
    message = refusal(**{name: value})

    assert message.startswith(f"{name}={value!r}: accepted is ")
    assert "\n" not in message


def test_pods_cannot_have_a_larger_mtu_than_the_enis() -> None:
    message = refusal(AWS_VPC_ENI_MTU="1500", POD_MTU="9001")

    assert message.startswith("POD_MTU=9001: accepted is")
    assert "AWS_VPC_ENI_MTU, which is 1500" in message


def test_the_pods_mtu_follows_the_enis() -> None:
    assert Settings.from_environ({"AWS_VPC_ENI_MTU": "1500"}).pod_mtu == 1500


@pytest.mark.parametrize("value", ["0", "-1"])
def test_a_cap_below_one_eni_is_no_cap(value: str) -> None:
    assert Settings.from_environ({"MAX_ENI": value}).max_eni is None


@pytest.mark.parametrize(
    ("text", "number"), [("128", 128), ("0x80", 128), ("0200", 128), ("0b1", 1)]
)
def test_the_connmark_is_read_in_the_bases_of_go(text: str, number: int) -> None:
    assert Settings.from_environ({"AWS_VPC_K8S_CNI_CONNMARK": text}).connmark == number


@pytest.mark.parametrize("text", ["0.0.0.0:61678", "127.0.0.1:9", "[::]:61678"])
def test_an_address_is_said_as_it_was_written(text: str) -> None:
    settings = Settings.from_environ({"ENIPLUG_METRICS_ADDR": text})

    assert str(settings.metrics_addr) == text


def test_the_pages_can_be_switched_off() -> None:
    assert Settings.from_environ({"ENIPLUG_METRICS_ADDR": "off"}).metrics_addr is None


def test_an_empty_list_and_an_empty_prefix_are_values() -> None:
    settings = Settings.from_environ(
        {
            "AWS_VPC_K8S_CNI_EXCLUDE_SNAT_CIDRS": "",
            "ADDITIONAL_ENI_TAGS": "",
            "AWS_VPC_K8S_CNI_VETHPREFIX": "",
        }
    )

    assert settings == Settings(veth_prefix="")
