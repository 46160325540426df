"""The documents say what the code says: they cannot fall behind unnoticed."""

from __future__ import annotations

import inspect
import json
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cached_property
from importlib.metadata import entry_points
from pathlib import Path
from types import ModuleType
from typing import Any, Final

import attrs
import click
import jsonschema
import pytest

from eniplug import hooks
from eniplug.cni import executable
from eniplug.cni.conflist import parse_conflist
from eniplug.core import agent, ec2_boto, migrate
from eniplug.core.chain import Chain
from eniplug.core.chains import Chains, own_chains
from eniplug.core.entries import own_entries
from eniplug.core.imds import ENDPOINT_VARIABLE
from eniplug.core.install import SHIPPED
from eniplug.core.install_command import command as install
from eniplug.core.manager import PACKAGES, Catalogue
from eniplug.core.schema import schema_of
from eniplug.core.settings import Settings
from eniplug.hooks import errors, specs
from eniplug.hooks.errors import EniplugError
from eniplug.hooks.objects import KINDS
from eniplug.lab.command import command as lab
from eniplug.lab.faults import PRESETS, Faults
from eniplug.simulate.command import command as simulate
from eniplug.simulate.policies import POLICIES

ROOT: Final = Path(__file__).resolve().parent.parent
DOCUMENTS: Final = sorted((*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))

HOOKS: Final = {
    name: value
    for name, value in vars(specs).items()
    if getattr(value, f"{hooks.PROJECT}_spec", None) is not None
}
VALUES: Final = {
    name: value
    for name, value in vars(hooks).items()
    if name in hooks.__all__ and isinstance(value, type) and attrs.has(value)
}
ERRORS: Final = [
    value
    for value in vars(errors).values()
    if isinstance(value, type) and issubclass(value, EniplugError)
]
PLUGINS: Final = {
    point.name: point.load()
    for point in entry_points(group="eniplug.plugins")
    if point.dist is not None and point.dist.name == "eniplug"
}
SETTINGS: Final = {field.metadata["name"]: field for field in attrs.fields(Settings)}


def text_of(name: str) -> str:
    return (ROOT / name).read_text()


def prose(text: str) -> str:
    """Leave out what stands in fenced blocks."""
    return re.sub(r"^```.*?^```$", "", text, flags=re.M | re.S)


def blocks(text: str, language: str) -> list[str]:
    """Return the fenced blocks of one language; those of none for an empty one."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", text, flags=re.M | re.S)
    return [block for found, block in fences if found == language]


def headings(text: str) -> list[str]:
    return re.findall(r"^#+ (.*)$", prose(text), flags=re.M)


def section(text: str, heading: str) -> str:
    """Return what stands below a heading, up to the next."""
    found = re.search(
        rf"^(#+) {re.escape(heading)}$(.*?)(?=^#|\Z)", prose(text), re.M | re.S
    )
    assert found is not None, f"there is no section {heading!r}"
    return found.group(2)


def anchor(heading: str) -> str:
    """Return a heading's anchor, as GitHub makes it."""
    kept = re.sub(r"[^\w\- ]", "", heading.lower())
    return kept.replace(" ", "-")


def cells(text: str) -> Iterator[list[str]]:
    """Yield the rows of all tables."""
    for line in text.splitlines():
        if line.startswith("| "):
            yield line.removeprefix("| ").removesuffix(" |").split(" | ")


def rows(text: str) -> dict[str, list[str]]:
    """Return the rows of all tables by their first cell."""
    return {row[0]: row[1:] for row in cells(text)}


# -- hooks.md --------------------------------------------------------------------------


def test_there_are_hooks_and_values_to_look_for() -> None:
    assert {"allocate_ip", "setup_netns", "program_routes", "egress"} <= HOOKS.keys()
    assert {"Pod", "Route", "CapacityView"} <= VALUES.keys()
    assert {"secondary-ip", "pod-veth", "flat-routes", "snat"} <= PLUGINS.keys()


