from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from eniplug.core.kernel.attributes import attribute, attributes, chosen, nest

pairs = st.lists(
    st.tuples(st.integers(0, 0x3FFF), st.binary(max_size=9)),
    unique_by=lambda pair: pair[0],
)


@given(pairs, st.binary(max_size=8))
def test_attributes_come_back_as_they_were_packed(
    packed: list[tuple[int, bytes]], before: bytes
) -> None:
    data = before + b"".join(attribute(*one) for one in packed)

    assert attributes(data, len(before)) == packed


@given(pairs, st.sets(st.integers(0, 0x3FFF)))
def test_the_chosen_ones_are_those_of_all(
    packed: list[tuple[int, bytes]], more: set[int]
) -> None:
    data = b"".join(attribute(*one) for one in packed)
    wanted = more | {kind for kind, _ in packed[::2]}

    expected = {kind: value for kind, value in packed if kind in wanted}
    assert chosen(data, 0, wanted) == expected


def test_a_nested_one_is_found_by_its_number_without_the_flag() -> None:
    data = nest(18, attribute(1, b"veth\0"))

    assert chosen(data, 0, {18}) == dict(attributes(data))
    assert chosen(data, 0, {18}).keys() == {18}


def test_what_is_cut_off_or_has_no_length_ends_it() -> None:
    whole = attribute(1, b"abcd")

    for rest in (b"\5", b"\5\0\2", bytes(8)):
        assert attributes(whole + rest) == [(1, b"abcd")]
        assert chosen(whole + rest, 0, {0, 1, 2}) == {1: b"abcd"}
