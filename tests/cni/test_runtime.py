from __future__ import annotations

import json
import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from attrs import evolve, frozen

from eniplug.cni.conflist import parse_conflist
from eniplug.cni.errors import CniError
from eniplug.cni.runtime import Attachment, EntryError, Runtime

PLUGIN = """\
#!{python} -IS
import json, os, sys
name = os.path.basename(__file__)
config = sys.stdin.read()
told = {{k: v for k, v in os.environ.items() if k.startswith("CNI_")}}
with open(__file__ + ".log", "a") as log:
    log.write(json.dumps([told, json.loads(config)]) + "\\n")
with open("{order}", "a") as order:
    order.write(told["CNI_COMMAND"] + " " + name + "\\n")
{body}
"""
"""An executable that writes down what it was told, and then does as its body says."""

ECHO = """
result = json.loads(config).get("prevResult") or {"cniVersion": "1.1.0", "ips": []}
result["ips"] = result["ips"] + [{"address": "10.0.0.%d/32" % (1 + len(result["ips"]))}]
if told["CNI_COMMAND"] == "ADD":
    print(json.dumps(result))
"""
"""Adds an address to what came before."""


def refuses(command: str, code: int = 7, msg: str = "no") -> str:
    error = json.dumps({"cniVersion": "1.1.0", "code": code, "msg": msg})
    told = f'told["CNI_COMMAND"] == "{command}"'
    return f"if {told}:\n    print('{error}')\n    sys.exit(1)\n" + ECHO


@frozen
class Workshop:
    """Makes executables and the conflist that names them."""

    folder: Path

    def plugin(self, name: str, body: str = ECHO) -> None:
        path = self.folder / name
        order = self.folder / "order"
        path.write_text(PLUGIN.format(python=sys.executable, order=order, body=body))
        path.chmod(0o755)

    def runtime(self, *entries: str | dict[str, Any], **fields: Any) -> Runtime:
        plugins = [{"type": e} if isinstance(e, str) else e for e in entries]
        conf = {"cniVersion": "1.1.0", "name": "net", "plugins": plugins, **fields}
        conflist = parse_conflist(json.dumps(conf).encode(), "test")
        return Runtime(conflist, [self.folder], self.folder / "cache")

    def order(self) -> list[str]:
        path = self.folder / "order"
        return path.read_text().splitlines() if path.exists() else []

    def told(self, name: str) -> list[tuple[dict[str, str], dict[str, Any]]]:
        lines = (self.folder / f"{name}.log").read_text().splitlines()
        return [(environ, config) for environ, config in map(json.loads, lines)]


@pytest.fixture
def shop(tmp_path: Path) -> Workshop:
    shop = Workshop(tmp_path)
    shop.plugin("first")
    shop.plugin("second")
    return shop


POD = Attachment(container_id="c1", netns="/run/netns/ct-x", args={"A": "1", "B": "2"})


def addresses(result: dict[str, Any]) -> list[str]:
    return [ip["address"] for ip in result["ips"]]


# -- ADD -------------------------------------------------------------------------------


def test_an_add_hands_each_result_to_the_next_entry(shop: Workshop) -> None:
    result = shop.runtime("first", "second").add(POD)

    assert addresses(result) == ["10.0.0.1/32", "10.0.0.2/32"]
    assert shop.order() == ["ADD first", "ADD second"]
    [(_, first)] = shop.told("first")
    [(_, second)] = shop.told("second")
    assert first == {"cniVersion": "1.1.0", "name": "net", "type": "first"}
    assert addresses(second["prevResult"]) == ["10.0.0.1/32"]


