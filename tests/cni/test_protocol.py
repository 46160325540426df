from __future__ import annotations

import json
from typing import Any

import pytest

from eniplug.cni.errors import CniError
from eniplug.cni.protocol import Call, NetConf, error_json, parse_call, parse_config

FULL = {
    "CNI_CONTAINERID": "0123abc",
    "CNI_NETNS": "/run/netns/pod",
    "CNI_IFNAME": "eth0",
    "CNI_ARGS": "",
    "CNI_PATH": "/opt/cni/bin",
}
ENTRY: dict[str, Any] = {"cniVersion": "1.0.0", "name": "vpc", "type": "eniplug"}

NEEDED = {
    "ADD": {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"},
    "CHECK": {"CNI_CONTAINERID", "CNI_NETNS", "CNI_IFNAME"},
    "DEL": {"CNI_CONTAINERID", "CNI_IFNAME"},
    "GC": set[str](),
    "STATUS": set[str](),
    "VERSION": set[str](),
}


def call(command: str, **changed: str) -> Call:
    return parse_call({**FULL, "CNI_COMMAND": command, **changed})


def config(**changed: Any) -> NetConf:
    return parse_config(json.dumps({**ENTRY, **changed}).encode())


def refused_call(environ: dict[str, str]) -> str:
    with pytest.raises(CniError) as caught:
        parse_call(environ)
    assert caught.value.code == 4
    return caught.value.message


def refused(stdin: bytes) -> tuple[int, str]:
    with pytest.raises(CniError) as caught:
        parse_config(stdin)
    return caught.value.code, str(caught.value)


def refused_config(**changed: Any) -> tuple[int, str]:
    return refused(json.dumps({**ENTRY, **changed}).encode())


# -- the environment -------------------------------------------------------------------


@pytest.mark.parametrize("command", NEEDED)
def test_a_whole_environment_is_read(command: str) -> None:
    assert call(command, CNI_ARGS="IgnoreUnknown=1") == Call(
        command=command,
        container_id="0123abc",
        netns="/run/netns/pod",
        ifname="eth0",
        args={"IgnoreUnknown": "1"},
        path="/opt/cni/bin",
    )


@pytest.mark.parametrize("gone", ["missing", "empty"])
@pytest.mark.parametrize("name", FULL)
@pytest.mark.parametrize("command", NEEDED)
def test_a_variable_may_lack_only_where_the_command_does_not_need_it(
    command: str, name: str, gone: str
) -> None:
    environ = {**FULL, "CNI_COMMAND": command, name: ""}
    if gone == "missing":
        del environ[name]

    if name in NEEDED[command]:
        message = refused_call(environ)
        assert message == f"{name} is not set: {command} needs it"
    else:
        assert parse_call(environ).command == command


@pytest.mark.parametrize("command", ["", "add", "ADD ", "UPDATE"])
def test_a_command_that_is_none_is_refused(command: str) -> None:
    message = refused_call({**FULL, "CNI_COMMAND": command})

    assert message == f"CNI_COMMAND {command!r} is unusable"


def test_an_environment_without_a_command_is_refused() -> None:
    assert "CNI_COMMAND" in refused_call(FULL)


@pytest.mark.parametrize("id_", ["a", "9", "A.b_c-d", "f" * 64])
def test_a_container_id_of_the_specification_is_taken(id_: str) -> None:
    assert call("ADD", CNI_CONTAINERID=id_).container_id == id_


@pytest.mark.parametrize(
    "id_", ["-a", ".a", "_a", "a b", "a/b", "../a", "ä", "a\n", "a;b", "a\0", "\udcff"]
)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_a_container_id_with_other_characters_is_refused(
    command: str, id_: str
) -> None:
    environ = {**FULL, "CNI_COMMAND": command, "CNI_CONTAINERID": id_}

    assert refused_call(environ).startswith("CNI_CONTAINERID ")


@pytest.mark.parametrize("ifname", ["e", "eth0", "a" * 15, "eth0.5", "net-1", "é" * 7])
def test_an_interface_name_that_linux_takes_is_taken(ifname: str) -> None:
    assert call("ADD", CNI_IFNAME=ifname).ifname == ifname


@pytest.mark.parametrize(
    "ifname",
    ["a" * 16, "é" * 8, ".", "..", "a/b", "a:b", "a b", "a\t", "\x7f", "a\0", "\udcff"],
)
@pytest.mark.parametrize("command", ["ADD", "DEL", "CHECK"])
def test_an_interface_name_that_linux_refuses_is_refused(
    command: str, ifname: str
) -> None:
    environ = {**FULL, "CNI_COMMAND": command, "CNI_IFNAME": ifname}

    assert refused_call(environ).startswith("CNI_IFNAME ")


@pytest.mark.parametrize("command", ["VERSION", "STATUS", "GC"])
def test_what_a_command_does_not_need_is_not_judged(command: str) -> None:
    found = call(command, CNI_CONTAINERID="", CNI_NETNS="dummy", CNI_IFNAME="a/b")

    assert found.netns == "dummy"


@pytest.mark.parametrize("name", ["CNI_NETNS", "CNI_PATH", "CNI_ARGS"])
def test_a_variable_that_is_not_utf_8_is_refused(name: str) -> None:
    environ = {**FULL, "CNI_COMMAND": "ADD", name: "K=\udcff"}

    assert refused_call(environ).startswith(name)


KUBELET = (
    "IgnoreUnknown=1",
    "K8S_POD_NAMESPACE=default",
    "K8S_POD_NAME=web-0",
    "K8S_POD_INFRA_CONTAINER_ID=0123abc",
    "K8S_POD_UID=5c1c7c5e",
)


@pytest.mark.parametrize("turn", range(len(KUBELET)))
def test_arguments_may_come_in_any_order(turn: int) -> None:
    order = KUBELET[turn:] + KUBELET[:turn]

    args = call("ADD", CNI_ARGS=";".join(order)).args

    assert args == {
        "IgnoreUnknown": "1",
        "K8S_POD_NAMESPACE": "default",
        "K8S_POD_NAME": "web-0",
        "K8S_POD_INFRA_CONTAINER_ID": "0123abc",
        "K8S_POD_UID": "5c1c7c5e",
    }


@pytest.mark.parametrize(
    ("text", "args"),
    [
        ("", {}),
        (";", {}),
        ("A=1;", {"A": "1"}),
        (";;A=1;;B=2", {"A": "1", "B": "2"}),
        ("A=", {"A": ""}),
        ("A=b=c", {"A": "b=c"}),
        ("A=1;A=2", {"A": "2"}),
    ],
)
def test_arguments_are_pairs(text: str, args: dict[str, str]) -> None:
    assert call("ADD", CNI_ARGS=text).args == args


@pytest.mark.parametrize("text", ["A", "A=1;B", "=1", " ", "A=1;=2"])
def test_arguments_that_are_no_pairs_are_refused(text: str) -> None:
    environ = {**FULL, "CNI_COMMAND": "ADD", "CNI_ARGS": text}

    assert refused_call(environ).startswith("CNI_ARGS ")


# -- the configuration -----------------------------------------------------------------


def test_the_least_configuration_has_no_more_than_it_says() -> None:
    assert config() == NetConf(cni_version="1.0.0", name="vpc", type="eniplug")


def test_a_whole_configuration_is_read() -> None:
    plugins = ["secondary-ip", {"name": "egress-v4", "subnet": "169.254.172.0/22"}]
    runtime = {"bandwidth": {"IngressRate": 10_000_000}}

    found = config(
        plugins=plugins,
        mtu=9001,
        vethPrefix="eni",
        runtimeConfig=runtime,
        prevResult={"ips": [{"address": "10.0.0.1/24"}]},
        pluginLogFile="/var/log/x",
    )

    assert found == NetConf(
        cni_version="1.0.0",
        name="vpc",
        type="eniplug",
        plugins=tuple(plugins),
        mtu=9001,
        veth_prefix="eni",
        runtime_config=runtime,
        prev_result={"ips": [{"address": "10.0.0.1/24"}], "cniVersion": "1.1.0"},
        rest={"pluginLogFile": "/var/log/x"},
    )


@pytest.mark.parametrize(
    ("stdin", "message"),
    [
        (b"", "the configuration is empty"),
        (b" \n\t", "the configuration is empty"),
        (b"{", "the configuration is not JSON"),
        (b"{} {}", "the configuration is not JSON"),
        (b"\xff\xfe\xfd", "the configuration is not JSON"),
        (b'{"a": NaN}', "the configuration is not JSON"),
        (b'{"a": -Infinity}', "the configuration is not JSON"),
        (b'{"a": 1e999}', "the configuration is not JSON"),
        (b'{"a": %s}' % (b"9" * 5000), "the configuration is not JSON"),
        (b'{"a": "\\ud800"}', "the configuration is not JSON"),
        (b'{"\\udfff": 1}', "the configuration is not JSON"),
        (b'{"a":' * 200_000, "the configuration is nested too deeply"),
        (b"[" * 200_000, "the configuration is nested too deeply"),
        (b"null", "the configuration: wants an object, not None"),
        (b"[]", "the configuration: wants an object, not []"),
        (b"7", "the configuration: wants an object, not 7"),
    ],
)
def test_what_is_no_json_object_is_refused(stdin: bytes, message: str) -> None:
    code, said = refused(stdin)

    assert code == 6
    assert said.startswith(message)


def test_a_character_written_as_two_surrogates_is_one() -> None:
    stdin = json.dumps({**ENTRY, "note": "\U0001f600"}).encode()

    assert b"\\ud83d" in stdin
    assert parse_config(stdin).rest == {"note": "\U0001f600"}


@pytest.mark.parametrize("missing", ["name", "type"])
def test_name_and_type_are_required(missing: str) -> None:
    stdin = json.dumps({k: v for k, v in ENTRY.items() if k != missing}).encode()

    assert refused(stdin) == (7, f"the configuration has no '{missing}'")


@pytest.mark.parametrize(
    ("changed", "code", "message"),
    [
        ({"cniVersion": None}, 1, "no cniVersion is given"),
        ({"cniVersion": "0.2.0"}, 1, "cniVersion '0.2.0'"),
        ({"cniVersion": 1}, 1, "cniVersion 1"),
        ({"cniVersion": ["1.0.0"]}, 1, "cniVersion ['1.0.0']"),
        ({"name": None}, 6, "name: wants a string, not None"),
        ({"name": ""}, 7, "name: '' is no network name"),
        ({"name": "a b"}, 7, "name: 'a b' is no network name"),
        ({"name": "../etc"}, 7, "name: '../etc' is no network name"),
        ({"name": "vpc\n"}, 7, "name: 'vpc\\n' is no network name"),
        ({"type": 1}, 6, "type: wants a string, not 1"),
        ({"plugins": "snat"}, 6, "plugins: wants a list, not 'snat'"),
        ({"plugins": {"name": "snat"}}, 6, "plugins: wants a list"),
        ({"plugins": None}, 6, "plugins: wants a list, not None"),
        ({"runtimeConfig": ["x"]}, 6, "runtimeConfig: wants an object"),
        ({"runtimeConfig": "x"}, 6, "runtimeConfig: wants an object"),
        ({"prevResult": []}, 6, "prevResult: wants an object, not []"),
        ({"prevResult": "x"}, 6, "prevResult: wants an object, not 'x'"),
        ({"prevResult": {"ips": {}}}, 6, "prevResult.ips: wants a list"),
        ({"prevResult": {"cniVersion": "0.2.0"}}, 1, "cniVersion '0.2.0'"),
        ({"prevResult": {"cniVersion": []}, "cniVersion": "0.1.0"}, 1, "cniVersion"),
    ],
)
def test_a_field_that_cannot_be_is_refused_by_name(
    changed: dict[str, Any], code: int, message: str
) -> None:
    found, said = refused_config(**changed)

    assert found == code
    assert said.startswith(message)


@pytest.mark.parametrize(
    ("mtu", "bytes_"),
    [
        (68, 68),
        (65535, 65535),
        (9001, 9001),
        ("9001", 9001),
        ("0576", 576),
        (None, None),
        ("", None),
    ],
)
def test_the_mtu_may_be_a_number_or_digits(mtu: Any, bytes_: int | None) -> None:
    assert config(mtu=mtu).mtu == bytes_


NO_NUMBERS: tuple[Any, ...] = (0, 67, 65536, -1, 10**30, True, False, 1500.0, [], {})
NO_DIGITS = ("67", "65536", "x", "1e3", "+1500", " 1500", "1500\n", "٩٠٠١", "9" * 5000)


@pytest.mark.parametrize("mtu", [*NO_NUMBERS, *NO_DIGITS])
def test_an_mtu_that_cannot_be_is_refused(mtu: Any) -> None:
    code, message = refused_config(mtu=mtu)

    assert code == 7
    assert message.startswith("mtu: wants 68 to 65535, not ")
    assert len(message) < 200


@pytest.mark.parametrize(
    ("given", "prefix"), [("eni", "eni"), ("e", "e"), ("vlan"[:3], "vla"), ("", None)]
)
def test_a_veth_prefix_has_up_to_four_characters(
    given: str, prefix: str | None
) -> None:
    assert config(vethPrefix=given).veth_prefix == prefix


@pytest.mark.parametrize(
    "prefix",
    ["eth", "lo", "vlan", "enieu", "a/b", "a b", "a:b", "a%d", "é", "\0", "-\n"],
)
def test_a_veth_prefix_that_others_use_or_linux_refuses_is_refused(prefix: str) -> None:
    code, message = refused_config(vethPrefix=prefix)

    assert code == 7
    assert message.startswith("vethPrefix: ")


@pytest.mark.parametrize("prefix", [1, True, ["eni"], {}])
def test_a_veth_prefix_is_a_string(prefix: Any) -> None:
    assert refused_config(vethPrefix=prefix)[0] == 6


def test_a_previous_result_is_read_in_its_own_version() -> None:
    old = {
        "cniVersion": "0.4.0",
        "ips": [{"version": "4", "address": "10.0.0.1/24"}],
    }

    assert config(prevResult=old).prev_result == {
        "cniVersion": "1.1.0",
        "ips": [{"address": "10.0.0.1/24"}],
    }


def test_a_previous_result_without_version_has_the_configurations() -> None:
    old = {"ips": [{"version": "4", "address": "10.0.0.1/24"}]}

    found = config(cniVersion="0.3.1", prevResult=old).prev_result

    assert found is not None
    assert found["ips"] == [{"address": "10.0.0.1/24"}]


ONE = {"containerID": "c1", "ifname": "eth0"}
TWO = {"containerID": "c2", "ifname": "net1"}


@pytest.mark.parametrize(
    ("fields", "pairs"),
    [
        ({}, None),
        ({"cni.dev/valid-attachments": None}, None),
        ({"cni.dev/valid-attachments": []}, ()),
        ({"cni.dev/attachments": []}, ()),
        ({"cni.dev/valid-attachments": [ONE, TWO]}, (("c1", "eth0"), ("c2", "net1"))),
        ({"cni.dev/attachments": [TWO]}, (("c2", "net1"),)),
        (
            {"cni.dev/valid-attachments": [ONE], "cni.dev/attachments": [ONE, TWO]},
            (("c1", "eth0"), ("c2", "net1")),
        ),
    ],
)
def test_attachments_to_keep_are_pairs_and_no_list_is_not_an_empty_one(
    fields: dict[str, Any], pairs: Any
) -> None:
    assert config(**fields).valid_attachments == pairs


@pytest.mark.parametrize(
    ("value", "place"),
    [
        ({}, "cni.dev/valid-attachments: wants a list"),
        ("c1", "cni.dev/valid-attachments: wants a list"),
        (["c1"], "cni.dev/valid-attachments[0]: wants an object"),
        ([ONE, {"ifname": "x"}], "cni.dev/valid-attachments[1].containerID: wants"),
        ([{"containerID": "c1"}], "cni.dev/valid-attachments[0].ifname: wants"),
        ([{"containerID": [], "ifname": "x"}], "cni.dev/valid-attachments[0].contai"),
    ],
)
def test_attachments_of_a_wrong_shape_are_refused(value: Any, place: str) -> None:
    code, message = refused_config(**{"cni.dev/valid-attachments": value})

    assert code == 6
    assert message.startswith(place)


# -- the answer ------------------------------------------------------------------------


def test_an_error_has_the_fields_of_the_specification() -> None:
    answer = json.loads(error_json("1.1.0", 7, 'a "bad" \n field', "why"))

    assert answer == {
        "cniVersion": "1.1.0",
        "code": 7,
        "msg": 'a "bad" \n field',
        "details": "why",
    }


def test_an_error_without_details_has_no_such_field() -> None:
    assert "details" not in json.loads(error_json("1.1.0", 7, "bad"))


@pytest.mark.parametrize("version", ["", "0.2.0", "nonsense"])
def test_an_error_is_in_a_version_that_exists(version: str) -> None:
    assert json.loads(error_json(version, 1, "bad"))["cniVersion"] == "1.0.0"


def test_an_error_survives_text_that_is_not_unicode() -> None:
    assert json.loads(error_json("1.0.0", 4, "\udcff"))["msg"] == "\udcff"
