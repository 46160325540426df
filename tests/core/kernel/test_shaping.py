"""Ifbs, qdiscs and redirects: made, compared, put back and removed."""

from __future__ import annotations

import pytest
from attrs import evolve

from eniplug.core.kernel import Difference, Kernel
from eniplug.core.kernel.decode import canonical
from eniplug.core.kernel.graves import GRAVES
from eniplug.hooks import Object, Qdisc
from eniplug.hooks.errors import ForeignObjectError, KernelError
from kit.nodes import World, flat_pod, shaped

pytestmark = pytest.mark.root

LINK, NAME = "eni00000000001", "ifb00000000001"
ALIAS = "eniplug/1 abc eth0 vpc"
SHAPED = shaped()
IFB, INTO, OUT, INGRESS, REDIRECT = SHAPED


@pytest.fixture
def pod(kernel: Kernel, world: World) -> int:
    """A pod that is there, and shaped by an entry of its own."""
    netns = world.pod("a")
    kernel.apply(flat_pod(), netns, ALIAS)
    kernel.apply(SHAPED, None, ALIAS)
    return netns


def test_a_shaped_pod_is_in_the_kernel_as_declared(
    kernel: Kernel, world: World
) -> None:
    objects = (*flat_pod(), *SHAPED)
    netns = world.pod("a")

    assert kernel.apply(objects, netns, ALIAS) == ()

    assert kernel.check(objects, netns) == ()
    assert kernel.links()[NAME].kind == "ifb"
    (ifb,) = world.ip("-d", "link", "show", NAME)
    assert (ifb["mtu"], ifb["address"], ifb["ifalias"]) == (9001, IFB.mac, ALIAS)
    assert (ifb["num_tx_queues"], ifb["inet6_addr_gen_mode"]) == (1, "none")
    tc = world.run("tc", "qdisc")
    assert f"dev {LINK} root refcnt 2 rate 8Mbit burst 32Kb lat 25ms" in tc
    assert f"dev {NAME} root refcnt 2 rate 4Mbit burst 32Kb lat 25ms" in tc
    (found,) = world.run(
        "tc", "filter", "show", "dev", LINK, "parent", "ffff:"
    ).splitlines()[3:4] or [""]
    assert "match 00000000/00000000 at 0" in found


DAMAGES = {
    f"tc qdisc del dev {LINK} root": (INTO,),
    f"tc qdisc replace dev {LINK} root pfifo": (INTO,),
    f"tc qdisc change dev {LINK} root tbf rate 8mbit burst 32760 limit 57768": (INTO,),
    f"tc qdisc del dev {LINK} ingress": (INGRESS, REDIRECT),
    f"tc filter del dev {LINK} parent ffff:": (REDIRECT,),
    f"tc filter replace dev {LINK} parent ffff: protocol all prio 1 handle 800::800"
    " u32 match u32 0 0 action mirred egress mirror dev lo": (REDIRECT,),
    f"ip link set {NAME} down": (IFB,),
    f"ip link set {NAME} mtu 1500": (IFB,),
    f"ip link del {NAME}": (IFB, OUT, REDIRECT),
}


def test_check_names_what_is_damaged_and_settle_puts_it_back(
    kernel: Kernel, world: World, pod: int
) -> None:
    del pod
    for damage, objects in DAMAGES.items():
        world.run(*damage.split())

        found = [difference.object for difference in kernel.check(SHAPED, None)]
        kernel.settle(SHAPED, SHAPED, {}, alias=ALIAS)

        assert found == list(objects), damage
        assert kernel.check(SHAPED, None) == (), damage
    assert kernel.links()[NAME].alias == ALIAS


def test_a_different_rate_is_told(kernel: Kernel, world: World, pod: int) -> None:
    del pod
    world.run(*f"tc qdisc change dev {LINK} root tbf rate 9mbit burst 36864 ".split(),
              "limit", "57768")  # fmt: skip

    (difference,) = kernel.check(SHAPED, None)

    other = canonical(evolve(INTO, rate=1_125_000, burst=36864))
    assert difference == Difference(INTO, str(other))