def test_an_executable_is_told_of_the_attachment_and_of_nobody_elses(
    shop: Workshop, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CNI_TESTER", "x")

    shop.runtime("first").add(POD)

    [(environ, _)] = shop.told("first")
    assert environ == {
        "CNI_COMMAND": "ADD",
        "CNI_CONTAINERID": "c1",
        "CNI_NETNS": "/run/netns/ct-x",
        "CNI_IFNAME": "eth0",
        "CNI_ARGS": "A=1;B=2",
        "CNI_PATH": str(shop.folder),
    }


def test_an_entry_gets_the_values_of_its_own_capabilities(shop: Workshop) -> None:
    able = {"type": "first", "capabilities": {"bandwidth": True, "ips": False}}
    pod = evolve(POD, capabilities={"bandwidth": {"ingressRate": 1}, "ips": ["x"]})

    shop.runtime(able, "second").add(pod)

    [(_, first)] = shop.told("first")
    [(_, second)] = shop.told("second")
    assert first["runtimeConfig"] == {"bandwidth": {"ingressRate": 1}}
    assert "runtimeConfig" not in second


def test_a_result_is_given_in_the_conflists_version(shop: Workshop) -> None:
    result = shop.runtime("first", "second", cniVersion="0.4.0").add(POD)

    assert result["cniVersion"] == "0.4.0"
    assert {ip["version"] for ip in result["ips"]} == {"4"}
    [(_, second)] = shop.told("second")
    assert second["prevResult"]["cniVersion"] == "0.4.0"


def test_a_failed_add_is_undone_by_a_delete_of_the_whole_chain(shop: Workshop) -> None:
    shop.plugin("second", refuses("ADD", 11, "busy"))
    shop.plugin("third")
    runtime = shop.runtime("first", "second", "third")

    with pytest.raises(EntryError, match="busy") as caught:
        runtime.add(POD)

    assert (caught.value.code, caught.value.entry) == (11, "second")
    assert shop.order()[2:] == ["DEL third", "DEL second", "DEL first"]
    assert "prevResult" not in shop.told("third")[0][1]
    assert not list(runtime.cache.glob("*"))


def test_a_delete_that_fails_after_a_failed_add_does_not_end_the_undoing(
    shop: Workshop,
) -> None:
    shop.plugin("second", "print('broken')\nsys.exit(3)")

    with pytest.raises(EntryError) as caught:
        shop.runtime("first", "second").add(POD)

    assert caught.value.code == 999
    assert caught.value.details == "broken"
    assert shop.order()[-1] == "DEL first"
    assert "second refused the DEL" in caught.value.__notes__[0]


def test_an_add_of_what_is_there_is_refused_and_harms_nothing(shop: Workshop) -> None:
    runtime = shop.runtime("first")
    runtime.add(POD)

    with pytest.raises(CniError, match="already"):
        runtime.add(POD)

    assert shop.order() == ["ADD first"]


def test_an_add_whose_result_cannot_be_kept_is_undone(shop: Workshop) -> None:
    runtime = shop.runtime("first")
    (runtime.cache / ".net:c1:eth0").mkdir(parents=True)

    with pytest.raises(CniError) as caught:
        runtime.add(POD)

    assert caught.value.code == 5
    assert shop.order() == ["ADD first", "DEL first"]


def test_an_add_without_a_place_for_its_result_does_not_begin(shop: Workshop) -> None:
    runtime = evolve(shop.runtime("first"), cache=shop.folder / "first" / "cache")

    with pytest.raises(CniError) as caught:
        runtime.add(POD)

    assert caught.value.code == 5
    assert shop.order() == []


def test_a_missing_executable_is_found_out_before_anything_runs(shop: Workshop) -> None:
    (shop.folder / "dull").write_text("no mode to run it")

    for missing in ("nobody", "dull", "cache"):
        with pytest.raises(EntryError, match=f"no executable '{missing}'"):
            shop.runtime("first", missing).add(POD)

    assert shop.order() == []


def test_a_file_that_is_no_program_is_an_error_and_undone(shop: Workshop) -> None:
    (shop.folder / "second").write_bytes(b"\x7fELF, but not really")

    with pytest.raises(EntryError, match="second cannot be run") as caught:
        shop.runtime("first", "second").add(POD)

    assert caught.value.code == 5
    assert shop.order() == ["ADD first", "DEL first"]


@pytest.mark.parametrize(
    "output", ["panic", "[]", "{}", '{"code": "x", "msg": "y"}', '{"code": 7}']
)
def test_a_failure_without_an_error_is_told_by_status_and_last_words(
    shop: Workshop, output: str
) -> None:
    body = f"print({output!r})\nprint('last words', file=sys.stderr)\nsys.exit(3)"
    shop.plugin("first", body)

    with pytest.raises(EntryError, match=r"first failed on ADD .* 3") as caught:
        shop.runtime("first").add(POD)

    assert caught.value.code == 999
    assert caught.value.details == "last words"


def test_the_first_folder_that_has_an_executable_is_taken(shop: Workshop) -> None:
    (shop.folder / "empty").mkdir()
    runtime = shop.runtime("first")

    evolve(runtime, path=[shop.folder / "empty", shop.folder]).add(POD)

    assert shop.order() == ["ADD first"]


@pytest.mark.parametrize(
    ("output", "code"),
    [
        ("", 6),
        ("no JSON", 6),
        ("[]", 6),
        ('{"cniVersion": "1.1.0", "ips": [{}]}', 6),
        ('{"cniVersion": "0.2.0"}', 1),
    ],
)
def test_what_is_no_result_is_refused_and_undone(
    shop: Workshop, output: str, code: int
) -> None:
    shop.plugin("first", f"print({output!r})")

    with pytest.raises(CniError) as caught:
        shop.runtime("first").add(POD)

    assert caught.value.code == code
    assert shop.order() == ["ADD first", "DEL first"]


def test_an_executable_that_hangs_is_ended_and_undone(shop: Workshop) -> None:
    hang = 'if told["CNI_COMMAND"] == "ADD":\n    import signal\n    signal.pause()\n'
    shop.plugin("first", hang)

    with pytest.raises(EntryError) as caught:
        evolve(shop.runtime("first"), patience=1.0).add(POD)

    assert caught.value.code == 11
    assert shop.order() == ["ADD first", "DEL first"]


@pytest.mark.parametrize(
    ("pod", "code"),
    [
        (evolve(POD, container_id="../etc"), 4),
        (evolve(POD, ifname="a/b"), 4),
        (evolve(POD, args={"A": "1;B=2"}), 4),
        (evolve(POD, args={"A=B": "1"}), 4),
    ],
)
def test_an_attachment_that_cannot_be_is_refused(
    shop: Workshop, pod: Attachment, code: int
) -> None:
    runtime = shop.runtime("first")
    calls: list[Callable[[Attachment], Any]] = [
        runtime.add,
        runtime.check,
        runtime.delete,
    ]

    for call in calls:
        with pytest.raises(CniError) as caught:
            call(pod)
        assert caught.value.code == code

    assert shop.order() == []


# -- DEL and CHECK ---------------------------------------------------------------------


def test_a_delete_goes_backwards_with_the_last_result(shop: Workshop) -> None:
    runtime = shop.runtime("first", "second")
    runtime.add(POD)

    runtime.delete(POD)

    assert shop.order()[2:] == ["DEL second", "DEL first"]
    for name in ("first", "second"):
        config = shop.told(name)[-1][1]
        assert addresses(config["prevResult"]) == ["10.0.0.1/32", "10.0.0.2/32"]


def test_a_second_delete_runs_without_a_result(shop: Workshop) -> None:
    runtime = shop.runtime("first")
    runtime.add(POD)
    runtime.delete(POD)

    runtime.delete(evolve(POD, netns=""))

    environ, config = shop.told("first")[-1]
    assert environ["CNI_NETNS"] == ""
    assert "prevResult" not in config


def test_a_delete_before_0_4_0_carries_no_result(shop: Workshop) -> None:
    runtime = shop.runtime("first", cniVersion="0.3.1")
    runtime.add(POD)

    runtime.delete(POD)

    assert "prevResult" not in shop.told("first")[-1][1]


def test_a_delete_that_is_refused_keeps_the_result_for_the_next(shop: Workshop) -> None:
    shop.plugin("second", refuses("DEL"))
    runtime = shop.runtime("first", "second")
    runtime.add(POD)

    with pytest.raises(EntryError, match="no"):
        runtime.delete(POD)
    assert shop.order()[2:] == ["DEL second"]

    shop.plugin("second")
    runtime.delete(POD)
    assert "prevResult" in shop.told("first")[-1][1]


def test_a_delete_does_without_a_result_that_is_broken(shop: Workshop) -> None:
    runtime = shop.runtime("first")
    runtime.add(POD)
    [kept] = runtime.cache.iterdir()
    kept.write_text("{")

    runtime.delete(POD)

    assert shop.order() == ["ADD first", "DEL first"]
    assert not kept.exists()


def test_what_the_add_was_given_comes_back_where_the_caller_does_not_say(
    shop: Workshop,
) -> None:
    runtime = shop.runtime({"type": "first", "capabilities": {"mac": True}})
    runtime.add(evolve(POD, capabilities={"mac": "02:00:00:00:00:01"}))

    runtime.delete(Attachment(container_id="c1"))

    environ, config = shop.told("first")[-1]
    assert environ["CNI_ARGS"] == "A=1;B=2"
    assert config["runtimeConfig"] == {"mac": "02:00:00:00:00:01"}


def test_a_check_goes_forward_with_the_last_result(shop: Workshop) -> None:
    runtime = shop.runtime("first", "second")
    result = runtime.add(POD)

    runtime.check(POD)

    assert shop.order()[2:] == ["CHECK first", "CHECK second"]
    assert shop.told("first")[-1][1]["prevResult"] == result


def test_a_check_raises_what_an_entry_says(shop: Workshop) -> None:
    shop.plugin("first", refuses("CHECK", 103, "route is missing"))
    runtime = shop.runtime("first", "second")
    runtime.add(POD)

    with pytest.raises(EntryError, match="route is missing") as caught:
        runtime.check(POD)

    assert caught.value.code == 103
    assert shop.order()[2:] == ["CHECK first"]


def test_a_check_of_what_was_never_added_is_refused(shop: Workshop) -> None:
    with pytest.raises(CniError) as caught:
        shop.runtime("first").check(POD)

    assert caught.value.code == 3


@pytest.mark.parametrize("disabled", [True, "true"])
def test_a_check_that_the_conflist_disables_runs_nothing(
    shop: Workshop, disabled: Any
) -> None:
    runtime = shop.runtime("first", disableCheck=disabled)
    runtime.add(POD)

    runtime.check(POD)

    assert shop.order() == ["ADD first"]


# -- GC and STATUS ---------------------------------------------------------------------


def test_a_gc_tells_every_entry_what_is_attached(shop: Workshop) -> None:
    runtime = shop.runtime("first", "second")
    runtime.add(POD)
    runtime.add(evolve(POD, ifname="net1"))
    runtime.add(evolve(POD, container_id="c2"))
    runtime.delete(evolve(POD, container_id="c2"))
    shop.runtime("first", name="net-2").add(POD)

    runtime.gc()

    environ, config = shop.told("second")[-1]
    assert environ == {"CNI_COMMAND": "GC", "CNI_PATH": str(shop.folder)}
    valid = [{"containerID": "c1", "ifname": name} for name in ("eth0", "net1")]
    assert config["cni.dev/valid-attachments"] == valid
    assert config["cni.dev/attachments"] == valid


def test_a_gc_may_be_given_what_is_to_stay(shop: Workshop) -> None:
    runtime = shop.runtime("first")
    runtime.add(POD)

    runtime.gc([])

    assert shop.told("first")[-1][1]["cni.dev/valid-attachments"] == []


def test_a_gc_goes_on_after_a_refusal_and_raises_it(shop: Workshop) -> None:
    shop.plugin("first", refuses("GC", 11, "one"))
    shop.plugin("second", refuses("GC", 11, "two"))

    with pytest.raises(EntryError, match="one") as caught:
        shop.runtime("first", "second").gc()

    assert shop.order() == ["GC first", "GC second"]
    assert caught.value.__notes__ == ["two"]


def test_a_gc_does_not_run_on_half_a_memory(shop: Workshop) -> None:
    runtime = shop.runtime("first")
    runtime.add(POD)
    [kept] = runtime.cache.iterdir()
    kept.write_text("")

    with pytest.raises(CniError, match=kept.name):
        runtime.gc()

    assert shop.order() == ["ADD first"]


def test_a_gc_that_the_conflist_disables_runs_nothing(shop: Workshop) -> None:
    shop.runtime("first", disableGC=True).gc()

    assert shop.order() == []


def test_a_status_stops_at_the_first_that_is_not_ready(shop: Workshop) -> None:
    shop.plugin("first", refuses("STATUS", 50, "no agent"))

    with pytest.raises(EntryError, match="no agent") as caught:
        shop.runtime("first", "second").status()

    assert caught.value.code == 50
    assert shop.order() == ["STATUS first"]


def test_a_status_of_a_chain_that_is_ready_is_quiet(shop: Workshop) -> None:
    shop.runtime("first", "second").status()

    assert shop.order() == ["STATUS first", "STATUS second"]


@pytest.mark.parametrize(
    ("version", "command"),
    [("1.0.0", "gc"), ("1.0.0", "status"), ("0.3.1", "check")],
)
def test_a_command_that_the_conflists_version_lacks_is_refused_with_both(
    shop: Workshop, version: str, command: str
) -> None:
    runtime = shop.runtime("first", cniVersion=version)
    arguments = [POD] if command == "check" else []

    with pytest.raises(CniError, match=command.upper()) as caught:
        getattr(runtime, command)(*arguments)

    assert caught.value.code == 1
    assert version in caught.value.details
    assert shop.order() == []


# -- the cache -------------------------------------------------------------------------


def test_what_is_kept_has_the_form_of_libcnis(shop: Workshop) -> None:
    runtime = shop.runtime("first")
    result = runtime.add(POD)

    [path] = runtime.cache.iterdir()

    kept = json.loads(path.read_text())
    assert kept.pop("config")
    assert kept == {
        "kind": "cniCacheV1",
        "containerId": "c1",
        "ifName": "eth0",
        "networkName": "net",
        "netns": "/run/netns/ct-x",
        "cniArgs": [["A", "1"], ["B", "2"]],
        "capabilityArgs": {},
        "result": result,
    }
    assert path.stat().st_mode & 0o777 == 0o600
    assert runtime.cache.stat().st_mode & 0o777 == 0o700


def test_names_that_look_alike_do_not_share_a_file(shop: Workshop) -> None:
    shop.runtime("first", name="a-b").add(evolve(POD, container_id="c"))

    shop.runtime("first", name="a").add(evolve(POD, container_id="b-c"))

    assert len(os.listdir(shop.folder / "cache")) == 2