@pytest.mark.parametrize("name", HOOKS)
def test_a_hook_has_a_section_with_its_exact_signature(name: str) -> None:
    signature = str(inspect.signature(HOOKS[name])).replace("'", "")

    assert f"`{name}{signature}`" in headings(text_of("docs/hooks.md"))


def test_no_section_is_of_a_hook_that_is_gone() -> None:
    found = [h for h in headings(text_of("docs/hooks.md")) if "->" in h]

    assert sorted(h.lstrip("`").partition("(")[0] for h in found) == sorted(HOOKS)


@pytest.mark.parametrize("name", hooks.__all__)
def test_a_public_name_is_in_the_reference(name: str) -> None:
    assert re.search(rf"`@?{name}\b", prose(text_of("docs/hooks.md")))


def test_the_version_of_the_api_stands_in_the_reference() -> None:
    described = text_of("docs/hooks.md").partition("### The version of this API")[2]

    assert f'api = "{hooks.API_VERSION}"' in described.partition("\n## ")[0]


@pytest.mark.parametrize("name", VALUES)
def test_a_value_is_described_with_each_of_its_fields(name: str) -> None:
    text = text_of("docs/hooks.md")
    if f"`{name}`" in headings(text):
        described = section(text, f"`{name}`")
        wanted = [f"`{field.name}`" for field in attrs.fields(VALUES[name])]
    else:
        described = prose(text)
        fields = ", ".join(field.name for field in attrs.fields(VALUES[name]))
        wanted = [f"`{name}({fields})`"]

    assert [one for one in wanted if one not in described] == []


def methods() -> Iterator[tuple[str, str]]:
    """What values offer beside their fields, as ``take(family=4, *, …)``."""
    for name, kind in {**VALUES, "Pool": hooks.Pool}.items():
        for method, value in vars(kind).items():
            if method.startswith("_") or method == "key":  # that of objects
                continue
            if isinstance(value, property | cached_property):
                yield name, method
            elif inspect.isfunction(value) or isinstance(value, classmethod):
                signature = inspect.signature(getattr(kind, method))
                plain = [
                    one.replace(annotation=one.empty)
                    for one in signature.parameters.values()
                    if one.name != "self"
                ]
                yield name, f"{method}{inspect.Signature(plain)}"


@pytest.mark.parametrize(
    ("name", "method"),
    [pytest.param(*one, id=".".join(one)) for one in methods()],
)
def test_a_method_of_a_value_is_described_with_its_signature(
    name: str, method: str
) -> None:
    text = prose(text_of("docs/hooks.md"))

    owners = {name, name.lower(), "view", "eni"}  # EniView's are called eni.…
    assert any(f"`{owner}.{method}`" in text for owner in owners)


@pytest.mark.parametrize("kind", KINDS)
def test_a_kind_of_object_is_listed_with_its_rank(kind: type) -> None:
    row = rows(text_of("docs/hooks.md"))[f"`{kind.__name__}`"]

    assert row[0] == str(kind.rank)  # type: ignore[attr-defined]
    assert row[2] == ("yes" if kind.with_link else "no")  # type: ignore[attr-defined]


# -- errors.md -------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_is_listed_with_code_reason_and_remedy(
    kind: type[EniplugError],
) -> None:
    listed = {row[1]: row for row in cells(text_of("docs/errors.md")) if len(row) > 4}

    code, _, reason, _, remedy = listed[f"`{kind.__name__}`"]

    assert (code, reason, remedy) == (str(kind.code), f"`{kind.reason}`", kind.remedy)


@pytest.mark.parametrize("kind", ERRORS)
def test_an_error_stands_below_its_base_class(kind: type[EniplugError]) -> None:
    [tree] = [b for b in blocks(text_of("docs/errors.md"), "") if "└──" in b]
    depths = {
        line.split()[-1]: (len(line) - len(line.lstrip("│├└─ "))) // 4
        for line in tree.splitlines()
    }
    names = list(depths)
    above = names[: names.index(kind.__name__)]
    depth = depths[kind.__name__]

    parents = [name for name in above if depths[name] == depth - 1]

    assert parents[-1:] == [b.__name__ for b in kind.__bases__ if b in ERRORS]