def test_an_entry_of_its_own_leaves_the_link_as_it_was(
    kernel: Kernel, world: World
) -> None:
    netns = world.pod("a")
    kernel.apply(flat_pod(), netns, ALIAS)
    before = world.snapshot()

    kernel.apply(SHAPED, None, ALIAS)
    shaped_picture = world.snapshot()
    wrong = kernel.remove(SHAPED, None)
    buried = [link for link in kernel.links().values() if link.group in GRAVES]
    kernel.reap()

    assert wrong == ()
    assert [(link.kind, link.up) for link in buried] == [("ifb", False)]
    assert shaped_picture != before
    assert world.snapshot() == before
    assert kernel.remove(SHAPED, None) == ()


def test_removing_spares_what_somebody_else_has_put_in_its_place(
    kernel: Kernel, world: World, pod: int
) -> None:
    del pod
    world.run(*f"tc qdisc replace dev {LINK} root pfifo limit 7".split())
    world.run("ip", "link", "del", NAME)
    world.run("ip", "link", "add", NAME, "type", "ifb")

    assert kernel.remove(SHAPED, None) == ()

    assert f"dev {LINK} root refcnt 2 limit 7p" in world.run("tc", "qdisc")
    assert NAME in kernel.links()


@pytest.mark.parametrize(
    ("theirs", "wanted"),
    [
        (f"tc qdisc add dev {LINK} root pfifo", INTO),
        (f"tc qdisc add dev {LINK} root tbf rate 1mbit burst 9999 limit 9999", INTO),
        (f"tc qdisc add dev {LINK} clsact", INGRESS),
        (f"ip link add {NAME} type ifb", IFB),
    ],
)
def test_what_somebody_else_has_there_is_never_replaced(
    kernel: Kernel, world: World, theirs: str, wanted: Object
) -> None:
    netns = world.pod("a")
    kernel.apply(flat_pod(), netns, ALIAS)
    world.run(*theirs.split())
    before = world.snapshot()

    with pytest.raises(ForeignObjectError, match=str(wanted.key[2])):
        kernel.apply(SHAPED, None, ALIAS)

    assert world.snapshot() == before


def test_an_equal_qdisc_of_somebody_else_is_used_and_named(
    kernel: Kernel, world: World
) -> None:
    netns = world.pod("a")
    kernel.apply(flat_pod(), netns, ALIAS)
    world.run(*f"tc qdisc add dev {LINK} root tbf rate 8mbit burst 32768 ".split(),
              "limit", "57768")  # fmt: skip

    assert kernel.apply(SHAPED, None, ALIAS) == (INTO,)


@pytest.mark.parametrize(
    ("rate", "burst", "limit"),
    [
        (1, 274, 65536),
        (125, 32768, 32771),
        (125_000_000, 625_000, 3_750_000),
        (10**13, 2**32 - 1, 2**32 - 1),
        (123_457, 54_321, 99_999),
    ],
)
def test_the_kernel_keeps_what_was_asked_at_every_rate(
    kernel: Kernel, world: World, rate: int, burst: int, limit: int
) -> None:
    kernel.apply(flat_pod(), world.pod("a"))
    wanted = Qdisc(link=LINK, discipline="tbf", rate=rate, burst=burst, limit=limit)

    kernel.apply((wanted,), None)

    assert kernel.check((wanted,), None) == ()


def test_shaping_of_a_link_that_is_gone_is_named(kernel: Kernel, world: World) -> None:
    before = world.snapshot()

    with pytest.raises(KernelError, match=f"there is no link {LINK}"):
        kernel.apply(SHAPED, None)

    assert world.snapshot() == before
    assert [d.object for d in kernel.check(SHAPED, None)] == list(SHAPED)
