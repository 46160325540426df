"""`eniplug plugins new`: a package with a plugin that works, to begin from.

What is written runs as it is: it installs, keeps the laws of `eniplug.testing`, and is
seen at work in the lab.  An author replaces its one hook.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Mapping
from pathlib import Path
from string import Template
from typing import Final

import click

from eniplug.core.manager import Catalogue
from eniplug.hooks.errors import ConfigError

_NAME: Final = re.compile(r"[a-z][a-z0-9]*(-[a-z0-9]+)*")

FILES: Final[Mapping[str, str]] = {
    "pyproject.toml": """\
[build-system]
requires = ["setuptools>=77"]
build-backend = "setuptools.build_meta"

[project]
name = "eniplug-$name"
version = "0.1.0"
description = "A plugin of eniplug"
readme = "README.md"
requires-python = ">=3.11"
dependencies = ["eniplug"]
optional-dependencies.test = ["eniplug[testing]"]

[project.entry-points."eniplug.plugins"]
$name = "$module:$kind"

[tool.setuptools]
py-modules = ["$module"]
""",
    "$module.py": '''\
"""$name: what a pod sends may pass this many routers."""

from __future__ import annotations

from collections.abc import Iterator

from attrs import field, frozen, validators
from eniplug.hooks import POD, Object, Sysctl, hookimpl


@frozen(eq=False, kw_only=True)
class $kind:
    """Sets the time to live of what each pod sends (net.ipv4.ip_default_ttl)."""

    ttl: int = field(
        default=32, validator=validators.and_(validators.ge(1), validators.le(255))
    )
    """How many routers a packet may pass."""

    @hookimpl
    def setup_netns(self) -> Iterator[Object]:
        """Declare the sysctl; the core writes it, checks it and undoes it.

        A hook takes those arguments that it needs, of pod, allocation and node.
        """
        path = "net/ipv4/ip_default_ttl"
        yield Sysctl(path=path, value=str(self.ttl), side=POD)
''',
    "test_$module.py": """\
from pathlib import Path

import pytest
from eniplug.hooks import POD, Sysctl
from eniplug.testing.conformance import conformance
from $module import $kind

TestConformance = conformance($kind)


def test_the_option_is_what_is_set() -> None:
    (declared,) = $kind(ttl=7).setup_netns()

    assert declared == Sysctl(path="net/ipv4/ip_default_ttl", value="7", side=POD)


@pytest.fixture(scope="module")
def lab_plan() -> dict[str, str]:
    return {"conflist": Path(__file__).with_name("$name.conflist").read_text()}


@pytest.mark.root
@pytest.mark.lab
def test_a_pod_of_the_lab_has_it(lab) -> None:
    lab.add("web")

    assert lab.inside("web", "sysctl", "-n", "net.ipv4.ip_default_ttl") == "32\\n"
""",
    "$name.conflist": """\
{
  "cniVersion": "1.0.0",
  "name": "vpc",
  "plugins": [
    {
      "type": "eniplug",
      "plugins": ["secondary-ip", "pod-veth", "flat-routes", "snat", "$name"]
    }
  ]
}
""",
    "tox.ini": """\
# tox run                          tests that need no root
# tox run -- -m "root or lab"      those that make namespaces, and a whole lab (root)
[tox]
env_list = py3{11,12,13}
skip_missing_interpreters = true

[testenv]
extras = test
commands = python -m pytest {posargs:-m "not (root or lab)"}
""",
    "README.md": """\
# eniplug-$name

A plugin of eniplug. It works per node: each node's agent calls it for that node's pods.

```
pip install -e '.[test]'
python -m pytest -m "not (root or lab)"     # as root all of them: leave out -m
eniplug plugins                             # lists it
eniplug lab up --nodes 1 --conflist $name.conflist
eniplug lab pod add web
eniplug lab exec web -- sysctl net.ipv4.ip_default_ttl
eniplug lab down
```

| option | default | what |
|---|---|---|
| `ttl` | 32 | How many routers a packet may pass. |
""",
}
"""The package: paths and texts, in which ``$$name`` and the like are replaced."""


def write_package(name: str, where: Path) -> Path:
    """Write the package of a new plugin into a folder of its own; return that.

    Raises ConfigError, and writes nothing, for a name that cannot be or is taken.
    """
    module = f"eniplug_{name.replace('-', '_')}"
    kind = "".join(word.capitalize() for word in name.split("-"))
    if not _NAME.fullmatch(name) or keyword.iskeyword(kind):
        msg = f"{name!r} is no name for a plugin"
        raise ConfigError(msg, "use lower-case words with hyphens, as in sticky-ip")
    taken = Catalogue().points.get(name)
    if taken is not None:
        package = taken.dist.name if taken.dist else taken.value
        msg = f"{package} has a plugin {name!r} already"
        raise ConfigError(msg, "choose another name")
    folder = where / f"eniplug-{name}"
    try:
        folder.mkdir(parents=True)
    except FileExistsError:
        msg = f"{folder} is there already"
        raise ConfigError(msg, "choose another name, or another --dir") from None
    except OSError as error:
        msg = f"{folder} cannot be made: {error.strerror}"
        raise ConfigError(msg, "choose another --dir") from error
    words = {"name": name, "module": module, "kind": kind}
    for path, text in FILES.items():
        file = folder / Template(path).substitute(words)
        file.write_text(Template(text).substitute(words))
    return folder


@click.command("new")
@click.argument("name")
@click.option(
    "--dir",
    "where",
    type=click.Path(path_type=Path, file_okay=False),
    default=".",
    help="Where the package's folder is made; else here.",
)
def command(name: str, where: Path) -> None:
    """Make a package with a plugin that works, to begin from.

    NAME is what a conflist will call it, as in sticky-ip.
    """
    folder = write_package(name, where)
    click.echo(f"{folder} is a package with a plugin {name!r}. What comes next:\n")
    click.echo(f"  pip install -e {folder}")
    click.echo(f"  python -m pytest {folder}")
    click.echo(f"  eniplug lab up --nodes 1 --conflist {folder / name}.conflist")