def test_the_executables_own_errors_are_listed() -> None:
    own = section(text_of("docs/errors.md"), "The executable's own")
    source = inspect.getsource(executable)
    reasons = set(re.findall(r'"([a-z]+-[a-z]+)(?:: [^"]*)?"', source))

    listed = {row[1].strip("`") for row in cells(own) if row[0].isdigit()}

    assert reasons == listed


# -- conflist.schema.json --------------------------------------------------------------


def test_the_published_schema_is_that_of_the_built_in_plugins() -> None:
    made = schema_of(Catalogue(["eniplug"]))

    assert json.loads(text_of("docs/conflist.schema.json")) == made, (
        "ENIPLUG_PLUGIN_PACKAGES=eniplug eniplug conflist schema"
        " > docs/conflist.schema.json"
    )


@pytest.mark.parametrize(
    "path",
    [SHIPPED, *sorted(ROOT.glob("examples/conflists/*"))],
    ids=lambda path: path.name,
)
def test_a_conflist_of_ours_fits_the_published_schema(path: Path) -> None:
    schema = json.loads(text_of("docs/conflist.schema.json"))

    jsonschema.validate(json.loads(path.read_text()), schema)


# -- plugins.md ------------------------------------------------------------------------


@pytest.mark.parametrize("name", PLUGINS)
def test_a_built_in_plugin_is_described_with_its_hooks_and_options(name: str) -> None:
    described = section(text_of("docs/plugins.md"), name)
    kind = PLUGINS[name]
    marked = [n for n in HOOKS if hasattr(getattr(kind, n, None), "eniplug_impl")]
    options = [field.name for field in attrs.fields(kind)]

    said = re.search(r"^Hooks: (.*?)\. Options: (.*?)\.$", described, re.M)

    assert said is not None
    assert said.group(1) == ", ".join(f"`{hook}`" for hook in marked)
    assert said.group(2) == (", ".join(f"`{o}`" for o in options) or "none")


@pytest.mark.parametrize("name", PLUGINS)
def test_a_built_in_plugin_has_an_example_entry(name: str) -> None:
    examples = [json.loads(b) for b in blocks(text_of("docs/plugins.md"), "json")]

    assert name in [example["name"] for example in examples]


# -- operate.md ------------------------------------------------------------------------


def written(name: str, value: object) -> str:
    """Write a setting's default as an operator would."""
    if name == "AWS_VPC_K8S_CNI_CONNMARK":
        return f"{value:#x}"
    if value in (None, (), ""):
        return "not set"
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)


@pytest.mark.parametrize("name", SETTINGS)
def test_a_setting_is_listed_with_its_default_and_what_is_accepted(name: str) -> None:
    field = SETTINGS[name]
    listed = rows(section(text_of("docs/operate.md"), "Settings"))

    default, accepted, _ = listed[f"`{name}`"]

    assert default == written(name, field.default)
    assert accepted == field.metadata["form"].accepts


def test_no_setting_is_listed_that_is_gone() -> None:
    listed = rows(section(text_of("docs/operate.md"), "Settings"))
    own = {PACKAGES, ENDPOINT_VARIABLE}
    others = {*own, ec2_boto.BOTOS_ENDPOINT, ec2_boto.ENDPOINT_VARIABLE}

    assert {n.strip("`") for n in listed if n.startswith("`")} == {*SETTINGS, *others}


COMMANDS: Final = (
    ("agent", "The agent", agent.command),
    ("migrate", "Coming from the AWS VPC CNI", migrate.command),
)
"""Commands of the node, and the sections that have their options."""


@pytest.mark.parametrize(
    ("name", "heading", "option"),
    [
        (name, heading, parameter.opts[0])
        for name, heading, command in COMMANDS
        for parameter in command.params
    ],
)
def test_an_option_of_a_nodes_command_is_listed(
    name: str, heading: str, option: str
) -> None:
    described = section(text_of("docs/operate.md"), heading)
    [usage] = [
        block
        for block in blocks(text_of("docs/operate.md"), "")
        if block.startswith(f"eniplug {name} [")
    ]

    assert f"`{option}`" in rows(described)
    assert f"[{option}" in usage


