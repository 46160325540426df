from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from eniplug.core.chain import Chain
from eniplug.core.manager import Catalogue, wanted
from eniplug.hooks.errors import ConfigError, OptionError, UnknownPluginError
from kit.dists import install_plugins

PLUGINS = """
from ipaddress import IPv4Address
from attrs import frozen
from eniplug.hooks import hookimpl, LinkState


@frozen(eq=False, kw_only=True)
class Marks:
    group: int = 1
    loud: bool = False
    gateway: IPv4Address = IPv4Address("169.254.1.1")

    @hookimpl
    def setup_netns(self, pod):
        yield LinkState(link=pod.host_ifname, setting="group", value=self.group)


@frozen(eq=False, kw_only=True)
class Misspelt:
    @hookimpl
    def setup_netnss(self, pod):
        return ()


@frozen(eq=False, kw_only=True)
class TooCurious:
    @hookimpl
    def setup_netns(self, pod, cluster):
        return ()


@frozen(eq=False, kw_only=True)
class Guarding:
    enforcing = True

    @hookimpl
    def egress(self):
        return ()


@frozen(eq=False, kw_only=True)
class Old:
    api = "1"


@frozen(eq=False, kw_only=True)
class New:
    api = "2.1"


@frozen(eq=False, kw_only=True)
class Grumpy:
    def __attrs_post_init__(self):
        raise RuntimeError("not today")


def not_a_class():
    return None
"""


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    monkeypatch.syspath_prepend(str(tmp_path))
    points = {
        "marks": "Marks",
        "misspelt": "Misspelt",
        "too-curious": "TooCurious",
        "function": "not_a_class",
        "absent": "NoSuchThing",
        "guarding": "Guarding",
        "old": "Old",
        "new": "New",
        "grumpy": "Grumpy",
    }
    install_plugins(tmp_path, "acme-plugins", points, PLUGINS)
    broken = "import sys\nsys.exit('no licence')\n"
    install_plugins(tmp_path, "broken-plugins", {"broken": "Broken"}, broken)
    yield tmp_path
    sys.modules.pop("acme_plugins", None)


def build(*plugins: object, packages: list[str] | None = None) -> Chain:
    return Catalogue(packages).build(wanted(list(plugins)))


@pytest.mark.usefixtures("site")
def test_the_chain_has_the_conflists_order() -> None:
    chain = Catalogue().build(wanted(["secondary-ip", {"name": "marks", "group": 7}]))

    assert chain.names == ("secondary-ip", "marks")
    assert chain.address_plugins == ("secondary-ip",)


@pytest.mark.usefixtures("site")
def test_an_unnamed_plugin_is_not_imported() -> None:
    build("secondary-ip")

    assert "acme_plugins" not in sys.modules


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    ("plugins", "error", "words"),
    [
        (
            ["secondry-ip"],
            UnknownPluginError,
            r"plugins\[0\].*did you mean 'secondary-ip'",
        ),
        (
            [{"name": "marks", "gruop": 1}],
            OptionError,
            r"plugins\[0\].*'gruop'.*'group'",
        ),
        ([{"name": "marks", "group": "1"}], OptionError, "wants int, not '1'"),
        ([{"name": "marks", "loud": 1}], OptionError, "wants bool, not 1"),
        ([{"name": "marks", "gateway": "10.0.0.300"}], OptionError, "gateway"),
        (["marks", "marks"], ConfigError, r"plugins\[1\].*already"),
        ([7], ConfigError, r"plugins\[0\].*not 7"),
        ([{"group": 7}], ConfigError, r"plugins\[0\]"),
        ([], ConfigError, "wants a list"),
        (["misspelt"], ConfigError, r"plugins\[0\].*setup_netnss"),
        (["too-curious"], ConfigError, r"plugins\[0\].*cluster"),
        (["function"], ConfigError, "no attrs class"),
        (["absent"], ConfigError, "acme-plugins cannot be imported"),
        (["broken"], ConfigError, "broken-plugins cannot be imported: .*no licence"),
        (["grumpy"], ConfigError, r"plugins\[0\].*'grumpy'.*not today"),
        (["new"], ConfigError, r"'new' of acme-plugins .* version '2.1' .* has 1.0"),
        (
            [{"name": "marks", "on_error": "ignore"}],
            OptionError,
            r"plugins\[0\].on_error: wants fail or skip, not 'ignore'",
        ),
        (
            ["marks", {"name": "secondary-ip", "on_error": "skip"}],
            OptionError,
            r"plugins\[1\].on_error: .*'secondary-ip' cannot be skipped: .*addresses",
        ),
        (
            [{"name": "guarding", "on_error": "skip"}],
            OptionError,
            r"plugins\[0\].on_error: .*'guarding' cannot be skipped: .*enforces",
        ),
    ],
)
def test_a_wrong_plugin_list_is_refused_with_its_place(
    plugins: list[object], error: type[ConfigError], words: str
) -> None:
    with pytest.raises(error, match=words) as caught:
        build(*plugins)

    assert caught.value.code == 7


def test_two_packages_with_one_plugin_name_are_an_error(site: Path) -> None:
    install_plugins(site, "other-plugins", {"marks": "Marks"}, PLUGINS)

    with pytest.raises(ConfigError, match="acme-plugins and other-plugins"):
        Catalogue()


@pytest.mark.usefixtures("site")
def test_only_listed_packages_may_be_loaded() -> None:
    with pytest.raises(UnknownPluginError):
        build("marks", packages=["eniplug"])

    assert build("marks", packages=["Acme_Plugins"])


def test_the_built_in_plugins_come_through_the_same_door() -> None:
    names = set(Catalogue(["eniplug"]).points)

    assert names >= {"secondary-ip", "pod-veth", "flat-routes", "policy-routes", "snat"}


@pytest.mark.usefixtures("site")
@pytest.mark.parametrize(
    "plugin",
    [
        "old",
        {"name": "marks", "on_error": "skip"},
        {"name": "guarding", "on_error": "fail"},
    ],
    ids=str,
)
def test_what_fits_is_taken(plugin: object) -> None:
    assert build(plugin).names


@pytest.mark.usefixtures("site")
def test_who_cannot_be_imported_is_told_with_a_remedy() -> None:
    with pytest.raises(ConfigError) as caught:
        build("broken")

    assert caught.value.details == "repair or uninstall broken-plugins"
