from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from eniplug.cni.wire import Request
from eniplug.core.attach import Attachments
from eniplug.core.chains import Chains
from eniplug.core.kernel import Kernel
from eniplug.core.manager import Catalogue
from eniplug.core.requests import Requests
from eniplug.core.settings import Settings
from eniplug.hooks.errors import EniLimitError, EniplugError, UnschedulableError
from eniplug.testing.builders import NODE
from kit.reports import Reported
from kit.stores import stores

ADD = {
    "CNI_COMMAND": "ADD",
    "CNI_CONTAINERID": "c1",
    "CNI_IFNAME": "eth0",
    "CNI_NETNS": "/run/netns/gone",
    "CNI_PATH": "/opt/cni/bin",
    "CNI_ARGS": "K8S_POD_NAMESPACE=default;K8S_POD_NAME=web-1",
}
STATUS = {"CNI_COMMAND": "STATUS", "CNI_PATH": "/opt/cni/bin"}
CONFIG = {"cniVersion": "1.0.0", "name": "vpc", "type": "eniplug"}


@pytest.fixture
def one(tmp_path: Path) -> Iterator[Reported]:
    with stores(tmp_path) as made:
        yield Reported(made)


def handle(
    one: Reported, environ: dict[str, str], *plugins: str, **fields: object
) -> tuple[int, Any]:
    attachments = Attachments(one.state, Kernel(), lambda: NODE, lambda: None)
    chains = Chains(Catalogue.from_environ({}))
    requests = Requests(attachments, chains, lambda _: None, one.reporter, Settings())
    stdin = json.dumps({**CONFIG, "plugins": plugins, **fields}).encode()
    request = Request(id=bytes(16), environ=environ, stdin=stdin)
    status, output, _ = requests.handle(request, lambda: True)
    return status, json.loads(output or "null")


def test_a_question_is_answered_without_a_cni_command(one: Reported) -> None:
    status, said = handle(one, {"ENIPLUG_ASK": "status"})

    assert status == 0
    assert said == one.reporter.status()


def test_a_question_about_an_unknown_pod_is_refused_with_a_remedy(
    one: Reported,
) -> None:
    one.attach(0)

    status, said = handle(one, {"ENIPLUG_ASK": "why", "ENIPLUG_ABOUT": "web-O"})

    assert (status, said["code"]) == (1, 3)
    assert said["details"] == "unknown-container: is it default/web-0?"
    assert one.reporter.refusals.latest() == ()


@pytest.mark.parametrize(
    ("plugins", "reason"),
    [(("gone",), "unknown-plugin"), (("secondary-ip",), "bad-netns")],
)
def test_a_refused_add_is_noted_with_the_pod_and_the_node_as_it_was(
    one: Reported, plugins: tuple[str, ...], reason: str
) -> None:
    status, said = handle(one, ADD, *plugins)

    (noted,) = one.reporter.refusals.latest()
    assert (status, said["msg"]) == (1, noted.message)
    assert (noted.namespace, noted.name, noted.container_id) == (
        "default",
        "web-1",
        "c1",
    )
    assert noted.reason == reason
    assert noted.facts == one.reporter.facts()


def test_only_refused_adds_are_noted(one: Reported) -> None:
    status, _ = handle(one, {**ADD, "CNI_COMMAND": "CHECK"}, "secondary-ip")

    assert status == 1
    assert one.reporter.refusals.latest() == ()


def test_a_request_is_counted_when_its_answer_is_out(one: Reported) -> None:
    told: list[tuple[str, str, float]] = []
    attachments = Attachments(one.state, Kernel(), lambda: NODE, lambda: None)
    requests = Requests(
        attachments,
        Chains(Catalogue.from_environ({})),
        lambda _: None,
        one.reporter,
        Settings(),
        answered=lambda *what: told.append(what),
    )
    stdin = json.dumps({**CONFIG, "plugins": ["secondary-ip"]}).encode()
    for command in ("ADD", "DEL"):
        environ = {**ADD, "CNI_COMMAND": command}
        request = Request(id=bytes(16), environ=environ, stdin=stdin)

        _, _, after = requests.handle(request, lambda: True)
        before = len(told)
        after()

        assert len(told) == before + 1

    assert [what[:2] for what in told] == [("ADD", "bad-netns"), ("DEL", "")]
    assert all(0 < seconds < 60 for _, _, seconds in told)


@pytest.mark.parametrize(
    ("why", "code"),
    [
        (EniLimitError("all 3 ENIs are full"), 50),
        (UnschedulableError("node n is unschedulable"), None),
    ],
)
def test_a_node_without_addresses_is_unready_unless_it_is_cordoned(
    one: Reported, why: EniplugError, code: int | None
) -> None:
    """Kubernetes evicts the pods of a node that is unready for long."""
    for number in range(3):
        one.attach(number)
    one.state.blocked(why)

    _, said = handle(one, STATUS, cniVersion="1.1.0")

    assert (said or {}).get("code") == code
    assert one.reporter.why_not_ready() is why


OFF = {"type": "egress-cni", "cniVersion": "0.4.0", "enabled": "false"}
PREV = {
    "cniVersion": "0.4.0",
    "interfaces": [{"name": "eni1"}, {"name": "eth0", "mac": "2", "sandbox": "/x"}],
    "ips": [{"version": "4", "interface": 1, "address": "10.0.0.7/32"}],
    "dns": {},
}


def test_an_egress_cni_entry_that_is_off_passes_prevresult_on(one: Reported) -> None:
    status, said = handle(one, ADD, **OFF, prevResult=PREV)

    assert (status, said) == (0, PREV)
    for command in ("CHECK", "DEL"):
        asked = {**ADD, "CNI_COMMAND": command}
        assert handle(one, asked, **OFF, prevResult=PREV) == (0, None)


def test_an_egress_cni_entry_wants_an_entry_in_front_of_it(one: Reported) -> None:
    status, said = handle(one, ADD, **OFF)

    assert (status, said["code"]) == (1, 7)
    assert "egress-cni: there is no prevResult" in said["msg"]


@pytest.mark.parametrize(
    ("fields", "place"),
    [
        ({"type": "aws-cni", "mtu": "12"}, "mtu: wants 68 to"),
        ({"type": "aws-cni", "mtu": "9002"}, "mtu: wants 576 to"),
        ({"type": "aws-cni", "podSGEnforcingMode": "lax"}, "podSGEnforcingMode: wants"),
        ({"type": "egress-cni", "enabled": "yes"}, "enabled: wants"),
    ],
)
def test_a_bad_field_of_an_aws_entry_is_error_7_that_names_it(
    one: Reported, fields: dict[str, object], place: str
) -> None:
    status, said = handle(one, ADD, **fields)

    assert (status, said["code"]) == (1, 7)
    assert said["msg"].startswith(place)


def test_a_bad_field_of_an_aws_entry_does_not_hold_a_del_up(one: Reported) -> None:
    asked = {**ADD, "CNI_COMMAND": "DEL"}

    for mtu in ("big", "9002"):
        assert handle(one, asked, type="aws-cni", mtu=mtu) == (0, None)


@pytest.mark.parametrize(
    ("prev", "code"), [(7, 6), ({"ips": [{}]}, 6), ({"cniVersion": "9.9.9"}, 1)]
)
def test_a_del_does_not_read_what_the_add_was_answered(
    one: Reported, prev: object, code: int
) -> None:
    asked = {**ADD, "CNI_COMMAND": "DEL"}

    assert handle(one, asked, "secondary-ip", prevResult=prev) == (0, None)
    _, refused = handle(one, ADD, "secondary-ip", prevResult=prev)
    assert refused["code"] == code
