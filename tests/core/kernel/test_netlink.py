from __future__ import annotations

import errno
from ipaddress import ip_network

import pytest

from eniplug.core.kernel import encode, encode_links, uapi
from eniplug.core.kernel.netlink import AT_ONCE, Message, NetlinkError, Socket
from eniplug.hooks import Route
from kit.nodes import GATEWAY, World

pytestmark = pytest.mark.root

LO_UP = encode_links.set_link(1, "up", 1)
NO_LINK = encode_links.set_link(0x7FFFFFF0, "up", 1)


def test_refusals_are_told_by_position_and_the_rest_is_done(world: World) -> None:
    with Socket() as socket:
        refused = socket.send(
            [NO_LINK, encode_links.set_link(1, "mtu", 1600), NO_LINK, LO_UP]
        )

    assert {at: error.errno for at, error in refused.items()} == {
        0: errno.ENODEV,
        2: errno.ENODEV,
    }
    assert world.ip("link", "show", "lo")[0]["mtu"] == 1600


def test_a_refused_last_message_is_told_too(world: World) -> None:
    del world
    with Socket() as socket:
        assert list(socket.send([LO_UP, NO_LINK])) == [1]
        assert socket.send([LO_UP]) == {}
        assert socket.send([]) == {}


def test_a_batch_may_be_refused_whole_however_long_it_is(world: World) -> None:
    del world
    many = 40 * AT_ONCE + 1

    with Socket() as socket:
        refused = socket.send([NO_LINK] * many)

    assert list(refused) == list(range(many))


def test_an_error_has_the_kernels_own_words(world: World) -> None:
    del world
    route = Route(destination=ip_network("10.0.0.0/8"), link="lo", src=GATEWAY)

    with Socket() as socket:
        (error,) = socket.send([encode.create(route, lambda _: 1)]).values()

    assert error.errno == errno.EINVAL
    assert error.words == "Invalid argument (Invalid prefsrc address)"


def test_one_thing_is_asked_for_and_absence_is_an_error(world: World) -> None:
    del world
    with Socket() as socket:
        assert b"lo\0" in socket.get(encode_links.look_link("lo"))
        with pytest.raises(NetlinkError) as caught:
            socket.get(encode_links.look_link("none"))

    assert caught.value.errno == errno.ENODEV


def test_a_refused_dump_is_an_error_and_the_socket_still_works(world: World) -> None:
    del world
    wrong = Message(uapi.RTM_GETROUTE, 0, b"\2" + b"\xff" * 11)

    with Socket() as socket:
        with pytest.raises(NetlinkError):
            socket.dump(wrong)
        assert len(socket.dump(encode_links.LOOK_LINKS)) == 1