@pytest.mark.parametrize("option", [p.opts[0] for p in install.params])
def test_an_option_of_install_is_listed(option: str) -> None:
    described = section(text_of("docs/operate.md"), "Putting it on a node")

    assert f"`{option}`" in rows(described)


def test_the_policy_allows_every_call_that_the_agent_makes() -> None:
    called = set(re.findall(r'_asking\("([A-Z]\w+)"\)', inspect.getsource(ec2_boto)))
    [policy] = [
        json.loads(block)
        for block in blocks(text_of("docs/operate.md"), "json")
        if "Statement" in block
    ]

    allowed = {a.removeprefix("ec2:") for a in policy["Statement"][0]["Action"]}

    assert "AssignPrivateIpAddresses" in called
    assert allowed == called | {"CreateTags"}


# -- lab.md ----------------------------------------------------------------------------


def commands(group: click.Command, path: str) -> Iterator[tuple[str, click.Command]]:
    if isinstance(group, click.Group):
        for name, command in group.commands.items():
            yield from commands(command, f"{path} {name}")
    else:
        yield path, group


LAB: Final = dict(commands(lab, "eniplug lab"))


@pytest.mark.parametrize("path", LAB)
def test_a_command_of_the_lab_has_a_heading(path: str) -> None:
    assert any(f"`{path}`" in heading for heading in headings(text_of("docs/lab.md")))


@pytest.mark.parametrize("path", LAB)
def test_a_command_of_the_lab_is_described_with_its_options(path: str) -> None:
    text = text_of("docs/lab.md")
    [heading] = [h for h in headings(text) if f"`{path}`" in h]
    described = f"{heading}{section(text, heading)}"
    options = {
        o for p in LAB[path].params if p.param_type_name == "option" for o in p.opts
    }

    said = [o for o in options if re.search(rf"(?<![\w-]){o}(?![\w-])", described)]
    json_said = "--json" in said or "(json)" in heading

    assert options - {*said, "--lab", "--json", "--follow"} == set()
    assert ("--json" in options) == json_said


@pytest.mark.parametrize("name", [field.name for field in attrs.fields(Faults)])
def test_a_fault_is_listed(name: str) -> None:
    assert f"`{name}`" in rows(section(text_of("docs/lab.md"), "Faults"))


@pytest.mark.parametrize("word", PRESETS)
def test_a_faults_word_is_listed_with_what_it_stands_for(word: str) -> None:
    text = text_of("docs/lab.md")
    [heading] = [h for h in headings(text) if "`eniplug lab ec2 fault`" in h]
    [(name, value)] = PRESETS[word].items()

    stands_for, _ = rows(section(text, heading))[f"`{word}`"]

    assert stands_for == f"`{name}={json.dumps(value)}`"


def test_the_help_lists_the_words_of_faults() -> None:
    said = LAB["eniplug lab ec2 fault"].epilog or ""

    assert set(PRESETS) <= set(said.partition("Values:")[0].split())


# -- simulate.md -----------------------------------------------------------------------


@pytest.mark.parametrize("option", simulate.params, ids=lambda option: option.opts[0])
def test_an_option_of_simulate_is_listed_with_its_default(
    option: click.Option,
) -> None:
    listed = rows(section(text_of("docs/simulate.md"), "Options"))

    default, _ = listed[f"`{option.opts[0]}`"]

    if isinstance(option.default, int | float | str) and not option.is_flag:
        assert default == written(option.name or "", option.default)


def test_every_policy_of_simulate_is_described() -> None:
    listed = rows(text_of("docs/simulate.md"))

    assert {f"`{name}`" for name in POLICIES} <= listed.keys()


# -- every document --------------------------------------------------------------------


def links() -> Iterator[tuple[Path, str]]:
    for document in DOCUMENTS:
        for target in re.findall(r"\]\(([^)\s]+)\)", prose(document.read_text())):
            if "://" not in target:
                yield document, target


@pytest.mark.parametrize(
    ("document", "target"),
    [pytest.param(*link, id=f"{link[0].stem}-{link[1]}") for link in links()],
)
def test_a_link_leads_somewhere(document: Path, target: str) -> None:
    name, _, fragment = target.partition("#")
    found = document.parent / name if name else document

    assert found.exists()
    assert not fragment or fragment in map(anchor, headings(found.read_text()))


def test_every_document_can_be_reached_from_the_readme() -> None:
    reached = {
        (document.parent / target.partition("#")[0]).resolve()
        for document, target in links()
        if document == ROOT / "README.md"
    }

    assert {d for d in DOCUMENTS if d.name != "README.md"} <= reached


@pytest.mark.parametrize("name", ["README.md", "docs/operate.md"])
def test_the_shipped_conflist_is_shown_as_it_is(name: str) -> None:
    assert SHIPPED.read_text() in blocks(text_of(name), "json")


def conflists() -> Iterator[tuple[str, str]]:
    for document in DOCUMENTS:
        for number, block in enumerate(blocks(document.read_text(), "json")):
            if "plugins" in json.loads(block):
                yield f"{document.stem}-{number}", block


@pytest.mark.parametrize(
    "block", [pytest.param(block, id=name) for name, block in conflists()]
)
def test_a_conflist_in_a_document_is_one_that_the_agent_takes(
    block: str, tutorial: ModuleType
) -> None:
    class Installed(Catalogue):
        def load(self, name: str, place: str) -> type:
            if name == "listen-queue":
                found: type = tutorial.ListenQueue
                return found
            return super().load(name, place)

    conflist = parse_conflist(block.encode(), "the document")

    entries = own_entries(conflist, Settings(), "the document")
    chains = own_chains(Chains(Installed(["eniplug"])), entries, "the document")

    assert [type(chain) for chain in chains] == [Chain]


# -- code ------------------------------------------------------------------------------


def run(code: str, name: str) -> ModuleType:
    module = ModuleType(name)
    exec(compile(code, f"<{name}>", "exec"), vars(module))
    return module


@pytest.fixture
def tutorial(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The plugin of docs/write-a-plugin.md, importable."""
    code, _ = blocks(text_of("docs/write-a-plugin.md"), "python")
    module = ModuleType("eniplug_listen_queue")
    monkeypatch.setitem(sys.modules, "eniplug_listen_queue", module)
    exec(compile(code, "<eniplug_listen_queue.py>", "exec"), vars(module))
    return module


def test_the_tutorials_own_test_passes(tutorial: ModuleType) -> None:
    _, code = blocks(text_of("docs/write-a-plugin.md"), "python")
    module = run(code, "test_eniplug_listen_queue")
    tests = [value for name, value in vars(module).items() if name.startswith("test_")]

    for test in tests:
        test()

    assert tests
    assert tutorial.ListenQueue().length == 8192


def test_the_readmes_plugin_declares_what_it_says() -> None:
    [code] = blocks(text_of("README.md"), "python")

    plugin = run(code, "readme").ListenQueue(length=7)

    assert [one.value for one in plugin.setup_netns()] == ["7"]


def test_the_examples_of_hooks_are_hooks_with_arguments_that_they_may_have() -> None:
    names: Mapping[str, Any] = {**vars(hooks), "sys": sys}
    found: dict[str, set[str]] = {}
    for code in blocks(text_of("docs/hooks.md"), "python"):
        space = dict(names)
        exec(compile(code, "<hooks.md>", "exec"), space)
        [hook] = [space[name] for name in HOOKS if name in space]
        found[hook.__name__] = {*inspect.signature(hook).parameters} - {"self"}

    wrong = {
        name: arguments - {*inspect.signature(HOOKS[name]).parameters}
        for name, arguments in found.items()
    }

    assert found.keys() == HOOKS.keys()
    assert not any(wrong.values()), wrong
